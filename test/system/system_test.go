// Package system tests erlmcp as its users run it: real processes, real servers, real clients, in one process on
// embedded stores and as a cluster on Redis and Postgres. It needs nothing but Go.
package system

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/test/clients"
	"erlmcp.dev/test/cluster"
)

// Programs, built once.
var erlmcp, fixtures, orderdesk string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "erlmcp-system-")
	if err == nil {
		err = build(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

func build(dir string) (err error) {
	ctx := context.Background()
	if erlmcp, err = cluster.Build(ctx, "erlmcp.dev/cmd/erlmcp", dir); err != nil {
		return err
	}
	if fixtures, err = cluster.BuildFixtures(ctx, dir); err != nil {
		return err
	}
	orderdesk, err = cluster.Build(ctx, "erlmcp.dev/examples/orderdesk/cmd/orderdesk", dir)
	return err
}

// eras are the kinds of MCP servers that stand behind erlmcp over HTTP.
var eras = []string{"dual", "modern", "legacy", "stateless"}

// config declares a server of each kind, and one that is a program.
func config(t *testing.T) string {
	t.Helper()
	text := "servers:\n  - {name: program, command: [\"" + fixtures + "\", -stdio]}\n"
	for _, era := range eras {
		text += "  - {name: " + era + ", url: \"" + cluster.RunFixtures(t, fixtures, era).URL + "\"}\n"
	}
	return text
}

// place is one way of running erlmcp.
type place struct {
	name string
	url  func(view string) string
	rest string // the API port, host:port
}

func places(t *testing.T, config string) []place {
	t.Helper()
	up := cluster.RunUp(t, cluster.Erlmcp{Binary: erlmcp, Config: config})
	many := cluster.RunCluster(t, cluster.Erlmcp{Binary: erlmcp, Config: config}, cluster.Layout{})
	return []place{
		{"up", up.URL, cluster.Address(up.Ports.API)},
		{"cluster", many.URL, cluster.Address(many.Gateways[0].Ports.API)},
	}
}

// awaitServers waits until the registry has found out what every server offers.
func awaitServers(t *testing.T, p place, want int) {
	t.Helper()
	testkit.Eventually(t, func() error {
		response, err := http.Get("http://" + p.rest + "/api/v1/servers")
		if err != nil {
			return err
		}
		defer response.Body.Close()
		var list struct {
			Servers []struct {
				State   string
				Message string
				Server  struct{ Name string }
			}
		}
		if err := json.NewDecoder(response.Body).Decode(&list); err != nil {
			return err
		}
		ready := 0
		for _, s := range list.Servers {
			if s.State == "SERVER_STATE_READY" {
				ready++
			} else if s.Message != "" {
				err = fmt.Errorf("%s: %s", s.Server.Name, s.Message)
			}
		}
		if ready != want {
			return fmt.Errorf("%d of %d servers are ready; %w", ready, want, err)
		}
		return nil
	}, time.Minute)
}

// Every client, of either era, at every kind of server, sees what it would see at the server itself: lists, results,
// questions to its user and model, progress.
func TestEveryEraReachesEveryEra(t *testing.T) {
	for _, p := range places(t, config(t)) {
		t.Run(p.name, func(t *testing.T) {
			awaitServers(t, p, len(eras)+1)
			for _, view := range append([]string{"program"}, eras...) {
				for _, client := range clients.Go() {
					if client.Transport != "http" {
						continue
					}
					t.Run(view+"/"+client.Name, func(t *testing.T) {
						ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
						defer cancel()
						seen, err := client.Errand(ctx, p.url(view))
						if err != nil {
							t.Fatal(err)
						}
						if diff := cmp.Diff(clients.Fixtures, seen); diff != "" {
							t.Errorf("what it saw differs (-want +got):\n%s", diff)
						}
					})
				}
			}
		})
	}
}

// A gRPC service's methods are tools, with integers beyond 2^53 intact.
func TestAGRPCServicesMethodsAreTools(t *testing.T) {
	ports, err := cluster.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	cluster.Run(t, cluster.Program{Name: "orderdesk", Path: orderdesk, Args: []string{"-listen", cluster.Address(ports[0])}, Ready: cluster.ReadyPort(ports[0])})
	for _, p := range places(t, "servers:\n  - {name: orders, grpc: \""+cluster.Address(ports[0])+"\"}\n") {
		t.Run(p.name, func(t *testing.T) {
			awaitServers(t, p, 1)
			for _, version := range []string{"2025-06-18", "2026-07-28"} {
				client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
				session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: p.url("")}, &mcp.ClientSessionOptions{ProtocolVersion: version})
				if err != nil {
					t.Fatal(err)
				}
				result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "orders_GetProduct", Arguments: map[string]any{"sku": "lighthouse"}})
				if err != nil {
					t.Fatal(err)
				}
				text, err := json.Marshal(result.StructuredContent)
				if err != nil || !strings.Contains(string(text), "9007199254740993") {
					t.Errorf("%s: got %s, %v", version, text, err)
				}
				session.Close()
			}
		})
	}
}

// In production nothing is open: the first start makes an administrator's key, and with it everything can be done.
func TestProductionAsksForAKey(t *testing.T) {
	dir := t.TempDir()
	up := cluster.RunUp(t, cluster.Erlmcp{Binary: erlmcp, Dir: dir, Env: []string{"ERLMCP_ENV=production", "ERLMCP_DEMO=true"}})
	call := func(key string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, up.URL(""), strings.NewReader(
			`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`))
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range map[string]string{"Content-Type": "application/json", "Accept": "application/json, text/event-stream", "Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/list"} {
			req.Header.Set(k, v)
		}
		if key != "" {
			req.Header.Set("Authorization", "Bearer "+key)
		}
		response, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if response.StatusCode == http.StatusUnauthorized && response.Header.Get("WWW-Authenticate") == "" {
			t.Error("401 without a challenge")
		}
		return response.StatusCode
	}
	if got := call(""); got != http.StatusUnauthorized {
		t.Errorf("without a key: %d", got)
	}
	if got := call("erlmcp_none_none"); got != http.StatusUnauthorized {
		t.Errorf("with a wrong key: %d", got)
	}
	path := filepath.Join(dir, "up", "data", "admin-key")
	key, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the kept key's mode: %v, %v", info.Mode(), err)
	}
	testkit.Eventually(t, func() error {
		if got := call(strings.TrimSpace(string(key))); got != http.StatusOK {
			return fmt.Errorf("with the first key: %d", got)
		}
		return nil
	}, 10*time.Second)
	if log := up.Log(); strings.Count(log, strings.TrimSpace(string(key))) > 1 {
		t.Error("the key is in the log more than the once that it is shown")
	}
	if response, err := http.Get("http://" + cluster.Address(up.Ports.API) + "/api/v1/servers"); err != nil || response.StatusCode != http.StatusUnauthorized {
		t.Errorf("REST without a key: %v, %v", response, err)
	}
}
