package redisx_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"erlmcp.dev/shared/redisx"
	"erlmcp.dev/shared/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, settings redisx.Settings) redis.UniversalClient {
	t.Helper()
	client, err := redisx.New(settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func TestAURLReachesASingleServer(t *testing.T) {
	client := open(t, redisx.Settings{URL: "redis://" + testkit.Redis(t) + "/3"})
	if err := redisx.Ping(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	if err := client.Set(t.Context(), "key", "value", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if info, err := client.Info(t.Context(), "keyspace").Result(); err != nil || !strings.Contains(info, "db3:keys=1") {
		t.Fatalf("the key is not in database 3: %s %v", info, err)
	}
}

func TestAClusterIsReached(t *testing.T) {
	client := open(t, redisx.Settings{URL: "redis://" + testkit.RedisCluster(t) + "?mode=cluster"})
	if err := redisx.Ping(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"a", "b", "c"} {
		if err := client.Set(t.Context(), key, "value", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSentinelsFindTheServer(t *testing.T) {
	address := testkit.Redis(t)
	_, port, _ := strings.Cut(address, ":")
	dir := t.TempDir()
	conf := filepath.Join(dir, "sentinel.conf")
	if err := os.WriteFile(conf, []byte("sentinel monitor main 127.0.0.1 "+port+" 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	sentinel, err := testkit.StartSentinel(t.Context(), dir, conf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sentinel.Stop)
	client := open(t, redisx.Settings{Mode: redisx.Sentinel, Addresses: []string{sentinel.Address()}, Master: "main"})
	if err := redisx.Ping(t.Context(), client); err != nil {
		t.Fatal(err)
	}
}

func TestAPasswordFileIsReadAtEachConnection(t *testing.T) {
	server, err := testkit.StartRedis(t.Context(), "", "--requirepass", "first")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	file := filepath.Join(t.TempDir(), "password")
	write := func(password string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first")
	settings := redisx.Settings{Addresses: []string{server.Address()}, PasswordFile: file}
	client := open(t, settings)
	if err := client.ConfigSet(t.Context(), "requirepass", "second").Err(); err != nil {
		t.Fatal(err)
	}
	write("second")
	if err := redisx.Ping(t.Context(), open(t, settings)); err != nil {
		t.Fatal(err)
	}
	write("wrong")
	if err := redisx.Ping(t.Context(), open(t, settings)); err == nil {
		t.Fatal("a wrong password passes")
	}
}

func TestBadSettingsAreRefusedWithoutShowingThePassword(t *testing.T) {
	const secret = "verysecret"
	for name, settings := range map[string]redisx.Settings{
		"no scheme":         {URL: "u:" + secret + "@localhost:6379"},
		"another scheme":    {URL: "http://u:" + secret + "@localhost:6379"},
		"bad escape":        {URL: "redis://u:" + secret + "%zz@localhost:6379"},
		"bad port":          {URL: "redis://u:" + secret + "@localhost:port"},
		"empty host":        {URL: "redis://u:" + secret + "@one:1,,two:2?mode=cluster"},
		"bad database":      {URL: "redis://u:" + secret + "@localhost/first"},
		"unknown parameter": {URL: "redis://u:" + secret + "@localhost?color=red"},
		"unknown mode":      {URL: "redis://u:" + secret + "@localhost?mode=many"},
		"two single":        {URL: "redis://u:" + secret + "@one:1,two:2"},
		"cluster database":  {URL: "redis://u:" + secret + "@one:1/2?mode=cluster"},
		"no password file":  {PasswordFile: "/nonexistent/password", Password: secret},
	} {
		t.Run(name, func(t *testing.T) {
			client, err := redisx.New(settings)
			if err == nil {
				_ = client.Close()
				t.Fatal("accepted")
			}
			if strings.Contains(err.Error(), secret) {
				t.Fatalf("the error shows the password: %v", err)
			}
		})
	}
}

func TestACallToAFrozenServerEndsAtItsDeadline(t *testing.T) {
	server, err := testkit.StartRedis(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	client := open(t, redisx.Settings{URL: server.DSN(), Timeout: time.Minute})
	if err := redisx.Ping(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	server.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	if err := redisx.Ping(ctx, client); err == nil || time.Since(start) > 10*time.Second {
		t.Fatalf("after %v: %v", time.Since(start), err)
	}
}

var count = redisx.NewScript("count", "local function add(n) return redis.call('INCRBY', KEYS[1], n) end", "return add(ARGV[1])")

func TestScriptsRunBeforeAndAfterRedisForgetsThem(t *testing.T) {
	client := open(t, redisx.Settings{URL: "redis://" + testkit.Redis(t)})
	for want := int64(1); want < 3; want++ {
		got, err := count.Run(t.Context(), client, []string{"{a}:n"}, 1)
		if err != nil || got != want {
			t.Fatalf("got %v, error %v", got, err)
		}
		if err := client.ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
	calls := []redisx.Call{{Keys: []string{"{a}:n"}, Args: []any{1}}, {Keys: []string{"{b}:n"}, Args: []any{5}}}
	replies := count.RunAll(t.Context(), client, calls)
	for i, want := range []int64{3, 5} {
		if replies[i].Err != nil || replies[i].Value != want {
			t.Fatalf("reply %d: %v", i, replies[i])
		}
	}
}

func TestKeysOfDifferentSlotsAreRefused(t *testing.T) {
	client := open(t, redisx.Settings{URL: "redis://" + testkit.Redis(t)})
	if _, err := count.Run(t.Context(), client, []string{"{a}:n", "{b}:n"}, 1); err == nil || !strings.Contains(err.Error(), "hash tags") {
		t.Fatalf("got %v", err)
	}
	reply := count.RunAll(t.Context(), client, []redisx.Call{{Keys: []string{"{a}:n", "{b}:n"}, Args: []any{1}}})[0]
	if reply.Err == nil {
		t.Fatal("accepted")
	}
}

func TestTagIsTheFirstPairOfBraces(t *testing.T) {
	for key, want := range map[string]string{
		"plain": "plain", "a{b}c{d}": "b", "a{}b": "a{}b", "a{b": "a{b", "{x}:{y}": "x", "a}b{c}": "c",
	} {
		if got := redisx.Tag(key); got != want {
			t.Errorf("%q: got %q, want %q", key, got, want)
		}
	}
}
