package redisx

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Script is a Lua script that runs in Redis, in one step. Its source lies in a .lua file that is embedded in the
// program and begins with its contract: keys, arguments, reply, and what it promises. It is safe for
// concurrent use.
//
// The client sends a script again when a connection broke, so a script may run twice for one call: make it
// give the same reply the second time, or let it know a call by a token.
type Script struct {
	name   string
	script *redis.Script
}

// NewScript makes a script of parts, which are joined: functions that several scripts use, then the script.
func NewScript(name string, parts ...string) *Script {
	return &Script{name: name, script: redis.NewScript(strings.Join(parts, "\n"))}
}

// Run runs the script. All keys must have the same hash tag.
func (s *Script) Run(ctx context.Context, client redis.UniversalClient, keys []string, args ...any) (any, error) {
	if err := s.sameSlot(keys); err != nil {
		return nil, err
	}
	reply, err := s.script.Run(ctx, client, keys, args...).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, fmt.Errorf("run script %s in Redis: %w", s.name, err)
	}
	return reply, nil
}

// Call is one run of a script among several.
type Call struct {
	Keys []string
	Args []any
}

// Reply is what a [Call] gave.
type Reply struct {
	Value any
	Err   error
}

// RunAll runs the script for each call, in one round trip to each server. The replies are in the calls' order;
// the runs have no order among themselves.
func (s *Script) RunAll(ctx context.Context, client redis.UniversalClient, calls []Call) []Reply {
	replies := make([]Reply, len(calls))
	commands := make([]*redis.Cmd, len(calls))
	pipe := client.Pipeline()
	for i, call := range calls {
		if replies[i].Err = s.sameSlot(call.Keys); replies[i].Err == nil {
			commands[i] = s.script.EvalSha(ctx, pipe, call.Keys, call.Args...)
		}
	}
	_, _ = pipe.Exec(ctx) // each command holds its own error
	for i, command := range commands {
		if command == nil {
			continue
		}
		value, err := command.Result()
		switch {
		case redis.HasErrorPrefix(err, "NOSCRIPT"):
			value, err = s.Run(ctx, client, calls[i].Keys, calls[i].Args...)
		case errors.Is(err, redis.Nil):
			err = nil
		case err != nil:
			err = fmt.Errorf("run script %s in Redis: %w", s.name, err)
		}
		replies[i] = Reply{Value: value, Err: err}
	}
	return replies
}

func (s *Script) sameSlot(keys []string) error {
	for _, key := range keys {
		if Tag(key) != Tag(keys[0]) {
			return fmt.Errorf("run script %s in Redis: keys %q and %q have different hash tags", s.name, keys[0], key)
		}
	}
	return nil
}

// Tag is the part of a key that decides its hash slot: what stands in its first pair of braces, unless that is
// empty, else the whole key.
func Tag(key string) string {
	if _, rest, found := strings.Cut(key, "{"); found {
		if tag, _, found := strings.Cut(rest, "}"); found && tag != "" {
			return tag
		}
	}
	return key
}
