package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"erlmcp.dev/shared/testkit"
)

// RedisKind is an installation of Redis that outlives one of its servers.
type RedisKind string

// Kinds of Redis.
const (
	// RedisSingle is one server.
	RedisSingle RedisKind = ""
	// RedisSentinel is a primary, a replica and three sentinels.
	RedisSentinel RedisKind = "sentinel"
	// RedisCluster is a Redis Cluster of three primaries with a replica each.
	RedisCluster RedisKind = "cluster"
)

// How soon a server counts as down.
const downAfter = "1000" // ms

// RedisSet is a Redis of several servers.
type RedisSet struct {
	Kind      RedisKind
	Servers   []*testkit.Server
	Sentinels []*testkit.Server

	dirs []string
}

// StartRedisSet starts a Redis of several servers, and returns when it would survive the death of one.
func StartRedisSet(ctx context.Context, kind RedisKind) (*RedisSet, error) {
	s := &RedisSet{Kind: kind}
	var err error
	switch kind {
	case RedisSentinel:
		err = s.startSentinels(ctx)
	case RedisCluster:
		err = s.startCluster(ctx)
	default:
		err = fmt.Errorf("%q is no Redis of several servers", kind)
	}
	if err != nil {
		s.Stop()
		return nil, fmt.Errorf("start Redis (%s): %w", kind, err)
	}
	return s, nil
}

// Stop ends all servers.
func (s *RedisSet) Stop() {
	for _, server := range append(s.Sentinels, s.Servers...) {
		server.Stop()
	}
	for _, dir := range s.dirs {
		_ = os.RemoveAll(dir)
	}
}

// env is how erlmcp is told of it.
func (s *RedisSet) env() []string {
	servers := s.Servers
	if s.Kind == RedisSentinel {
		servers = s.Sentinels
	}
	var hosts []string
	for _, server := range servers {
		hosts = append(hosts, server.Address())
	}
	return []string{"REDIS_MODE=" + string(s.Kind), "REDIS_HOST=" + strings.Join(hosts, ","), "REDIS_MASTER=main"}
}

func (s *RedisSet) start(ctx context.Context, args ...string) (*testkit.Server, error) {
	server, err := testkit.StartRedis(ctx, "", args...)
	if err == nil {
		s.Servers = append(s.Servers, server)
	}
	return server, err
}

func (s *RedisSet) startSentinels(ctx context.Context) error {
	primary, err := s.start(ctx)
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(primary.Address())
	if err != nil {
		return err
	}
	if _, err := s.start(ctx, "--replicaof", "127.0.0.1 "+port); err != nil {
		return err
	}
	if err := until(ctx, primary, func(ctx context.Context, c *redis.Client) error {
		return has(c.Info(ctx, "replication"), "state=online")
	}); err != nil {
		return err
	}
	for range 3 {
		dir, err := os.MkdirTemp("", "erlmcp-sentinel-")
		if err != nil {
			return err
		}
		s.dirs = append(s.dirs, dir)
		conf := filepath.Join(dir, "sentinel.conf")
		text := "sentinel monitor main 127.0.0.1 " + port + " 2\nsentinel down-after-milliseconds main " + downAfter + "\nsentinel failover-timeout main 5000\n"
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			return err
		}
		sentinel, err := testkit.StartSentinel(ctx, dir, conf)
		if err != nil {
			return err
		}
		s.Sentinels = append(s.Sentinels, sentinel)
	}
	for _, sentinel := range s.Sentinels { // each knows the replica and the others
		if err := until(ctx, sentinel, func(ctx context.Context, c *redis.Client) error {
			return has(c.Info(ctx, "sentinel"), "slaves=1,sentinels=3")
		}); err != nil {
			return err
		}
	}
	return nil
}

func (s *RedisSet) startCluster(ctx context.Context) error {
	const primaries = 3
	for range 2 * primaries {
		if _, err := s.start(ctx, "--cluster-enabled", "yes", "--cluster-node-timeout", downAfter); err != nil {
			return err
		}
	}
	host, port, err := net.SplitHostPort(s.Servers[0].Address())
	if err != nil {
		return err
	}
	for i, server := range s.Servers {
		if err := ask(ctx, server, func(c *redis.Client) error {
			if i < primaries {
				if err := c.ClusterAddSlotsRange(ctx, 16384*i/primaries, 16384*(i+1)/primaries-1).Err(); err != nil {
					return err
				}
			}
			return errors.Join(c.Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err(), c.ClusterMeet(ctx, host, port).Err())
		}); err != nil {
			return err
		}
	}
	for _, server := range s.Servers {
		if err := until(ctx, server, func(ctx context.Context, c *redis.Client) error {
			return has(c.ClusterInfo(ctx), "cluster_known_nodes:6")
		}); err != nil {
			return err
		}
	}
	for i, replica := range s.Servers[primaries:] {
		var id string
		if err := ask(ctx, s.Servers[i], func(c *redis.Client) (err error) {
			id, err = c.Do(ctx, "CLUSTER", "MYID").Text()
			return err
		}); err != nil {
			return err
		}
		if err := until(ctx, replica, func(ctx context.Context, c *redis.Client) error { return c.ClusterReplicate(ctx, id).Err() }); err != nil {
			return err
		}
	}
	for _, server := range s.Servers {
		if err := until(ctx, server, func(ctx context.Context, c *redis.Client) error {
			nodes, err := c.ClusterNodes(ctx).Result()
			if err == nil && strings.Count(nodes, "slave ") != primaries {
				err = errors.New("not all replicas are known: " + nodes)
			}
			return errors.Join(err, has(c.ClusterInfo(ctx), "cluster_state:ok"))
		}); err != nil {
			return err
		}
	}
	for _, server := range s.Servers[:primaries] {
		if err := until(ctx, server, func(ctx context.Context, c *redis.Client) error {
			return has(c.Info(ctx, "replication"), "state=online")
		}); err != nil {
			return err
		}
	}
	return nil
}

// Primary is the server that has a key now. Its death is what is to be survived.
func (s *RedisSet) Primary(ctx context.Context, key string) (*testkit.Server, error) {
	for _, server := range s.Servers {
		err := ask(ctx, server, func(c *redis.Client) error {
			if err := has(c.Info(ctx, "replication"), "role:master"); err != nil {
				return err
			}
			return c.Exists(ctx, key).Err() // refused where the key's slot is another's
		})
		if err == nil {
			return server, nil
		}
	}
	return nil, fmt.Errorf("no server has the key %s", key)
}

func has(answer *redis.StringCmd, text string) error {
	got, err := answer.Result()
	if err == nil && !strings.Contains(got, text) {
		err = fmt.Errorf("not yet %q", text)
	}
	return err
}

func ask(ctx context.Context, server *testkit.Server, question func(c *redis.Client) error) error {
	c := redis.NewClient(&redis.Options{Addr: server.Address(), MaxRetries: -1})
	defer c.Close()
	return question(c)
}

// until asks until there is no error or ctx ends.
func until(ctx context.Context, server *testkit.Server, question func(ctx context.Context, c *redis.Client) error) error {
	for {
		err := ask(ctx, server, func(c *redis.Client) error { return question(ctx, c) })
		if err == nil {
			return nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}
