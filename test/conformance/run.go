package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Check is one thing that a scenario looked at and that was not simply good.
type Check struct {
	ID     string `json:"id"`
	Status string `json:"status"`
	Error  string `json:"error,omitempty"`
}

// Scenario is what came of one scenario: how many of its checks passed, failed, were skipped or gave a warning.
type Scenario struct {
	Name     string  `json:"name"`
	Passed   int     `json:"passed"`
	Failed   int     `json:"failed"`
	Skipped  int     `json:"skipped"`
	Warnings int     `json:"warnings"`
	Open     []Check `json:"open,omitempty"` // the checks that failed or gave a warning
	// Known is the baseline's reason why this scenario may fail; empty when it may not.
	Known string `json:"known,omitempty"`
}

// Result is what came of one set.
type Result struct {
	Set       string     `json:"set"`
	Scenarios []Scenario `json:"scenarios"`
}

// Count adds up checks over the scenarios; known counts the failed ones that the baseline allows, which failed
// leaves out.
func (r Result) Count() (passed, failed, known, skipped, warnings int) {
	for _, s := range r.Scenarios {
		passed += s.Passed
		skipped += s.Skipped
		warnings += s.Warnings
		if s.Known != "" {
			known += s.Failed
		} else {
			failed += s.Failed
		}
	}
	return passed, failed, known, skipped, warnings
}

// Run runs one set against url and reads the outcome. The suite's own files and output go to a directory of the
// set's name in out. The error says that the suite could not be run to its end; failed checks are no error.
func (s *Suite) Run(ctx context.Context, set Set, url, out string) (Result, error) {
	dir := filepath.Join(out, strings.ReplaceAll(set.Name, " ", "-"))
	if err := os.RemoveAll(dir); err != nil {
		return Result{}, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Result{}, err
	}
	args := append([]string{s.entry, "server", "--url", url, "-o", dir}, set.args...)
	cmd := exec.CommandContext(ctx, s.node, args...)
	cmd.Dir = out
	said, err := cmd.CombinedOutput()
	if saveErr := os.WriteFile(filepath.Join(dir, "output.txt"), said, 0o644); saveErr != nil {
		return Result{}, saveErr
	}
	// Failed checks make the exit code 1; whether the run was whole is told by its summary.
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || !bytes.Contains(said, []byte("=== SUMMARY ===")) {
		return Result{}, fmt.Errorf("run %q: the suite did not get to its end (%w); it said:\n%s", set.Name, err, tail(said))
	}
	result, err := read(set.Name, dir)
	if err != nil {
		return Result{}, fmt.Errorf("run %q: %w", set.Name, err)
	}
	if _, failed, _, _, _ := result.Count(); exit != nil && failed == 0 {
		return Result{}, fmt.Errorf("run %q: the suite reports failure (%w), and no check of it failed; it said:\n%s", set.Name, exit, tail(said))
	}
	return result, nil
}

func tail(b []byte) []byte { return b[max(0, len(b)-2000):] }

var scenarioDir = regexp.MustCompile(`^server-(.+)-\d{4}-\d\d-\d\dT`)

// read collects the checks.json of each scenario in dir.
func read(set, dir string) (Result, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return Result{}, err
	}
	result := Result{Set: set}
	for _, entry := range entries {
		name := scenarioDir.FindStringSubmatch(entry.Name())
		if name == nil {
			continue
		}
		scenario, err := readScenario(name[1], filepath.Join(dir, entry.Name(), "checks.json"))
		if err != nil {
			return Result{}, err
		}
		result.Scenarios = append(result.Scenarios, scenario)
	}
	if len(result.Scenarios) == 0 {
		return Result{}, fmt.Errorf("it has no scenarios in %s", dir)
	}
	slices.SortFunc(result.Scenarios, func(a, b Scenario) int { return strings.Compare(a.Name, b.Name) })
	return result, nil
}

func readScenario(name, file string) (Scenario, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return Scenario{}, err
	}
	var checks []struct {
		ID           string `json:"id"`
		Status       string `json:"status"`
		ErrorMessage string `json:"errorMessage"`
	}
	if err := json.Unmarshal(text, &checks); err != nil {
		return Scenario{}, fmt.Errorf("read %s: %w", file, err)
	}
	s := Scenario{Name: name}
	for _, c := range checks {
		switch c.Status {
		case "SUCCESS":
			s.Passed++
		case "SKIPPED":
			s.Skipped++
		case "INFO": // a note, not a check
		case "WARNING":
			s.Warnings++
			s.Open = append(s.Open, Check{c.ID, c.Status, c.ErrorMessage})
		default: // FAILURE, or a word that this program does not know
			s.Failed++
			s.Open = append(s.Open, Check{c.ID, c.Status, c.ErrorMessage})
		}
	}
	if s.Passed+s.Failed+s.Skipped+s.Warnings == 0 {
		s.Failed++
		s.Open = append(s.Open, Check{name, "FAILURE", "the scenario checked nothing"})
	}
	return s, nil
}
