// Package deploy tests what operators run: the scripts, and what the files of deployments say. Start at
// backup_test.go; what needs a Docker engine or a cluster is in deploy/test.
package deploy

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"erlmcp.dev/test/cluster"
)

// erlmcp is the program, built once.
var erlmcp string

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "docker" {
		if err := docker(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	dir, err := os.MkdirTemp("", "erlmcp-deploy-")
	if err == nil {
		erlmcp, err = cluster.Build(context.Background(), "erlmcp.dev/cmd/erlmcp", dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// What each script is called with to do nothing, beside deploy/scripts.
var dryRuns = map[string][]string{
	"backup-config.sh":         nil, // there is nothing to save here, which it says; its dry run is tested in config_test.go
	"backup-data.sh":           {"--dry-run"},
	"failover.sh":              nil, // its dry run asks the stand-by
	"graceful-shutdown.sh":     {"--dry-run", "erlmcp-cluster-1"},
	"health-check.sh":          {"--dry-run"},
	"restore-config.sh":        nil, // its dry run checks the file, and is tested in config_test.go
	"restore-data.sh":          nil, // likewise, in backup_test.go
	"rollback.sh":              {"kubernetes", "--dry-run"},
	"../swarm/deploy-swarm.sh": {"deploy", "--dry-run"},
}

func TestEveryScriptHelpsRunsDryAndRefusesWhatItDoesNotKnow(t *testing.T) {
	found, err := filepath.Glob("../../deploy/s*/*.sh")
	if err != nil || len(found) < len(dryRuns) {
		t.Fatalf("%q, %v", found, err)
	}
	for _, path := range found {
		name, err := filepath.Rel("../../deploy/scripts", path)
		if err != nil {
			t.Fatal(err)
		}
		if name == "lib.sh" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			dry, known := dryRuns[name]
			if !known {
				t.Fatal("no dry run is tested")
			}
			if out := runs(t, nil, name, "--help"); !strings.Contains(out, filepath.Base(name)) || !strings.Contains(out, "--dry-run") {
				t.Errorf("--help says\n%s", out)
			}
			if dry != nil {
				if out := runs(t, nil, name, dry...); !strings.Contains(out, "would ") {
					t.Errorf("a dry run says\n%s", out)
				}
			}
			refuses(t, nil, "--help", name, "--nonsense")
		})
	}
}
