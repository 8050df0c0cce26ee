package deploy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Postgres' programs are told where the database is as erlmcp reads it, and no password as an argument.
func TestTheDatabaseIsWhereErlmcpFindsIt(t *testing.T) {
	file := filepath.Join(t.TempDir(), "value")
	for name, row := range map[string]struct {
		env  []string
		file string // what the file holds that FILE in env stands for
		want []string
	}{
		"nothing set":            {nil, "", []string{"--dbname erlmcp", "PGHOST=localhost", "PGPORT=5432", "PGUSER=erlmcp"}},
		"parts":                  {[]string{"ERLMCP_DB_HOST=db", "ERLMCP_DB_PORT=5433", "ERLMCP_DB_NAME=x", "ERLMCP_DB_USER=u", "ERLMCP_DB_PASSWORD=p%40"}, "", []string{"--dbname x", "PGHOST=db", "PGPASSWORD=p%40", "PGPORT=5433", "PGUSER=u"}},
		"parts with TLS":         {[]string{"ERLMCP_DB_HOST=db", "ERLMCP_DB_SSLMODE=verify-full"}, "", []string{"--dbname erlmcp", "PGHOST=db", "PGPORT=5432", "PGSSLMODE=verify-full", "PGUSER=erlmcp"}},
		"password in a file":     {[]string{"ERLMCP_DB_HOST=db", "ERLMCP_DB_PASSWORD_FILE=FILE"}, "s3cret\n", []string{"--dbname erlmcp", "PGHOST=db", "PGPASSWORD=s3cret", "PGPORT=5432", "PGUSER=erlmcp"}},
		"URL without user":       {[]string{"ERLMCP_DB_URL=postgres://localhost:5432/erlmcp"}, "", []string{"--dbname postgres://localhost:5432/erlmcp"}},
		"URL with user":          {[]string{"ERLMCP_DB_URL=postgres://u@db:5432/erlmcp"}, "", []string{"--dbname postgres://u@db:5432/erlmcp"}},
		"URL and password":       {[]string{"ERLMCP_DB_URL=postgres://u@db/erlmcp", "ERLMCP_DB_PASSWORD=s3cret"}, "", []string{"--dbname postgres://u@db/erlmcp", "PGPASSWORD=s3cret"}},
		"URL and libpq's own":    {[]string{"ERLMCP_DB_URL=postgres://u@db/erlmcp", "PGPASSWORD=s3cret"}, "", []string{"--dbname postgres://u@db/erlmcp", "PGPASSWORD=s3cret"}},
		"URL with password":      {[]string{"ERLMCP_DB_URL=postgresql://u:p@db/erlmcp?sslmode=require", "ERLMCP_DB_PASSWORD=other"}, "", []string{"--dbname postgresql://u@db/erlmcp?sslmode=require", "PGPASSWORD=p"}},
		"URL with encoded parts": {[]string{"ERLMCP_DB_URL=postgres://a%40b:p%40ss%2Fw%3Ard%25@[::1]:5432/erlmcp"}, "", []string{"--dbname postgres://a%40b@[::1]:5432/erlmcp", "PGPASSWORD=p@ss/w:rd%"}},
		"URL with odd password":  {[]string{`ERLMCP_DB_URL=postgres://u:a:b\n%5C@c@db/erlmcp`}, "", []string{"--dbname postgres://u@db/erlmcp", `PGPASSWORD=a:b\n\@c`}},
		"URL with an @ later":    {[]string{"ERLMCP_DB_URL=postgres://db:5432/erlmcp?application_name=a:b@c"}, "", []string{"--dbname postgres://db:5432/erlmcp?application_name=a:b@c"}},
		"URL with a socket":      {[]string{"ERLMCP_DB_URL=postgres:///erlmcp?host=/run/postgresql"}, "", []string{"--dbname postgres:///erlmcp?host=/run/postgresql"}},
		"URL in a file":          {[]string{"ERLMCP_DB_URL_FILE=FILE"}, "postgres://u:p@db/erlmcp\n", []string{"--dbname postgres://u@db/erlmcp", "PGPASSWORD=p"}},
	} {
		t.Run(name, func(t *testing.T) {
			stand := newStandIns(t, map[string]string{"pg_dump": `
				{ echo "$1 $2"; env | grep -e '^PG[A-Z]*=.' | sort; } > "$TRACE"
				printf PGDMP`})
			if err := os.WriteFile(file, []byte(row.file), 0o600); err != nil {
				t.Fatal(err)
			}
			env := stand.with("BACKUP_DIR=" + t.TempDir())
			for _, one := range row.env {
				if variable, found := strings.CutSuffix(one, "=FILE"); found {
					one = variable + "=" + file
				}
				env = append(env, one)
			}
			runs(t, env, "backup-data.sh")
			if diff := cmp.Diff(row.want, stand.trace(t)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
