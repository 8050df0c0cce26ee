package redis_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	client "github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"erlmcp.dev/services/session/store"
	"erlmcp.dev/services/session/store/redis"
	"erlmcp.dev/services/session/store/storetest"
	"erlmcp.dev/shared/redisx"
	"erlmcp.dev/shared/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func connect(t testing.TB, settings redisx.Settings) client.UniversalClient {
	t.Helper()
	c, err := redisx.New(settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func opened(t testing.TB, c client.UniversalClient, limits store.Limits) storetest.Opened {
	return storetest.Opened{
		Store: redis.New(redis.Config{Client: c, Limits: limits}),
		Left: func() int {
			size, err := c.DBSize(t.Context()).Result()
			if err != nil {
				t.Fatal(err)
			}
			return int(size)
		},
	}
}

func open(t testing.TB, limits store.Limits) storetest.Opened {
	return opened(t, connect(t, redisx.Settings{URL: "redis://" + testkit.Redis(t)}), limits)
}

func TestStore(t *testing.T) {
	t.Parallel() // beside the cluster's: both wait most of the time
	storetest.Run(t, open)
}

func TestStoreOnACluster(t *testing.T) {
	t.Parallel()
	// One for all, because a cluster takes seconds to start.
	settings := redisx.Settings{Mode: redisx.Cluster, Addresses: []string{testkit.RedisCluster(t)}}
	storetest.Run(t, func(t testing.TB, limits store.Limits) storetest.Opened {
		c := connect(t, settings)
		if err := c.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		return opened(t, c, limits)
	})
}

func BenchmarkStore(b *testing.B) { storetest.Bench(b, open) }

// lossy is a connection that can lose one answer: the command is done and the client sees the connection end.
type lossy struct {
	net.Conn
	lose *atomic.Bool
}

func (l lossy) Read(into []byte) (int, error) {
	n, err := l.Conn.Read(into)
	if err == nil && l.lose.CompareAndSwap(true, false) {
		_ = l.Conn.Close()
		return 0, io.EOF
	}
	return n, err
}

func TestALostAnswerRepeatsNothing(t *testing.T) {
	var lose atomic.Bool
	c := client.NewClient(&client.Options{
		Addr: testkit.Redis(t),
		Dialer: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			return lossy{Conn: conn, lose: &lose}, err
		},
		PipelinePoolSize: -1,
	})
	t.Cleanup(func() { _ = c.Close() })
	s := redis.New(redis.Config{Client: c})
	// The scripts are known to Redis first, so that each call below is one command.
	warm := func(id string) {
		t.Helper()
		if err := s.Create(t.Context(), "a", store.Record{ID: id, Principal: "p"}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Append(t.Context(), id, "a", 1, "x", []byte("first")); err != nil {
			t.Fatal(err)
		}
	}
	warm("one")

	lose.Store(true)
	if _, err := s.Append(t.Context(), "one", "a", 1, "x", []byte("second")); err != nil || lose.Load() {
		t.Fatalf("append: %v", err)
	}
	page, err := s.Read(t.Context(), "one", "x", 0, 0)
	if err != nil || len(page.Events) != 2 {
		t.Fatalf("read %v, error %v", page, err)
	}

	second, err := s.Claim(t.Context(), "one", "b", 1)
	if err != nil {
		t.Fatal(err)
	}
	lose.Store(true)
	if epoch, err := s.Claim(t.Context(), "one", "c", second); err != nil || epoch <= second {
		t.Fatalf("claim: epoch %d, error %v", epoch, err)
	}
	if lose.Load() {
		t.Fatal("no answer was lost")
	}
}

// The answer that a Create or Claim loses above may be that of its first command. Here it is the script's own.
func TestARepeatedScriptGivesTheSameReply(t *testing.T) {
	c := connect(t, redisx.Settings{URL: "redis://" + testkit.Redis(t)})
	c.AddHook(twice{})
	s := redis.New(redis.Config{Client: c})
	for _, id := range []string{"one", "two"} { // the first time Redis does not know the scripts
		if err := s.Create(t.Context(), "a", store.Record{ID: id, Principal: "p"}); err != nil {
			t.Fatalf("create: %v", err)
		}
		if _, err := s.Join(t.Context(), store.Node{Name: "n", Address: "n:1"}, time.Minute); err != nil {
			t.Fatalf("join: %v", err)
		}
		epoch, err := s.Claim(t.Context(), id, "b", 1)
		if err != nil || epoch <= 1 {
			t.Fatalf("claim: epoch %d, error %v", epoch, err)
		}
		first, err := s.Append(t.Context(), id, "b", epoch, "x", []byte("m"), []byte("n"))
		if err != nil || first == 0 {
			t.Fatalf("append: %d, error %v", first, err)
		}
		if page, err := s.Read(t.Context(), id, "x", 0, 0); err != nil || len(page.Events) != 2 {
			t.Fatalf("read: %v, error %v", page, err)
		}
		if err := s.Save(t.Context(), id, "b", epoch, store.Changes{Set: map[string][]byte{"k": []byte("v")}}); err != nil {
			t.Fatalf("save: %v", err)
		}
		if err := s.Release(t.Context(), id, "b", epoch); err != nil {
			t.Fatalf("release: %v", err)
		}
	}
}

// twice runs each script again and gives the second reply.
type twice struct{}

func (twice) DialHook(next client.DialHook) client.DialHook { return next }

func (twice) ProcessPipelineHook(next client.ProcessPipelineHook) client.ProcessPipelineHook {
	return next
}

func (twice) ProcessHook(next client.ProcessHook) client.ProcessHook {
	return func(ctx context.Context, command client.Cmder) error {
		err := next(ctx, command)
		if strings.HasPrefix(command.Name(), "eval") && err == nil {
			command.SetErr(nil)
			err = next(ctx, command)
		}
		return err
	}
}

func TestEveryScriptBeginsWithItsContract(t *testing.T) {
	files, err := filepath.Glob("lua/*.lua")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d scripts, error %v", len(files), err)
	}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if file == "lua/shared.lua" {
			continue
		}
		for _, line := range []string{"-- KEYS  ", "-- ARGV  ", "-- Reply "} {
			if !strings.HasPrefix(string(source), "-- ") || !strings.Contains(string(source), "\n"+line) {
				t.Errorf("%s does not say %q", file, line)
			}
		}
	}
}

type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

func TestAnUnreachableRedisIsNoAnswer(t *testing.T) {
	server, err := testkit.StartRedis(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	s := redis.New(redis.Config{Client: connect(t, redisx.Settings{URL: server.DSN()})})
	client.SetLogger(quiet{}) // the library tells of each connection that fails
	if err := s.Create(t.Context(), "a", store.Record{ID: "one", Principal: "p"}); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	_, err = s.Get(t.Context(), "one")
	if err == nil || errors.Is(err, store.ErrNotFound) {
		t.Fatalf("get: %v", err)
	}
	_, err = s.Claim(t.Context(), "one", "b", 1)
	if err == nil || errors.Is(err, store.ErrOwned) || errors.Is(err, store.ErrNotFound) {
		t.Fatalf("claim: %v", err)
	}
	lost, err := s.Touch(t.Context(), "a", []store.Hold{{ID: "one", Epoch: 1}})
	if err == nil || len(lost) > 0 {
		t.Fatalf("touch: lost %v, error %v", lost, err)
	}
	if err := s.Ready(t.Context()); err == nil {
		t.Fatal("it is ready")
	}
}
