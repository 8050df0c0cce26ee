package clients

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"erlmcp.dev/test/node"
)

// everythingServer is the server that the official Go SDK is tested with.
const everythingServer = "github.com/modelcontextprotocol/go-sdk/conformance/everything-server@v1.8.0"

// GoEverything builds the Go SDK's everything-server into dir and gives its path. Run without flags it serves
// stdio; with -http=ADDRESS Streamable HTTP at /, to legacy clients only with -stateless=false.
func GoEverything(ctx context.Context, dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "everything-server")
	if _, err := os.Stat(binary); err == nil { // the version is pinned: built once is built
		return binary, nil
	}
	install := exec.CommandContext(ctx, "go", "install", everythingServer)
	install.Env = append(os.Environ(), "GOBIN="+dir, "GOWORK=off", "GOFLAGS=")
	if out, err := install.CombinedOutput(); err != nil {
		return "", fmt.Errorf("install %s: %w\n%s", everythingServer, err, out)
	}
	return binary, nil
}

// TypeScriptEverything is the command line of the npm package server-everything on stdio, a legacy server. (Over
// HTTP it would listen on every address of the machine.)
func TypeScriptEverything(modules *node.Modules) []string {
	return []string{modules.Node(), modules.Path("@modelcontextprotocol/server-everything", "dist", "index.js"), "stdio"}
}
