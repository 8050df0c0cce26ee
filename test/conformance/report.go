package conformance

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
)

// Print writes a table with a row for each set, then each check that failed or gave a warning.
func Print(w io.Writer, results []Result) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "scenario set\tscenarios\tpassed\tfailed\tknown\tskipped\twarnings\t")
	for _, r := range results {
		passed, failed, known, skipped, warnings := r.Count()
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t\n", r.Set, len(r.Scenarios), passed, failed, known, skipped, warnings)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, r := range results {
		for _, s := range r.Scenarios {
			if s.Known != "" {
				continue
			}
			for _, c := range s.Open {
				message := strings.Join(strings.Fields(c.Error), " ")
				if _, err := fmt.Fprintf(w, "%s: %s: %s: %s: %.500s\n", c.Status, r.Set, s.Name, c.ID, message); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// Save writes all results as JSON.
func Save(file string, results []Result) error {
	text, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}
