package clients

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"erlmcp.dev/test/node"
)

// Inspector is the command line of the MCP Inspector. It can't be asked anything by a server.
type Inspector struct {
	modules *node.Modules
	home    string
}

// NewInspector gives the installed Inspector, which keeps its files in home.
func NewInspector(modules *node.Modules, home string) *Inspector { return &Inspector{modules, home} }

// Run does one method on a server, as legacy, modern or auto. The server is a URL, or a command after "--". More
// are flags, such as "--tool-name". The answer is the method's result.
func (i *Inspector) Run(ctx context.Context, era, method string, server []string, more ...string) (json.RawMessage, error) {
	args := []string{i.modules.Path("@modelcontextprotocol/inspector", "clients", "launcher", "build", "index.js"), "--cli"}
	var command []string
	if server[0] == "--" {
		command = server
	} else {
		args = append(args, "--transport", "http", "--server-url", server[0])
	}
	args = append(args, "--protocol-era", era, "--method", method, "--format", "json")
	args = slices.Concat(args, more, command)
	cmd := exec.CommandContext(ctx, i.modules.Node(), args...)
	cmd.Env = append(os.Environ(), "HOME="+i.home, "MCP_INSPECTOR_SECRET_STORE=memory",
		"PATH="+filepath.Dir(i.modules.Node())+string(os.PathListSeparator)+os.Getenv("PATH"))
	out, err := output(cmd)
	if err != nil {
		return nil, err
	}
	if !json.Valid(out) {
		return nil, fmt.Errorf("the inspector's answer to %s is not JSON: %s", method, out)
	}
	return out, nil
}
