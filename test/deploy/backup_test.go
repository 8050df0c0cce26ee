package deploy

import (
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/test/cluster"
)

// script runs one of deploy/scripts and returns what it printed.
func script(t *testing.T, env []string, name string, args ...string) (string, error) {
	t.Helper()
	return scriptIn(t, t.TempDir(), env, name, args...)
}

// scriptIn does so in a directory.
func scriptIn(t *testing.T, dir string, env []string, name string, args ...string) (string, error) {
	t.Helper()
	path, err := filepath.Abs("../../deploy/scripts/" + name)
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), path, args...)
	command.Dir = dir
	command.Env = append(os.Environ(), env...)
	out, err := command.CombinedOutput()
	return string(out), err
}

func runs(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	out, err := script(t, env, name, args...)
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return out
}

// refuses runs a script that must fail with a reason.
func refuses(t *testing.T, env []string, reason, name string, args ...string) {
	t.Helper()
	out, err := script(t, env, name, args...)
	if err == nil || !strings.Contains(out, reason) {
		t.Errorf("%s %q: %v, and not %q:\n%s", name, args, err, reason, out)
	}
}

// rows are all rows of all tables, as text.
func rows(t *testing.T, dsn string) map[string][]string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	texts := func(query string) (all []string) {
		found, err := conn.Query(t.Context(), query)
		if err != nil {
			t.Fatal(err)
		}
		if all, err = pgx.CollectRows(found, pgx.RowTo[string]); err != nil {
			t.Fatal(err)
		}
		return all
	}
	content := map[string][]string{}
	for kind, value := range map[string]string{"r": "to_jsonb(one)::text", "S": "last_value::text"} { // tables, sequences
		for _, name := range texts("SELECT relname::text FROM pg_class WHERE relkind = '" + kind + "' AND relnamespace = 'public'::regnamespace") {
			content[name] = texts("SELECT " + value + " FROM " + pgx.Identifier{name}.Sanitize() + " AS one ORDER BY 1")
		}
	}
	return content
}

func execute(t *testing.T, dsn, statement string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if _, err := conn.Exec(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}

func post(t *testing.T, url, body string) {
	t.Helper()
	response, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if answer, _ := io.ReadAll(response.Body); response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %s", url, response.StatusCode, answer)
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	answer, _ := io.ReadAll(response.Body)
	return string(answer)
}

func onlyFile(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %q, %v", pattern, found, err)
	}
	return found[0]
}

