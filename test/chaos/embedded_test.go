package chaos

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/test/cluster"
)

// One process with its file is upgraded and rolled back too: this release opens and serves what the release before
// wrote, and the release before what this one wrote, even where the file has columns and migrations of a later one.
func TestTheFileOfOneProcessOutlivesAnUpgradeAndItsRollback(t *testing.T) {
	before, now := buildNeighbour(t), build(t)
	u := &upstream{count: map[string]int{}}
	tools := u.serve(t, &mcp.StreamableHTTPOptions{})
	home := t.TempDir()
	var written []string
	for _, release := range []struct{ name, binary string }{{"before", before}, {"now", now}, {"back", before}, {"again", now}} {
		n := cluster.RunUp(t, cluster.Erlmcp{Binary: release.binary, Dir: home})
		written = append(written, release.name)
		if err := ask(t.Context(), n, http.MethodPost, "servers", fmt.Sprintf(`{"name":%q,"http":{"url":%q}}`, release.name, tools)); err != nil {
			t.Fatalf("%s: %v", release.name, err)
		}
		if err := ask(t.Context(), n, http.MethodPut, "views/view-"+release.name, fmt.Sprintf(`{"name":"view-%s","servers":[%q]}`, release.name, release.name)); err != nil {
			t.Fatalf("%s: %v", release.name, err)
		}
		// What each release wrote is there and serves: servers, views, and the usage of their tools.
		for _, name := range written {
			testkit.Eventually(t, func() error {
				r, err := newRaw(t.Context(), n.URL("view-"+name), modernVersion)
				if err != nil {
					return err
				}
				_, err = r.call(t.Context(), name+"_read", arguments{Call: fmt.Sprintf("file%d", ids.Add(1))}, func(float64) {})
				return err
			}, 20*time.Second)
		}
		testkit.Eventually(t, func() error {
			return ask(t.Context(), n, http.MethodGet, "usage?by=DIMENSION_SERVER", "", written...)
		}, 20*time.Second)
		if err := n.Stop(t.Context()); err != nil {
			t.Fatalf("%s: %v", release.name, err)
		}
		widen(t, filepath.Join(home, "up", "data", "erlmcp.db"), len(written))
	}
}

// ask asks the API of a node for something, whose answer must hold all names.
func ask(ctx context.Context, n *cluster.Node, method, path, body string, names ...string) error {
	r, err := http.NewRequestWithContext(ctx, method, "http://"+cluster.Address(n.Ports.API)+"/api/v1/"+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s: %.200s", method, path, response.Status, text)
	}
	for _, name := range names {
		if !strings.Contains(string(text), `"`+name+`"`) {
			return fmt.Errorf("%s %s tells nothing of %s: %.300s", method, path, name, text)
		}
	}
	return nil
}

// widen does to a file what a later release's migrations may do: a column with a default in each table, and a
// migration on record that nobody here knows.
func widen(t *testing.T, file string, step int) {
	t.Helper()
	db, err := sql.Open("sqlite", file)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), `SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var tables []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		tables = append(tables, name)
	}
	if err := rows.Err(); err != nil || len(tables) < 8 {
		t.Fatalf("%q, %v", tables, err)
	}
	for _, name := range tables {
		statement := fmt.Sprintf(`ALTER TABLE %s ADD COLUMN later%d TEXT NOT NULL DEFAULT 'later'`, name, step)
		if strings.HasSuffix(name, "_goose_version") {
			statement = fmt.Sprintf(`INSERT INTO %s (version_id, is_applied) VALUES (%d, 1)`, name, 9000+step)
		}
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}
