package deploy

import (
	"path/filepath"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"erlmcp.dev/shared/testkit"
)

// kubectlExec stands for the kubectl of a cluster whose pod erlmcp-postgres-0 is this machine's Postgres. BREAK says
// what breaks off: the output of pg_restore, with an error or (quietly) without, or the input of psql.
const kubectlExec = `
	case $* in "--namespace erlmcp exec -i erlmcp-postgres-0 -- "*) ;; *) echo "unexpected: $*" >&2; exit 1 ;; esac
	shift 6
	case "$BREAK $*" in
	"pg_restore pg_restore "*) "$@" | head -n 60; exit 1 ;;
	"quietly pg_restore "*) "$@" | head -n 60 ;;
	"psql "*psql*) head -n 60 | "$@" ;;
	*) "$@" ;;
	esac`

// charts is a database that is reached as the one of the chart.
func charts(t *testing.T) (dsn string, stand standIns) {
	t.Helper()
	dsn = testkit.Postgres(t)
	at, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	stand = newStandIns(t, map[string]string{"kubectl": kubectlExec})
	stand.Env = append(stand.Env, "PGPORT="+strconv.Itoa(int(at.Port)), "POSTGRES_USER="+at.User, "POSTGRES_DB="+at.Database)
	execute(t, dsn, "CREATE TABLE kept AS SELECT n, md5(n::text) FROM generate_series(1, 1000) AS n; CREATE TABLE words AS SELECT 'CREATE SCHEMA public;' AS word")
	return dsn, stand
}

func TestTheChartsDatabaseIsRestoredAsItWasSaved(t *testing.T) {
	dsn, stand := charts(t)
	saved := rows(t, dsn)
	dir := t.TempDir()
	runs(t, stand.Env, "backup-data.sh", "--kubernetes", "--to", dir)
	execute(t, dsn, "DROP TABLE words; DELETE FROM kept WHERE n > 500; CREATE TABLE later (x int)")
	runs(t, stand.Env, "restore-data.sh", onlyFile(t, filepath.Join(dir, "erlmcp-data-*.tar.gz")), "--kubernetes", "--yes")
	if diff := cmp.Diff(saved, rows(t, dsn)); diff != "" {
		t.Errorf("restored differs from saved:\n%s", diff)
	}
}

func TestARestoreThatBreaksOffChangesNothing(t *testing.T) {
	dsn, stand := charts(t)
	dir := t.TempDir()
	runs(t, stand.Env, "backup-data.sh", "--kubernetes", "--to", dir)
	file := onlyFile(t, filepath.Join(dir, "erlmcp-data-*.tar.gz"))
	execute(t, dsn, "CREATE TABLE later (x int)")
	before := rows(t, dsn)
	for what, reason := range map[string]string{"pg_restore": "pg_restore failed", "quietly": "breaks off", "psql": "psql did not get all"} {
		refuses(t, stand.with("BREAK="+what), reason, "restore-data.sh", file, "--kubernetes", "--yes")
		if diff := cmp.Diff(before, rows(t, dsn)); diff != "" {
			t.Fatalf("where %s breaks off something was changed:\n%s", what, diff)
		}
	}
}
