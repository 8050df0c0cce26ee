package testkit_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"erlmcp.dev/shared/testkit"
)

func TestMain(m *testing.M) {
	if os.Getenv("TESTKIT_CHILD") != "" {
		child()
		return
	}
	goleak.VerifyTestMain(m)
}

func connect(t testing.TB, address string) *redis.Client {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: address, MaxRetries: -1, DialerRetries: 1, ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func TestEachCallerHasARedisOfItsOwn(t *testing.T) {
	one, two := testkit.Redis(t), testkit.Redis(t)
	if one == two {
		t.Fatalf("both callers got %s", one)
	}
	if err := connect(t, one).Set(t.Context(), "key", "value", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if size, err := connect(t, two).DBSize(t.Context()).Result(); err != nil || size != 0 {
		t.Fatalf("the second server has %d keys, error %v", size, err)
	}
}

func TestARedisEndsWithItsTest(t *testing.T) {
	var address string
	t.Run("user", func(t *testing.T) { address = testkit.Redis(t) })
	if conn, err := net.Dial("tcp", address); err == nil {
		conn.Close()
		t.Fatalf("%s still answers", address)
	}
}

func TestEachCallerHasADatabaseOfItsOwn(t *testing.T) {
	for range 2 { // the second would meet the table of the first
		conn := query(t, testkit.Postgres(t))
		if _, err := conn.Exec(t.Context(), "CREATE TABLE thing (id int)"); err != nil {
			t.Fatal(err)
		}
	}
}

func query(t testing.TB, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func TestAKilledRedisKeepsAddressAndData(t *testing.T) {
	dir := t.TempDir()
	server, err := testkit.StartRedis(t.Context(), dir, "--appendonly", "yes", "--appendfsync", "always")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	address := server.Address()
	if err := connect(t, address).Set(t.Context(), "key", "value", 0).Err(); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	if err := connect(t, address).Ping(t.Context()).Err(); err == nil {
		t.Fatal("a killed server answers")
	}
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if server.Address() != address {
		t.Fatalf("it moved from %s to %s", address, server.Address())
	}
	if value, err := connect(t, address).Get(t.Context(), "key").Result(); value != "value" {
		t.Fatalf("got %q, error %v", value, err)
	}
}

func TestAKilledPostgresKeepsWhatItCommitted(t *testing.T) {
	server, err := testkit.StartPostgres(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	if _, err := query(t, server.DSN()).Exec(t.Context(), "CREATE TABLE thing AS SELECT 7 AS id"); err != nil {
		t.Fatal(err)
	}
	for _, prepare := range []func(){func() {}, server.Pause} {
		prepare()
		server.Kill()
		if err := server.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var id int
	if err := query(t, server.DSN()).QueryRow(t.Context(), "SELECT id FROM thing").Scan(&id); err != nil || id != 7 {
		t.Fatalf("got %d, error %v", id, err)
	}
}

func TestAPausedServerAnswersNothingUntilItIsResumed(t *testing.T) {
	rds, err := testkit.StartRedis(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer rds.Stop()
	pg, err := testkit.StartPostgres(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer pg.Stop()
	client := connect(t, rds.Address())
	dsn := pg.DSN()
	open := query(t, dsn)

	rds.Pause()
	pg.Pause()
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := client.Do(short, "PING").Err(); err == nil {
		t.Error("a paused Redis answers")
	}
	// A connection that is open is served by a child of the server: it must be frozen as well.
	other, cancelOther := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancelOther()
	if err := open.Ping(other); err == nil {
		t.Error("a paused Postgres answers")
	}
	rds.Resume()
	pg.Resume()
	if err := client.Ping(t.Context()).Err(); err != nil {
		t.Errorf("resumed Redis: %v", err)
	}
	if err := query(t, dsn).Ping(t.Context()); err != nil {
		t.Errorf("resumed Postgres: %v", err)
	}
}

func TestAPausedServerCanBeStopped(t *testing.T) {
	server, err := testkit.StartRedis(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	server.Pause()
	server.Stop()
	server.Stop()
}

func TestAServerThatCannotRunSaysWhy(t *testing.T) {
	_, err := testkit.StartRedis(t.Context(), "", "--no-such-option", "1")
	if err == nil || !strings.Contains(err.Error(), "no-such-option") {
		t.Fatalf("got %v", err)
	}
}

// child runs in a process of its own: it starts both servers, tells of them and waits to be killed.
func child() {
	rds, err := testkit.StartRedis(context.Background(), "")
	if err == nil {
		var pg *testkit.Server
		if pg, err = testkit.StartPostgres(context.Background(), ""); err == nil {
			pg.Pause() // a frozen one must go too
			fmt.Println(rds.PID(), pg.PID())
			_, _ = io.Copy(io.Discard, os.Stdin)
		}
	}
	fmt.Println(err)
}

func TestServersEndWithAKilledProcess(t *testing.T) {
	temporary, err := os.MkdirTemp("", "testkit")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(temporary)
	if err := os.Chmod(temporary, 0o777); err != nil { // for the Postgres of root, who is another user
		t.Fatal(err)
	}
	process := exec.Command(os.Args[0])
	process.Env = append(os.Environ(), "TESTKIT_CHILD=1", "TMPDIR="+temporary)
	stdin, err := process.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	var redisPID, postgresPID int
	_, scanErr := fmt.Fscan(stdout, &redisPID, &postgresPID)
	_ = process.Process.Kill()
	_ = process.Wait()
	if scanErr != nil {
		t.Fatal(scanErr)
	}
	testkit.Eventually(t, func() error {
		for _, pid := range []int{redisPID, postgresPID} {
			if syscall.Kill(pid, 0) == nil {
				return errors.New("process " + strconv.Itoa(pid) + " lives")
			}
		}
		if left, _ := filepath.Glob(filepath.Join(temporary, "erlmcp-*")); len(left) > 0 {
			return fmt.Errorf("left behind: %v", left)
		}
		return nil
	}, 15*time.Second)
}

func TestEventuallyWaitsForEitherKindOfCheck(t *testing.T) {
	calls := 0
	testkit.Eventually(t, func() bool { calls++; return calls == 3 }, time.Second)
	testkit.Eventually(t, func() error {
		if calls++; calls < 6 {
			return errors.New("not yet")
		}
		return nil
	}, time.Second)
	if calls != 6 {
		t.Fatalf("%d calls", calls)
	}
}

func TestEventuallyFailsWithTheLastError(t *testing.T) {
	fake := &failure{TB: t}
	func() {
		defer func() { _ = recover() }()
		testkit.Eventually(fake, func() error { return errors.New("the reason") }, time.Millisecond)
	}()
	if !strings.Contains(fake.said, "the reason") {
		t.Fatalf("it said %q", fake.said)
	}
}

// failure catches what a failing test says.
type failure struct {
	testing.TB
	said string
}

func (f *failure) Fatalf(format string, args ...any) {
	f.said = fmt.Sprintf(format, args...)
	panic(f.said)
}

func TestALoggerOutlivesItsTest(t *testing.T) {
	var late func()
	t.Run("user", func(t *testing.T) {
		logger := testkit.Logger(t)
		logger.Info("in time")
		late = func() { logger.Info("too late") }
	})
	late() // t.Log would panic
}
