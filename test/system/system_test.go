// Package system tests erlmcp as its users run it: real processes, real servers, real clients, in one process on
// embedded stores and as a cluster on Redis and Postgres. It needs nothing but Go.
package system

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/test/clients"
	"erlmcp.dev/test/cluster"
)

// Programs, built once.
var erlmcp, fixtures, orderdesk string

func TestMain(m *testing.M) {
	if os.Getenv(tracedProgram) != "" {
		if err := runTracedProgram(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	dir, err := os.MkdirTemp("", "erlmcp-system-")
	if err == nil {
		err = build(dir)
	}
	if err == nil {
		err = flag.Set("test.parallel", "4") // tests that run beside others mostly wait; a flag that is given comes later
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

// listTools asks for the tools as a modern client with a key, and gives the HTTP status and the challenge.
func listTools(t *testing.T, url, key string) (status int, challenge string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(
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
	return response.StatusCode, response.Header.Get("WWW-Authenticate")
}

// firstKey reads the administrator's key that a process's first start made and kept.
func firstKey(t *testing.T, dir, process string) string {
	t.Helper()
	path := filepath.Join(dir, process, "data", "admin-key")
	key, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the kept key's mode: %v, %v", info.Mode(), err)
	}
	return strings.TrimSpace(string(key))
}

// makeKey makes an API key for a principal.
func makeKey(t *testing.T, up *cluster.Node, admin, principal string) string {
	t.Helper()
	return makeKeyWith(t, up, admin, fmt.Sprintf(`{"principal":%q}`, principal))
}

// makeKeyWith makes a key of a CreateKeyRequest in JSON.
func makeKeyWith(t *testing.T, up *cluster.Node, admin, request string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+cluster.Address(up.Ports.API)+"/api/v1/keys", strings.NewReader(request))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+admin)
	response, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var made struct{ Secret string }
	if err := json.NewDecoder(response.Body).Decode(&made); err != nil || made.Secret == "" {
		t.Fatalf("making a key: %v, %d", err, response.StatusCode)
	}
	return made.Secret
}

// In production nothing is open: the first start makes an administrator's key, and with it everything can be done.
func TestProductionAsksForAKey(t *testing.T) {
	t.Parallel()
	production := []string{"ERLMCP_ENV=production", "ERLMCP_DEMO=true"}
	dir := t.TempDir()
	up := cluster.RunUp(t, cluster.Erlmcp{Binary: erlmcp, Dir: dir, Env: production})
	manyDir := t.TempDir()
	many := cluster.RunCluster(t, cluster.Erlmcp{Binary: erlmcp, Dir: manyDir, Env: production}, cluster.Layout{})
	for _, p := range []struct {
		name, url, api, key string
		shown               func() string
	}{
		{"up", up.URL(""), cluster.Address(up.Ports.API), firstKey(t, dir, "up"), up.Log},
		{"cluster, over TLS of its own", many.URL(""), cluster.Address(many.Gateways[0].Ports.API), firstKey(t, manyDir, "registry"), many.Registry.Log},
	} {
		t.Run(p.name, func(t *testing.T) {
			for name, key := range map[string]string{"no key": "", "a wrong key": "erlmcp_none_none", "a token of nobody": "ey.ey.ey"} {
				if status, challenge := listTools(t, p.url, key); status != http.StatusUnauthorized || !strings.HasPrefix(challenge, "Bearer") {
					t.Errorf("%s: %d, challenge %q", name, status, challenge)
				}
			}
			testkit.Eventually(t, func() error { // keys come with the catalogue
				if status, _ := listTools(t, p.url, p.key); status != http.StatusOK {
					return fmt.Errorf("with the first key: %d", status)
				}
				return nil
			}, 10*time.Second)
			if strings.Count(p.shown(), p.key) != 1 {
				t.Error("the first key is not shown exactly once")
			}
			response, err := http.Get("http://" + p.api + "/api/v1/servers")
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if response.StatusCode != http.StatusUnauthorized {
				t.Errorf("REST without a key: %d", response.StatusCode)
			}
		})
	}
	// Between services nothing is plain text: who speaks without TLS is not heard.
	conn, err := grpc.NewClient(cluster.Address(many.Registry.Ports.GRPC), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := registryv1.NewRegistryServiceClient(conn).ListServers(ctx, &registryv1.ListServersRequest{}); err == nil {
		t.Error("a plain-text call was answered")
	}
}

// Beyond loopback nobody is let in without a credential; where that is asked for, to call tools and for nothing else.
func TestNobodyAdministersWithoutACredentialBeyondLoopback(t *testing.T) {
	for _, open := range []bool{false, true} {
		env := []string{"ERLMCP_LISTEN=0.0.0.0", "ERLMCP_DEMO=true"}
		if open {
			env = append(env, "ERLMCP_ANONYMOUS=true")
		}
		dir := t.TempDir()
		up := cluster.RunUp(t, cluster.Erlmcp{Binary: erlmcp, Dir: dir, Env: env})
		want := http.StatusUnauthorized
		if open {
			want = http.StatusOK
		}
		if status, _ := listTools(t, up.URL(""), ""); status != want {
			t.Errorf("tools are listed with %d, want %d", status, want)
		}
		if status, _ := listTools(t, up.URL(""), firstKey(t, dir, "up")); status != http.StatusOK {
			t.Errorf("the first key gets %d", status)
		}
		response, err := http.Post("http://"+cluster.Address(up.Ports.API)+"/api/v1/servers", "application/json", strings.NewReader(`{"name":"x","stdio":{"command":["true"]}}`))
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusUnauthorized && response.StatusCode != http.StatusForbidden {
			t.Errorf("open %v: a stranger's program was registered with %s", open, response.Status)
		}
	}
}
