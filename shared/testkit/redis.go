package testkit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Redis starts a redis-server for this test alone and returns its "127.0.0.1:port". It is empty, keeps
// nothing on disk, and ends with the test. A server for each caller costs some ten milliseconds and lets
// tests run in parallel, count all keys and stop the server as they like.
func Redis(t testing.TB) string {
	t.Helper()
	server, err := StartRedis(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Kill() // an orderly end takes a tenth of a second, and there is nothing to keep
		server.Stop()
	})
	return server.Address()
}

// StartRedis starts a redis-server on a free port with its files in dir, or in a temporary directory where
// dir is empty, and returns when it serves. ctx bounds the start only. It persists nothing unless args,
// which are redis-server's own, say so ("--appendonly", "yes").
func StartRedis(ctx context.Context, dir string, args ...string) (*Server, error) {
	path, err := findRedis(ctx)
	if err != nil {
		return nil, err
	}
	return newServer(ctx, program{
		name: "redis",
		command: func(dir string, port int) []string {
			return append([]string{
				path, "--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", dir,
				"--save", "", "--appendonly", "no", "--daemonize", "no",
			}, args...)
		},
		ready:   redisReady,
		stop:    "TERM",
		abandon: "KILL",
		dsn:     func(address string) string { return "redis://" + address },
	}, dir)
}

// redisReady passes when the server on address serves and is process pid.
func redisReady(ctx context.Context, address string, pid int) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp4", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "INFO\r\n"); err != nil {
		return err
	}
	reader := bufio.NewReader(conn)
	head, err := reader.ReadString('\n')
	if err != nil {
		return err
	}
	if !strings.HasPrefix(head, "$") {
		if strings.HasPrefix(head, "-NOAUTH") { // a password was set with args: it serves
			return nil
		}
		return errors.New(strings.TrimSpace(head))
	}
	size, err := strconv.Atoi(strings.TrimSpace(head[1:]))
	if err != nil {
		return fmt.Errorf("not a Redis server: %w", err)
	}
	info := make([]byte, size)
	if _, err := io.ReadFull(reader, info); err != nil {
		return err
	}
	if !strings.Contains(string(info), fmt.Sprintf("process_id:%d\r\n", pid)) {
		return errors.New("another server has the port")
	}
	if strings.Contains(string(info), "\r\nloading:1\r\n") {
		return errors.New("it is loading its data")
	}
	return nil
}

// RedisCluster is as [Redis], but the server is a cluster of one node, which enforces a cluster's rules: a
// command or script whose keys lie in different slots fails.
func RedisCluster(t testing.TB) string {
	t.Helper()
	server, err := StartRedis(t.Context(), "", "--cluster-enabled", "yes", "--cluster-require-full-coverage", "no")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Kill()
		server.Stop()
	})
	conn, err := net.Dial("tcp4", server.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "CLUSTER ADDSLOTSRANGE 0 16383\r\n"); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(conn)
	if answer, err := reader.ReadString('\n'); err != nil || !strings.HasPrefix(answer, "+OK") {
		t.Fatalf("make a cluster of one node: %q, error %v", answer, err)
	}
	Eventually(t, func() bool { // it takes the slots at once and says so a little later
		if _, err := io.WriteString(conn, "GET {tag}\r\n"); err != nil {
			return false
		}
		answer, err := reader.ReadString('\n')
		return err == nil && answer == "$-1\r\n"
	}, 10*time.Second)
	return server.Address()
}

// StartSentinel is as [StartRedis] for a sentinel with the given configuration file, which it rewrites.
func StartSentinel(ctx context.Context, dir, conf string) (*Server, error) {
	path, err := findRedis(ctx)
	if err != nil {
		return nil, err
	}
	return newServer(ctx, program{
		name: "sentinel",
		command: func(dir string, port int) []string {
			return []string{path, conf, "--sentinel", "--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", dir, "--daemonize", "no"}
		},
		ready:   redisReady,
		stop:    "TERM",
		abandon: "KILL",
		dsn:     func(address string) string { return "redis://" + address },
	}, dir)
}
