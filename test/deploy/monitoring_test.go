package deploy

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/test/cluster"
)

const rules = "../../deploy/monitoring/prometheus/"

// Each alert fires and stays silent as its tests say, by Prometheus' own judgement.
func TestAlertsFireAndStaySilent(t *testing.T) {
	promtool := testkit.Program(t, "promtool", "prometheus")
	for _, args := range [][]string{{"check", "rules", "alerts.yml"}, {"test", "rules", "tests/alerts_test.yml"}} {
		command := exec.CommandContext(t.Context(), promtool, args...)
		command.Dir = rules
		if out, err := command.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// What a runbook says that the log says, it says: what stands there as code and is three words or more of prose is in a
// string of the program.
func TestRunbooksQuoteTheLog(t *testing.T) {
	var said strings.Builder
	literal := regexp.MustCompile(`"(?:[^"\\\n]|\\.)*"`)
	for _, module := range []string{"cmd", "gateway", "services", "shared"} {
		err := filepath.WalkDir("../../"+module, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			for _, l := range literal.FindAll(text, -1) {
				said.Write(append(l, '\n'))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	pages, err := filepath.Glob("../../docs/runbooks/*.md")
	if err != nil {
		t.Fatal(err)
	}
	quotes := 0
	prose := regexp.MustCompile(`^[a-z']+([,;]? [A-Za-z']+){2,}$`)
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, code := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(string(text), -1) {
			words := strings.Join(strings.Fields(code[1]), " ") // it may stand on two lines
			if !prose.MatchString(words) || strings.HasPrefix(words, "erlmcp ") {
				continue
			}
			if quotes++; !strings.Contains(said.String(), words) {
				t.Errorf("%s quotes %q, which nothing says", page, words)
			}
		}
	}
	if quotes < 5 {
		t.Errorf("only %d quotes were found", quotes)
	}
}

// Each alert is tested both ways, has a page that says what to do, and asks for metrics that exist.
func TestAlertsAreWhole(t *testing.T) {
	alerts, err := os.ReadFile(rules + "alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile(rules + "tests/alerts_test.yml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	erlmcp, err := cluster.Build(t.Context(), "erlmcp.dev/cmd/erlmcp", dir)
	if err != nil {
		t.Fatal(err)
	}
	_, scraped, err := cluster.RunUp(t, cluster.Erlmcp{Binary: erlmcp}).Get(t.Context(), "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(alerts), "- alert: ")[1:]
	if len(blocks) < 5 {
		t.Fatalf("%d alerts", len(blocks))
	}
	for _, block := range blocks {
		name, _, _ := strings.Cut(block, "\n")
		cases := strings.Split(string(tests), "alertname: "+name+"\n")[1:]
		fires, silent := false, false
		for _, c := range cases {
			if strings.HasPrefix(strings.TrimSpace(c), "exp_alerts: []") {
				silent = true
			} else {
				fires = true
			}
		}
		if !fires || !silent {
			t.Errorf("%s is not tested both ways", name)
		}
		page := regexp.MustCompile(`runbook_url: (\S+)`).FindStringSubmatch(block)
		if page == nil {
			t.Errorf("%s has no runbook", name)
			continue
		}
		if text, err := os.ReadFile(filepath.Join("../..", page[1])); err != nil || !strings.HasPrefix(string(text), "# "+name+"\n") {
			t.Errorf("%s: its page %s: %v", name, page[1], err)
		}
		for _, metric := range regexp.MustCompile(`erlmcp_[a-z_]+`).FindAllString(block, -1) {
			if !strings.Contains(scraped, "\n"+metric) {
				t.Errorf("%s asks for %s, which nobody has", name, metric)
			}
		}
	}
}
