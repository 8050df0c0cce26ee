package deploy

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// stoppedUsing is the line by which a migration says that a release neither reads nor writes a name any more.
var stoppedUsing = regexp.MustCompile(`(?m)^-- contract: (\d+\.\d+\.\d+) stopped using (\w+)$`)

// Migrations add what the next release needs, and take away only what a release before this one stopped using: the
// neighbour, which runs on the same tables, and a release that is rolled back find all that they know.
func TestMigrationsExpandOnly(t *testing.T) {
	files, err := filepath.Glob("../../services/*/store/*/migrations/*.sql")
	if err != nil || len(files) < 10 {
		t.Fatalf("%q, %v", files, err)
	}
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	release := regexp.MustCompile(`(?m)^VERSION \?= (\S+)$`).FindStringSubmatch(string(makefile))
	if release == nil {
		t.Fatal("the Makefile names no release")
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, broken := range contracts(string(text), release[1]) {
			t.Errorf("%s: the release before may still use what this takes away or demands: %s", strings.TrimPrefix(file, "../../"), broken)
		}
	}
}

// What the check refuses and lets pass.
func TestMigrationsThatTakeAwayAreRefused(t *testing.T) {
	for sql, refused := range map[string]bool{
		`CREATE TABLE a (b text NOT NULL)`:                                                 false,
		`CREATE TABLE a (b text NOT NULL); CREATE UNIQUE INDEX a_b ON a (b)`:               false,
		`CREATE TABLE a (b text NOT NULL); ALTER TABLE a ADD CONSTRAINT c CHECK (b <> '')`: false,
		`ALTER TABLE a ADD COLUMN b text NOT NULL DEFAULT ''`:                              false,
		`ALTER TABLE a ADD COLUMN b numeric(1, 2), ADD c text DEFAULT '' NOT NULL`:         false,
		`CREATE FUNCTION a() RETURNS void AS $$ BEGIN DROP TABLE old; END $$`:              false,
		`INSERT INTO a SELECT b FROM c -- which we DROP later`:                             false,
		`DROP TABLE a`:                                                    true,
		`drop index a`:                                                    true,
		`ALTER TABLE a DROP COLUMN b`:                                     true,
		`ALTER TABLE a RENAME TO b`:                                       true,
		`ALTER TABLE a RENAME COLUMN b TO c`:                              true,
		`ALTER TABLE a ADD COLUMN b text NOT NULL`:                        true,
		`ALTER TABLE a ADD b text DEFAULT '', ADD c text NOT NULL`:        true,
		`ALTER TABLE a ALTER COLUMN b SET NOT NULL`:                       true,
		`ALTER TABLE a ALTER b TYPE bigint`:                               true,
		`ALTER TABLE a ADD CONSTRAINT c CHECK (b <> '')`:                  true,
		`CREATE UNIQUE INDEX a_b ON a (b)`:                                true,
		`DELETE FROM a`:                                                   true,
		`TRUNCATE a`:                                                      true,
		"-- contract: 2.9.0 stopped using a\nDROP TABLE a":                false,
		"-- contract: 2.9.0 stopped using a\nALTER TABLE c DROP COLUMN a": false,
		"-- contract: 2.9.0 stopped using a\nDROP TABLE a; DROP TABLE b":  true,
		"-- contract: 3.0.0 stopped using a\nDROP TABLE a":                true,
		"-- contract: 2.9.0 stopped using a\nALTER TABLE a DROP COLUMN b": true,
		"-- contract: the release before stopped using a\nDROP TABLE a":   true,
		"CREATE TABLE a (b text);\n-- +goose Down\nDROP TABLE a":          false,
	} {
		if found := contracts("-- +goose Up\n"+sql+";\n", "3.0.0"); refused != (len(found) > 0) {
			t.Errorf("%s: refused for %q", sql, found)
		}
	}
}

var (
	takesAway = regexp.MustCompile(`(?i)\b(DROP|RENAME|TRUNCATE|DELETE\s+FROM)\b`)
	demands   = regexp.MustCompile(`(?i)\b(SET\s+NOT\s+NULL|ALTER\s+(COLUMN\s+)?\w+\s+(SET\s+DATA\s+)?TYPE|ADD\s+(CONSTRAINT|CHECK|UNIQUE|PRIMARY|FOREIGN)\b|CREATE\s+UNIQUE\s+INDEX)`)
	adds      = regexp.MustCompile(`(?i)\bADD\b.*\bNOT\s+NULL\b`)
	hasValue  = regexp.MustCompile(`(?i)\bDEFAULT\b`)
	made      = regexp.MustCompile(`(?i)\bCREATE\s+TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?(\w+)`)
	changed   = regexp.MustCompile(`(?i)\b(?:ALTER\s+TABLE\s+(?:IF\s+EXISTS\s+)?|\bON\s+)(\w+)`)
	last      = regexp.MustCompile(`(\w+)\W*$`)
)

// contracts are the statements of a migration's upper half that a release before may not survive. release is the one
// that the migration comes with.
func contracts(text, release string) (found []string) {
	up, _, _ := strings.Cut(text, "-- +goose Down")
	allowed := map[string]bool{}
	for _, m := range stoppedUsing.FindAllStringSubmatch(up, -1) {
		allowed[m[2]] = older(m[1], release)
	}
	up = regexp.MustCompile(`--[^\n]*`).ReplaceAllString(up, "")
	up = regexp.MustCompile(`(?s)\$\$.*?\$\$`).ReplaceAllString(up, "") // a function's body runs later
	up = regexp.MustCompile(`\s+`).ReplaceAllString(up, " ")
	here := map[string]bool{}
	for statement := range strings.SplitSeq(up, ";") {
		statement = strings.TrimSpace(statement)
		if m := made.FindStringSubmatch(statement); m != nil {
			here[m[1]] = true
		}
		table := changed.FindStringSubmatch(statement)
		for _, action := range actions(statement) {
			switch {
			case takesAway.MatchString(action):
				if m := last.FindStringSubmatch(action); m != nil && allowed[m[1]] {
					continue
				}
			case demands.MatchString(action), adds.MatchString(action) && !hasValue.MatchString(action):
				if table != nil && (here[table[1]] || allowed[table[1]]) {
					continue
				}
			default:
				continue
			}
			found = append(found, action)
		}
	}
	return found
}

// actions are the parts of a statement that commas outside of parentheses divide.
func actions(statement string) []string {
	depth, from := 0, 0
	var parts []string
	for i, c := range statement {
		switch c {
		case '(':
			depth++
		case ')':
			depth--
		case ',':
			if depth == 0 {
				parts = append(parts, statement[from:i])
				from = i + 1
			}
		}
	}
	return append(parts, statement[from:])
}

// older says whether a release came before another.
func older(a, b string) bool {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	for i := range x {
		if i >= len(y) || len(x[i]) != len(y[i]) {
			return i < len(y) && len(x[i]) < len(y[i])
		}
		if x[i] != y[i] {
			return x[i] < y[i]
		}
	}
	return false
}
