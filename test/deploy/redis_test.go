package deploy

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"erlmcp.dev/shared/testkit"
)

// What compose and the chart start as Redis gets the signal to stop, and so writes what it holds before it ends: as the
// container's first process a shell would get it instead, and wait until it is killed.
func TestRedisIsStoppedByTheSignalThatItsContainerGets(t *testing.T) {
	server := testkit.Program(t, "redis-server", "redis-server")
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("a-password\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"../../compose/docker-compose.yml", "../../deploy/helm/erlmcp/charts/redis/templates/_redis.tpl"} {
		t.Run(filepath.Base(path), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			dir := t.TempDir()
			socket := filepath.Join(dir, "socket")
			var out bytes.Buffer
			c := exec.CommandContext(ctx, "sh", "-c", strings.Replace(redisScript(t, path), "dir /data", "dir "+dir+"\nport 0\nunixsocket "+socket, 1))
			c.Env = append(os.Environ(), "PATH="+filepath.Dir(server)+":"+os.Getenv("PATH"), "REDIS_PASSWORD=a-password", "REDIS_PASSWORD_FILE="+password)
			c.Stdout, c.Stderr = &out, &out
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Process.Kill() })
			testkit.Eventually(t, func() error {
				conn, err := net.Dial("unix", socket)
				if err != nil {
					return err
				}
				defer conn.Close()
				if _, err := io.WriteString(conn, "PING\r\n"); err != nil {
					return err
				}
				answer, err := bufio.NewReader(conn).ReadString('\n')
				if err == nil && !strings.HasPrefix(answer, "-NOAUTH") {
					err = fmt.Errorf("without the password it answers %q", answer)
				}
				return err
			}, 20*time.Second)
			if err := c.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if err := c.Wait(); err != nil || !strings.Contains(out.String(), "User requested shutdown") {
				t.Errorf("%v\n%s", err, &out)
			}
			if _, err := os.Stat(filepath.Join(dir, "appendonlydir")); err != nil {
				t.Errorf("what clients write is not kept: %v", err)
			}
		})
	}
}

// redisScript is the script that starts Redis, out of a file of compose's or the chart's.
func redisScript(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?s)\n( +)(exec redis-server - <<CONFIG\n.*?\n +CONFIG\n)`).FindStringSubmatch(string(text))
	if found == nil {
		t.Fatalf("%s has no script that ends as redis-server", path)
	}
	return strings.ReplaceAll(strings.ReplaceAll(found[2], "\n"+found[1], "\n"), "$$", "$")
}