func TestARestoredClusterEqualsTheSavedOneRowByRowAndServes(t *testing.T) {
	c := cluster.RunCluster(t, cluster.Erlmcp{Binary: erlmcp}, cluster.Layout{Gateways: 1, Sessions: 1})
	api := "http://" + c.API.Address() + "/api/v1/"
	post(t, api+"servers", `{"name":"saved","grpc":{"target":"127.0.0.1:1"}}`)
	post(t, api+"keys", `{"principal":"ann"}`)
	testkit.Eventually(t, func() bool { return len(rows(t, c.Postgres.DSN())["metrics_audit"]) >= 2 }, 20*time.Second)

	dir := t.TempDir()
	pass := filepath.Join(dir, "passphrase")
	if err := os.WriteFile(pass, []byte("correct horse battery staple\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{"ERLMCP_DB_URL=" + c.Postgres.DSN(), "BACKUP_DIR=" + dir}
	runs(t, env, "backup-data.sh", "--to", filepath.Join(dir, "running")) // while everything goes on

	for _, node := range []*cluster.Node{c.Registry, c.Metrics} {
		if err := node.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	before := rows(t, c.Postgres.DSN())
	runs(t, env, "backup-data.sh", "--passphrase-file", pass)
	saved := onlyFile(t, filepath.Join(dir, "erlmcp-data-*.enc"))
	execute(t, c.Postgres.DSN(), "DROP SCHEMA public CASCADE; CREATE SCHEMA public; CREATE TABLE later (x int)")

	refuses(t, env, "give --yes", "restore-data.sh", saved, "--passphrase-file", pass)
	refuses(t, env, "is encrypted", "restore-data.sh", saved, "--yes")
	runs(t, env, "restore-data.sh", saved, "--passphrase-file", pass, "--dry-run")
	if diff := cmp.Diff(map[string][]string{"later": {}}, rows(t, c.Postgres.DSN())); diff != "" {
		t.Errorf("what was refused or a dry run changed something:\n%s", diff)
	}
	runs(t, env, "restore-data.sh", saved, "--passphrase-file", pass, "--yes")
	if diff := cmp.Diff(before, rows(t, c.Postgres.DSN())); diff != "" {
		t.Errorf("restored differs from saved:\n%s", diff)
	}

	for _, node := range []*cluster.Node{c.Registry, c.Metrics} {
		if err := node.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Eventually(t, func() bool {
		return strings.Contains(get(t, api+"servers"), `"saved"`) && strings.Contains(get(t, api+"keys"), `"ann"`)
	}, 20*time.Second)
	post(t, api+"servers", `{"name":"after","grpc":{"target":"127.0.0.1:1"}}`)
}

func TestADamagedBackupIsRefusedWithItsReason(t *testing.T) {
	dsn := testkit.Postgres(t)
	execute(t, dsn, "CREATE TABLE kept AS SELECT n, md5(n::text) FROM generate_series(1, 1000) AS n")
	before := rows(t, dsn)
	dir := t.TempDir()
	env := []string{"ERLMCP_DB_URL=" + dsn, "BACKUP_DIR=" + dir}
	runs(t, env, "backup-data.sh")
	saved := onlyFile(t, filepath.Join(dir, "erlmcp-data-*.tar.gz"))
	whole, err := os.ReadFile(saved)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, data []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	flipped := append([]byte(nil), whole...)
	flipped[len(flipped)/2] ^= 0xff
	refuses(t, env, "can't be unpacked", "restore-data.sh", "--yes", write("flipped", flipped))
	refuses(t, env, "can't be unpacked", "restore-data.sh", "--yes", write("short", whole[:len(whole)/2]))
	refuses(t, env, "is not there", "restore-data.sh", "--yes", filepath.Join(dir, "missing"))
	if err := os.WriteFile(saved, flipped, 0o600); err != nil {
		t.Fatal(err)
	}
	refuses(t, env, "its checksum is not the one", "restore-data.sh", "--yes", saved)

	right, wrong := write("right", []byte("correct horse\n")), write("wrong", []byte("battery staple\n"))
	runs(t, env, "backup-data.sh", "--passphrase-file", right)
	// One wrong passphrase in 256 decrypts, to what is no archive.
	refuses(t, env, "can't be ", "restore-data.sh", "--yes", onlyFile(t, filepath.Join(dir, "erlmcp-data-*.enc")), "--passphrase-file", wrong)

	// Packed anew around other content: the sums inside tell.
	inside := t.TempDir()
	for _, line := range []string{
		"tar -xzf " + filepath.Join(dir, "whole") + " -C " + inside,
		"echo more >> " + filepath.Join(inside, "README"),
		"tar -czf " + filepath.Join(dir, "forged") + " -C " + inside + " .",
	} {
		write("whole", whole)
		if out, err := exec.CommandContext(t.Context(), "sh", "-c", line).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", line, err, out)
		}
	}
	refuses(t, env, "is damaged inside: ./README: FAILED", "restore-data.sh", "--yes", filepath.Join(dir, "forged"))
	if diff := cmp.Diff(before, rows(t, dsn)); diff != "" {
		t.Errorf("a refused restore changed something:\n%s", diff)
	}
}

func TestOldBackupsAreForgottenButForTheNewest(t *testing.T) {
	dir := t.TempDir()
	work := t.TempDir()
	old := func(name string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		then := time.Now().Add(-32 * 24 * time.Hour)
		if err := os.Chtimes(path, then, then); err != nil {
			t.Fatal(err)
		}
	}
	old("erlmcp-config-20200101-000000.tar.gz")
	old("somebody-elses")
	if err := os.WriteFile(filepath.Join(work, ".env.prod"), []byte("A=1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := scriptIn(t, work, nil, "backup-config.sh", "--no-cluster", "--to", dir); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	saved := onlyFile(t, filepath.Join(dir, "erlmcp-config-*.tar.gz"))
	onlyFile(t, filepath.Join(dir, "somebody-elses"))
	info, err := os.Stat(saved)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	into := t.TempDir()
	runs(t, nil, "restore-config.sh", saved, "--into", into)
	if got, err := os.ReadFile(filepath.Join(into, ".env.prod")); string(got) != "A=1\n" {
		t.Errorf("%q, %v", got, err)
	}
	refuses(t, nil, "is there already", "restore-config.sh", saved, "--into", into)
}

// dockerExec stands for a docker that runs commands in a container with a read-only root, whose data directory is DATA.
const dockerExec = `
	case "$1 $2 $3 $4 $5" in
	*/tmp*) echo "Read-only file system" >&2; exit 1 ;;
	"exec erlmcp sh -c "*) ;;
	*) echo "unexpected: $*" >&2; exit 1 ;;
	esac
	ERLMCP_DATA_DIR=$DATA exec sh -c "$(printf %s "$5" | sed -e "s#/opt/erlmcp/bin/erlmcp#$ERLMCP#g" -e "s#/var/lib/erlmcp#$DATA#g")"`

func TestTheEmbeddedStoreIsSavedWhileItRunsAndServesWhenRestored(t *testing.T) {
	for _, from := range []string{"--data-dir", "--container"} {
		t.Run(from, func(t *testing.T) {
			home := t.TempDir()
			data := filepath.Join(home, "up", "data")
			source := map[string]string{"--data-dir": data, "--container": "erlmcp"}[from]
			first := cluster.RunUp(t, cluster.Erlmcp{Binary: erlmcp, Dir: home})
			api := "http://" + cluster.Address(first.Ports.API) + "/api/v1/servers"
			post(t, api, `{"name":"saved","grpc":{"target":"127.0.0.1:1"}}`)
			dir := t.TempDir()
			env := newStandIns(t, map[string]string{"docker": dockerExec}).with("ERLMCP="+erlmcp, "DATA="+data, "BACKUP_DIR="+dir)
			runs(t, env, "backup-data.sh", from, source)
			saved := onlyFile(t, filepath.Join(dir, "erlmcp-data-*.tar.gz"))
			if left, err := filepath.Glob(filepath.Join(data, ".backup*")); err != nil || len(left) > 0 {
				t.Errorf("the backup leaves %q behind, %v", left, err)
			}
			post(t, api, `{"name":"later","grpc":{"target":"127.0.0.1:1"}}`)
			if err := first.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(filepath.Join(data, "cluster-secret")); err != nil {
				t.Fatal(err)
			}
			runs(t, env, "restore-data.sh", saved, "--data-dir", data, "--yes")
			if _, err := os.Stat(filepath.Join(data, "cluster-secret")); err != nil {
				t.Errorf("the cluster's secret did not come back: %v", err)
			}
			if err := first.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			servers := get(t, "http://"+cluster.Address(first.Ports.API)+"/api/v1/servers")
			if !strings.Contains(servers, `"saved"`) || strings.Contains(servers, `"later"`) {
				t.Errorf("restored, there are %s", servers)
			}
		})
	}
}
