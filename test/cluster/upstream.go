package cluster

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
)

// Upstream is an MCP server that stands behind erlmcp. Its URL stays the same over a restart.
type Upstream struct {
	*Process
	URL string
}

// fixtures and its package, in this workspace.
const fixturesPackage = "erlmcp.dev/examples/fixtures/cmd/fixtures"

// Build compiles a command of this workspace into a file of dir, and gives its path. It must run in the workspace.
func Build(ctx context.Context, pkg, dir string) (string, error) {
	binary, err := filepath.Abs(filepath.Join(dir, filepath.Base(pkg)))
	if err != nil {
		return "", err
	}
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, pkg).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", pkg, err, out)
	}
	return binary, nil
}

// BuildFixtures compiles the conformance fixtures into dir.
func BuildFixtures(ctx context.Context, dir string) (string, error) {
	return Build(ctx, fixturesPackage, dir)
}

// Fixtures starts the conformance fixtures for an era: dual, modern, legacy or stateless. args go to the program too.
func Fixtures(ctx context.Context, binary, era, dir string, args ...string) (*Upstream, error) {
	ports, err := FreePorts(1)
	if err != nil {
		return nil, err
	}
	process, err := Start(ctx, Program{
		Name: "fixtures-" + era, Path: binary, Args: append([]string{"-http", Address(ports[0]), "-era", era}, args...), Dir: dir,
		Ready: ReadyLog(regexp.MustCompile(`listening on \S+`)),
	})
	if err != nil {
		return nil, err
	}
	return &Upstream{process, endpoint(Address(ports[0]), "")}, nil
}
