//go:build npm

package clients

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/test/cluster"
	"erlmcp.dev/test/node"
)

// Directories of this checkout's build products, from this package's directory.
const (
	buildDir = "../../.build/clients"
	binDir   = "../../.build/bin"
)

// place is where errands are run: a target for each transport that is served.
type place struct {
	name   string
	target map[string][]string
}

// places are the fixtures themselves, and behind erlmcp where ERLMCP_PROGRAM names it.
func places(t *testing.T) []place {
	t.Helper()
	fixtures, err := cluster.BuildFixtures(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	upstream := cluster.RunFixtures(t, fixtures, "dual")
	all := []place{{"fixtures", map[string][]string{"http": {upstream.URL}, "stdio": {fixtures, "-stdio"}}}}
	if program := os.Getenv("ERLMCP_PROGRAM"); program != "" {
		erlmcp := cluster.Erlmcp{
			Binary: program,
			Config: "servers:\n  - name: fixtures\n    url: " + upstream.URL + "\n    prefix: \"\"\n",
		}
		up := cluster.RunUp(t, erlmcp)
		all = append(all, place{"erlmcp up", map[string][]string{
			"http": {up.URL("")},
			"ws":   {"ws://" + cluster.Address(up.Ports.WS) + "/ws"},
			"sse":  {"http://" + cluster.Address(up.Ports.SSE) + "/sse"},
			// The program as a bridge.
			"stdio": {program, "stdio", "--connect", up.URL("")},
		}})
		file := filepath.Join(t.TempDir(), "erlmcp.yaml")
		if err := os.WriteFile(file, []byte(erlmcp.Config), 0o600); err != nil {
			t.Fatal(err)
		}
		all = append(all, place{"erlmcp stdio", map[string][]string{
			// It would take the variable for a misspelt one of its own.
			"stdio": {"env", "-u", "ERLMCP_PROGRAM", program, "stdio", "--config", file},
		}})
		many := cluster.RunCluster(t, erlmcp, cluster.Layout{})
		all = append(all, place{"erlmcp cluster", map[string][]string{
			"http": {many.URL("")},
			"ws":   {"ws://" + many.API.Address() + "/ws"},
			"sse":  {"http://" + many.API.Address() + "/sse"},
		}})
	}
	return all
}

func install(t *testing.T) *node.Modules {
	t.Helper()
	modules, err := Install(t.Context(), buildDir)
	if err != nil {
		t.Fatal(err)
	}
	return modules
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestEveryClientSeesTheSame(t *testing.T) {
	modules := install(t)
	for _, p := range places(t) {
		for _, client := range All(modules) {
			target, served := p.target[client.Transport]
			if !served {
				continue
			}
			t.Run(p.name+"/"+client.Name, func(t *testing.T) {
				seen, err := client.Errand(within(t, time.Minute), target...)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(Fixtures, seen); diff != "" {
					t.Errorf("what it saw differs (-want +got):\n%s", diff)
				}
			})
		}
	}
}

func TestInspectorGetsAnswersInBothEras(t *testing.T) {
	inspector := NewInspector(install(t), t.TempDir())
	for _, p := range places(t) {
		if p.target["http"] == nil {
			continue // a program that speaks on standard streams only
		}
		for _, era := range []string{"legacy", "modern", "auto"} {
			t.Run(p.name+"/"+era, func(t *testing.T) {
				ctx := within(t, 2*time.Minute)
				server := p.target["http"]
				for _, want := range []struct {
					method, text string
					flags        []string
				}{
					{"tools/list", `"test_simple_text"`, nil},
					{"tools/call", Fixtures.Simple, []string{"--tool-name", "test_simple_text"}},
					{"tools/call", "Region: us-west1", []string{"--tool-name", "test_x_mcp_header", "--tool-args-json", `{"region":"us-west1"}`}},
					{"resources/read", Fixtures.Resource, []string{"--uri", "test://static-text"}},
					{"prompts/get", "arg1='hello'", []string{"--prompt-name", "test_prompt_with_arguments", "--prompt-args", "arg1=hello", "arg2=world"}},
				} {
					got, err := inspector.Run(ctx, era, want.method, server, want.flags...)
					if err != nil {
						t.Errorf("%s: %v", want.method, err)
					} else if !strings.Contains(string(got), want.text) {
						t.Errorf("%s: got %.300s, want %s in it", want.method, got, want.text)
					}
				}
			})
		}
	}
}

func TestInspectorSpeaksToStdioServers(t *testing.T) {
	inspector := NewInspector(install(t), t.TempDir())
	fixtures, err := cluster.BuildFixtures(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	got, err := inspector.Run(within(t, time.Minute), "modern", "tools/call", []string{"--", fixtures, "-stdio"}, "--tool-name", "test_simple_text")
	if err != nil || !strings.Contains(string(got), Fixtures.Simple) {
		t.Errorf("got %.300s, %v", got, err)
	}
}

// Servers of others must at least work alone, before anything is said of them behind erlmcp.
func TestServersOfOthersEcho(t *testing.T) {
	modules := install(t)
	binary, err := GoEverything(t.Context(), binDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, server := range []struct {
		name, tool, want string
		command          []string
		args             map[string]any
	}{
		{"Go", "test_simple_text", "simple text response", []string{binary}, nil},
		{"TypeScript", "echo", "Echo: hello", TypeScriptEverything(modules), map[string]any{"message": "hello"}},
	} {
		t.Run(server.name, func(t *testing.T) {
			ctx := within(t, time.Minute)
			client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
			session, err := client.Connect(ctx, &mcp.CommandTransport{Command: exec.CommandContext(ctx, server.command[0], server.command[1:]...)}, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer session.Close()
			result, err := session.CallTool(ctx, &mcp.CallToolParams{Name: server.tool, Arguments: server.args})
			if err != nil {
				t.Fatal(err)
			}
			if got := join(result.Content); !strings.Contains(got, server.want) {
				text, _ := json.Marshal(result)
				t.Errorf("got %s, want %q in it", text, server.want)
			}
		})
	}
}

// What the servers of others offer is found out, listed and called through erlmcp, by clients of both eras.
func TestServersOfOthersBehindErlmcp(t *testing.T) {
	program := os.Getenv("ERLMCP_PROGRAM")
	if program == "" {
		t.Fatal("ERLMCP_PROGRAM must name the erlmcp program: run make clients")
	}
	modules := install(t)
	binary, err := GoEverything(t.Context(), binDir)
	if err != nil {
		t.Fatal(err)
	}
	ports, err := cluster.FreePorts(2)
	if err != nil {
		t.Fatal(err)
	}
	stateful, stateless := cluster.Address(ports[0]), cluster.Address(ports[1])
	for i, args := range [][]string{{"-http=" + stateful, "-stateless=false"}, {"-http=" + stateless}} {
		cluster.Run(t, cluster.Program{Name: "everything-server", Path: binary, Args: args, Ready: cluster.ReadyPort(ports[i])})
	}
	command, err := json.Marshal(TypeScriptEverything(modules))
	if err != nil {
		t.Fatal(err)
	}
	up := cluster.RunUp(t, cluster.Erlmcp{Binary: program, Config: "servers:\n" +
		"  - {name: stateful, url: \"http://" + stateful + "/\"}\n" +
		"  - {name: stateless, url: \"http://" + stateless + "/\"}\n" +
		"  - {name: program, command: [\"" + binary + "\"]}\n" +
		"  - {name: typescript, command: " + string(command) + "}\n",
	})
	for _, version := range []string{"2025-11-25", "2026-07-28"} {
		t.Run(version, func(t *testing.T) {
			ctx := within(t, time.Minute)
			client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
			session, err := client.Connect(ctx, &mcp.StreamableClientTransport{Endpoint: up.URL("")}, &mcp.ClientSessionOptions{ProtocolVersion: version})
			if err != nil {
				t.Fatal(err)
			}
			defer session.Close()
			for _, c := range []struct {
				tool, want string
				args       map[string]any
			}{
				{"stateful_test_simple_text", "simple text response", nil},
				{"stateless_test_simple_text", "simple text response", nil},
				{"program_test_simple_text", "simple text response", nil},
				{"typescript_echo", "Echo: hello", map[string]any{"message": "hello"}},
			} {
				testkit.Eventually(t, func() error { // programs take a moment to be found out about
					result, err := session.CallTool(ctx, &mcp.CallToolParams{Name: c.tool, Arguments: c.args})
					if err != nil {
						return err
					}
					if got := join(result.Content); !strings.Contains(got, c.want) {
						return fmt.Errorf("%s: got %q, want %q in it", c.tool, got, c.want)
					}
					return nil
				}, 30*time.Second)
			}
		})
	}
}
