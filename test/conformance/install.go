package conformance

import (
	"context"
	_ "embed"
	"fmt"

	"erlmcp.dev/test/node"
)

var (
	//go:embed suite/package.json
	packageJSON []byte
	//go:embed suite/package-lock.json
	packageLock []byte
)

// Suite is an installed conformance suite.
type Suite struct {
	node, entry string
}

// Install puts the pinned suite and its Node into dir by npm, unless they are there already, and gives it. It
// needs any npm in the PATH; the suite itself runs on the Node that was installed.
func Install(ctx context.Context, dir string) (*Suite, error) {
	modules, err := node.Install(ctx, dir, node.Packages{JSON: packageJSON, Lock: packageLock})
	if err != nil {
		return nil, fmt.Errorf("the conformance suite: %w", err)
	}
	return &Suite{node: modules.Node(), entry: modules.Path("@modelcontextprotocol/conformance", "dist", "index.js")}, nil
}
