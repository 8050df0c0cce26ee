package testkit

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// shared is the server of this test binary: starting one takes too long to do it for each test, and a
// database of one's own keeps tests apart as well.
var shared struct {
	sync.Mutex
	server    *Server
	databases int
}

// Postgres makes an empty database for this test alone and returns its DSN. The database goes with the test,
// along with whatever is still connected to it. All databases of a test binary are on one private server,
// which starts with the first and ends with the binary.
func Postgres(t testing.TB) string {
	t.Helper()
	server, name := sharedPostgres(t)
	admin(t, server, "CREATE DATABASE "+name)
	t.Cleanup(func() { admin(t, server, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)") })
	return postgresDSN(server.Address(), name)
}

func sharedPostgres(t testing.TB) (server *Server, database string) {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.server == nil {
		started, err := StartPostgres(context.Background(), "")
		if err != nil {
			t.Fatal(err)
		}
		shared.server = started
	}
	shared.databases++
	return shared.server, "test_" + strconv.Itoa(shared.databases)
}

// admin runs one statement on the server's own database. It does not use the test's context, which is over
// when clean-up runs.
func admin(t testing.TB, server *Server, statement string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, server.DSN())
	if err != nil {
		t.Errorf("connect to the test's Postgres: %v", err)
		return
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, statement); err != nil {
		t.Errorf("%s: %v", statement, err)
	}
}

func postgresDSN(address, database string) string {
	return "postgres://postgres@" + address + "/" + database + "?sslmode=disable"
}

// StartPostgres starts a postgres on a free port with its data in dir, or in a temporary directory where dir
// is empty, and returns when it serves. The user is postgres, without a password. ctx bounds the start only.
// Commits are written before they are answered, so they outlive a kill; they are not synced to the disk, so
// they don't outlive a power failure. args are postgres' own. Postgres refuses to run as root: root's
// server runs as user postgres or nobody, who must be able to enter dir.
func StartPostgres(ctx context.Context, dir string, args ...string) (*Server, error) {
	bin, err := findPostgres(ctx)
	if err != nil {
		return nil, err
	}
	credential, err := postgresUser()
	if err != nil {
		return nil, err
	}
	return newServer(ctx, program{
		name: "postgres",
		user: credential,
		prepare: func(ctx context.Context, dir string) error {
			return prepareCluster(ctx, bin, dir, credential)
		},
		command: func(dir string, port int) []string {
			return append([]string{
				filepath.Join(bin, "postgres"), "-D", filepath.Join(dir, "data"), "-F",
				"-p", strconv.Itoa(port), "-h", "127.0.0.1", "-k", "",
				"-c", "full_page_writes=off", "-c", "max_connections=300", "-c", "dynamic_shared_memory_type=mmap",
				"-c", "shared_buffers=32MB",
			}, args...)
		},
		ready:   postgresReady,
		stop:    "INT",
		abandon: "QUIT", // at once, but it gives its shared memory back
		dsn:     func(address string) string { return postgresDSN(address, "postgres") },
	}, dir)
}

// postgresReady passes when the server on address serves and is process pid.
func postgresReady(ctx context.Context, address string, pid int) error {
	conn, err := pgx.Connect(ctx, postgresDSN(address, "postgres")+"&connect_timeout=2")
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var file string
	if err := conn.QueryRow(ctx, `SELECT pg_read_file('postmaster.pid')`).Scan(&file); err != nil {
		return err
	}
	if first, _, _ := strings.Cut(file, "\n"); first != strconv.Itoa(pid) {
		return fmt.Errorf("another server (process %s) has the port", first)
	}
	return nil
}

// postgresUser is whom the server runs as: nil, the present user, unless that is root.
func postgresUser() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		found, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(found.Uid, 10, 32)
		if err != nil {
			continue
		}
		gid, err := strconv.ParseUint(found.Gid, 10, 32)
		if err != nil {
			continue
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, fmt.Errorf("start postgres: it refuses to run as root, and there is no user postgres or nobody to run it as")
}

// prepareCluster fills dir/data by copying a cluster that was initialised once per version and user and kept
// in the cache: copying takes a tenth of the time. Data that are there stay as they are.
func prepareCluster(ctx context.Context, bin, dir string, as *syscall.Credential) error {
	data := filepath.Join(dir, "data")
	if _, err := os.Stat(filepath.Join(data, "PG_VERSION")); err == nil {
		return nil
	}
	version, err := exec.CommandContext(ctx, filepath.Join(bin, "postgres"), "--version").Output()
	if err != nil {
		return fmt.Errorf("ask postgres for its version: %w", err)
	}
	cache, err := cacheDir()
	if err != nil {
		return fmt.Errorf("initialise postgres: %w", err)
	}
	uid := os.Geteuid()
	if as != nil {
		uid = int(as.Uid)
	}
	kept := filepath.Join(cache, fmt.Sprintf("cluster-%s-%d", fileName(string(version)), uid))
	err = locked("postgres", func() error {
		if _, err := os.Stat(kept); err == nil {
			return nil
		}
		return initialise(ctx, bin, dir, kept, as)
	})
	if err != nil {
		return fmt.Errorf("initialise postgres: %w", err)
	}
	return run(exec.CommandContext(ctx, "cp", "-a", kept, data))
}

// initialise makes a cluster and puts it at kept in one step, so that a half-made one is never seen there.
func initialise(ctx context.Context, bin, dir, kept string, as *syscall.Credential) error {
	// Made in dir, where the server's user may write, then moved by way of a name beside kept.
	made := filepath.Join(dir, "initdb")
	initdb := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "-D", made, "-U", "postgres", "-A", "trust",
		"-E", "UTF8", "--locale=C", "--wal-segsize=1", "--no-sync")
	initdb.Dir = dir
	initdb.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	if err := run(initdb); err != nil {
		return err
	}
	defer os.RemoveAll(made)
	part := kept + ".part"
	if err := os.RemoveAll(part); err != nil {
		return err
	}
	if err := run(exec.CommandContext(ctx, "cp", "-a", made, part)); err != nil {
		return err
	}
	return os.Rename(part, kept)
}

// run runs a command and puts what it said into the error.
func run(command *exec.Cmd) error {
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(command.Path), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// fileName keeps of s what is safe and plain in a file's name.
func fileName(s string) string {
	fields := strings.FieldsFunc(s, func(r rune) bool {
		return !(r == '.' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z')
	})
	return strings.Join(fields, "-")
}
