package clients

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"erlmcp.dev/test/node"
)

// Seen is what a client got on its errand at a server with the conformance fixtures.
type Seen struct {
	Tools     int       `json:"tools"`
	Prompts   int       `json:"prompts"`
	Resources int       `json:"resources"`
	Simple    string    `json:"simple"`
	Asked     string    `json:"asked"`   // after two questions to the user
	Sampled   string    `json:"sampled"` // after one to the client's model
	Failed    bool      `json:"failed"`  // that a failing tool says so
	Resource  string    `json:"resource"`
	Prompt    string    `json:"prompt"`
	Progress  []float64 `json:"progress"`
}

// Fixtures is what the fixtures give to a client of any kind.
var Fixtures = Seen{
	Tools: 37, Prompts: 6, Resources: 3,
	Simple:   "This is a simple text response for testing.",
	Asked:    "Alice likes blue.",
	Sampled:  "LLM response: Paris",
	Failed:   true,
	Resource: "This is the content of the static text resource.",
	Prompt:   "Prompt with arguments: arg1='hello', arg2='world'",
	Progress: []float64{0, 50, 100},
}

// Client is one of the clients, speaking one era over one transport.
type Client struct {
	Name string
	// Transport is what the errand's target is: http, sse or ws for a URL, stdio for a command line.
	Transport string
	// Errand runs the errand.
	Errand func(ctx context.Context, target ...string) (Seen, error)
}

var (
	//go:embed errand.mjs
	errandScript []byte
	//go:embed packages/package.json
	packageJSON []byte
	//go:embed packages/package-lock.json
	packageLock []byte
)

// Install puts the npm packages that this package uses into dir, unless they are there.
func Install(ctx context.Context, dir string) (*node.Modules, error) {
	modules, err := node.Install(ctx, dir, node.Packages{JSON: packageJSON, Lock: packageLock})
	if err != nil {
		return nil, fmt.Errorf("clients of others: %w", err)
	}
	return modules, nil
}

// Go are the official Go SDK's clients, which need nothing but Go.
func Go() []Client {
	return []Client{
		{"Go SDK, modern", "http", goErrand("2026-07-28")},
		{"Go SDK, legacy", "http", goErrand("2025-11-25")},
		{"Go SDK, stdio", "stdio", goErrand("2026-07-28")},
	}
}

// All are the clients. A client that speaks more than one era is there once for each, and once choosing itself.
func All(modules *node.Modules) []Client {
	all := Go()
	for _, kind := range []string{"http", "sse", "ws", "stdio"} {
		all = append(all, Client{"TypeScript v1, " + kind, kind, scriptErrand(modules, "v1", "legacy", kind)})
	}
	for _, era := range []string{"legacy", "modern", "auto"} {
		for _, kind := range []string{"http", "stdio"} {
			all = append(all, Client{"TypeScript v2, " + era + ", " + kind, kind, scriptErrand(modules, "v2", era, kind)})
		}
	}
	return all
}

// scriptErrand runs errand.mjs.
func scriptErrand(modules *node.Modules, sdk, era, kind string) func(context.Context, ...string) (Seen, error) {
	return func(ctx context.Context, target ...string) (Seen, error) {
		// Beside node_modules, where its imports are found.
		script := filepath.Join(modules.Dir(), "errand.mjs")
		if err := os.WriteFile(script, errandScript, 0o644); err != nil {
			return Seen{}, err
		}
		out, err := output(exec.CommandContext(ctx, modules.Node(), append([]string{script, sdk, era, kind}, target...)...))
		if err != nil {
			return Seen{}, err
		}
		var seen Seen
		if err := json.Unmarshal(out, &seen); err != nil {
			return Seen{}, fmt.Errorf("the errand's output: %w: %s", err, out)
		}
		return seen, nil
	}
}

// output runs a command and gives what it wrote, or an error with what it complained of.
func output(cmd *exec.Cmd) ([]byte, error) {
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return out, fmt.Errorf("%s: %w: %s%s", filepath.Base(cmd.Path), err, exit.Stderr, out)
	}
	return out, err
}
