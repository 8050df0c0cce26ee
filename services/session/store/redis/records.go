package redis

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	client "github.com/redis/go-redis/v9"

	"erlmcp.dev/services/session/store"
)

// statePrefix begins the fields of a record that are the owner's state.
const statePrefix = "s:"

// headFields are all other fields that a Session is made of.
var headFields = []string{
	"node", "epoch", "released", "principal", "version", "view", "capabilities", "info", "created", "used",
}

// recordFields are the names and values of a new record that create.lua does not set itself.
func recordFields(node string, record store.Record) []any {
	size := 0
	var state []any
	for name, value := range record.State {
		state = append(state, statePrefix+name, value)
		size += len(name) + len(value)
	}
	return append([]any{
		"node", node, "epoch", "1", "released", "0",
		"principal", record.Principal, "version", record.Version, "view", record.View,
		"capabilities", []byte(record.Capabilities), "info", []byte(record.ClientInfo),
		"sn", len(record.State), "sb", size,
	}, state...)
}

// session makes a Session of a record's fields. The owner's lease is not looked at.
func session(id string, fields map[string]string) store.Session {
	epoch, _ := strconv.ParseUint(fields["epoch"], 10, 64)
	found := store.Session{
		Record: store.Record{
			ID:           id,
			Principal:    fields["principal"],
			Version:      fields["version"],
			View:         fields["view"],
			Capabilities: raw(fields["capabilities"]),
			ClientInfo:   raw(fields["info"]),
			CreatedAt:    moment(fields["created"]),
			UsedAt:       moment(fields["used"]),
		},
		Owner: store.Owner{Node: fields["node"], Epoch: epoch, Released: fields["released"] == "1"},
	}
	for field, value := range fields {
		if name, ok := strings.CutPrefix(field, statePrefix); ok {
			if found.State == nil {
				found.State = make(map[string][]byte)
			}
			found.State[name] = []byte(value)
		}
	}
	return found
}

func raw(text string) json.RawMessage {
	if text == "" {
		return nil
	}
	return json.RawMessage(text)
}

func moment(milliseconds string) time.Time {
	n, _ := strconv.ParseInt(milliseconds, 10, 64)
	return time.UnixMilli(n)
}

// heads are the sessions of these ids without their state, in their order. Those that are gone are left out.
func (s *Store) heads(ctx context.Context, ids []string) ([]store.Session, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	pipe := s.client.Pipeline()
	commands := make([]*client.SliceCmd, len(ids))
	for i, id := range ids {
		commands[i] = pipe.HMGet(ctx, s.recordKey(id), headFields...)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, err
	}
	found := make([]store.Session, 0, len(ids))
	var nodes []string
	seen := make(map[string]bool)
	for i, command := range commands {
		fields := make(map[string]string, len(headFields))
		for at, value := range command.Val() {
			if text, ok := value.(string); ok {
				fields[headFields[at]] = text
			}
		}
		node, ok := fields["node"]
		if !ok {
			continue
		}
		found = append(found, session(ids[i], fields))
		if !seen[node] {
			seen[node] = true
			nodes = append(nodes, node)
		}
	}
	leases, err := s.addresses(ctx, nodes)
	if err != nil {
		return nil, err
	}
	for i := range found {
		owner := &found[i].Owner
		owner.Address, owner.Alive = leases[owner.Node]
	}
	return found, nil
}
