package transports

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/test/cluster"
)

// server is a kind of server behind erlmcp.
type server struct {
	name, title string
	promises    []promise
	declaration string
}

// place is one way of running erlmcp.
type place struct {
	name  string
	api   string   // host:port of a port with every transport
	tcp   []string // the same of each gateway: the balancer knows HTTP only
	stdio func(t *testing.T, s server) wire
	// bridged: stdio is a bridge to Streamable HTTP.
	bridged bool
}

// excluded are cells that a specification excludes, with its sentence.
var excluded = map[string]string{
	"sse/" + mcp.V2026_07_28: "HTTP+SSE is the transport of 2024-11-05, which Streamable HTTP replaces; revision 2026-07-28 answers each request in the response to its POST, and HTTP+SSE never does.",
}

// TestEveryCell checks each promise in each cell of {transport} x {revision} x {kind of server} x {one process, a
// cluster of processes on Redis and Postgres}, and that docs/compatibility.md says what it found.
// ERLMCP_UPDATE=1 writes the file.
func TestEveryCell(t *testing.T) {
	dir := t.TempDir()
	erlmcp, servers := build(t, dir)
	places := runBoth(t, erlmcp, servers)
	var mu sync.Mutex
	held := map[string]int{} // promises by "transport/revision/server/place"
	t.Run("cells", func(t *testing.T) {
		for _, p := range places {
			for _, w := range ways {
				for _, version := range append(allLegacy[:len(allLegacy):len(allLegacy)], mcp.V2026_07_28) {
					if excluded[w.name+"/"+version] != "" {
						continue
					}
					for _, s := range servers {
						cell := strings.Join([]string{w.name, version, s.name, p.name}, "/")
						t.Run(cell, func(t *testing.T) {
							t.Parallel()
							at := address{api: []string{p.api}, view: s.name, stdio: func(t *testing.T) wire { return p.stdio(t, s) }}
							if w.name == "tcp" {
								at.api[0] = p.tcp[rand.N(len(p.tcp))]
							}
							c := newClient(t, w.dial(t, at, ""), version)
							if w.name == "tcp" {
								c.view = s.name
							}
							n := checkAll(t, s.promises, world{http: w.name == "http" || w.name == "stdio" && p.bridged}, c.connect())
							mu.Lock()
							held[cell] = n
							mu.Unlock()
						})
					}
				}
			}
		}
	})
	t.Run("excluded", func(t *testing.T) {
		for _, p := range places {
			at := address{api: []string{p.api}}
			c := newClient(t, dialSSE(t, at, ""), mcp.V2026_07_28)
			_, answer := c.begin(mcp.MethodDiscover, `{}`)
			if m := c.await(answer); m.Error == nil {
				t.Errorf("%s: a modern request over HTTP+SSE gave %s", p.name, m.Result)
			}
		}
	})
	if t.Failed() {
		return
	}
	const file = "../../docs/compatibility.md"
	want := compatibility(servers, places, held)
	if os.Getenv("ERLMCP_UPDATE") != "" {
		must(t, os.WriteFile(file, want, 0o644))
	}
	got, err := os.ReadFile(file)
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Errorf("%s does not say what this run found; write it with: make compatibility", file)
	}
}

// build compiles what runs, and starts a server of each kind.
func build(t *testing.T, dir string) (erlmcp string, servers []server) {
	t.Helper()
	ctx := t.Context()
	erlmcp, err := cluster.Build(ctx, "erlmcp.dev/cmd/erlmcp", dir)
	must(t, err)
	fixtures, err := cluster.BuildFixtures(ctx, dir)
	must(t, err)
	orderdesk, err := cluster.Build(ctx, "erlmcp.dev/examples/orderdesk/cmd/orderdesk", dir)
	must(t, err)
	ports, err := cluster.FreePorts(1)
	must(t, err)
	cluster.Run(t, cluster.Program{
		Name: "orderdesk", Path: orderdesk, Args: []string{"-listen", cluster.Address(ports[0]), "-step", "20ms"}, Ready: cluster.ReadyPort(ports[0]),
	})
	http := func(era string) string { return `url: "` + cluster.RunFixtures(t, fixtures, era).URL + `"` }
	return erlmcp, []server{
		{name: "modern", title: "modern HTTP", promises: mcpPromises, declaration: http("modern")},
		{name: "legacy", title: "legacy HTTP", promises: mcpPromises, declaration: http("legacy")},
		{name: "stateless", title: "legacy HTTP without sessions", promises: without(mcpPromises, "tells of updated resources", "tells of changed lists"), declaration: http("stateless")},
		{name: "program", title: "stdio program", promises: without(mcpPromises, "tells of changed lists"), declaration: `command: ["` + fixtures + `", -stdio]`},
		{name: "orders", title: "gRPC", promises: grpcPromises, declaration: `grpc: "` + cluster.Address(ports[0]) + `"`},
	}
}

// without leaves out promises that a kind of server can't keep; compatibility says why.
func without(promises []promise, names ...string) []promise {
	return slices.DeleteFunc(slices.Clone(promises), func(p promise) bool { return slices.Contains(names, p.name) })
}

// runBoth runs erlmcp both ways, in front of all servers.
func runBoth(t *testing.T, erlmcp string, servers []server) []place {
	t.Helper()
	config := "servers:\n"
	for _, s := range servers {
		config += "  - {name: " + s.name + ", promote_after: 50ms, " + s.declaration + "}\n"
	}
	up := cluster.RunUp(t, cluster.Erlmcp{Binary: erlmcp, Config: config})
	many := cluster.RunCluster(t, cluster.Erlmcp{Binary: erlmcp, Config: config}, cluster.Layout{})
	places := []place{
		{"up", cluster.Address(up.Ports.API), []string{cluster.Address(up.Ports.API)}, func(t *testing.T, s server) wire {
			file := filepath.Join(t.TempDir(), "erlmcp.yaml")
			must(t, os.WriteFile(file, []byte("servers:\n  - {name: "+s.name+", prefix: \"\", promote_after: 50ms, "+s.declaration+"}\n"), 0o600))
			return child(t, erlmcp, "stdio", "--config", file)
		}, false},
		{"cluster", many.API.Address(), []string{cluster.Address(many.Gateways[0].Ports.API), cluster.Address(many.Gateways[1].Ports.API)}, func(t *testing.T, s server) wire {
			return child(t, erlmcp, "stdio", "--connect", many.URL(s.name))
		}, true},
	}
	for _, p := range places {
		testkit.Eventually(t, func() error { return ready(p.api, len(servers)) }, time.Minute)
	}
	return places
}

// ready asks whether the registry has found out what all servers offer.
func ready(api string, want int) error {
	response, err := http.Get("http://" + api + "/api/v1/servers")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var list struct {
		Servers []struct{ State, Message string }
	}
	if err := json.NewDecoder(response.Body).Decode(&list); err != nil {
		return err
	}
	n := 0
	for _, s := range list.Servers {
		if s.State == "SERVER_STATE_READY" {
			n++
		} else {
			err = fmt.Errorf("one says %q", s.Message)
		}
	}
	if n != want {
		return fmt.Errorf("%d of %d servers are ready; %w", n, want, err)
	}
	return nil
}

// child is a program that speaks MCP on standard streams.
func child(t *testing.T, program string, args ...string) wire {
	ctx, cancel := context.WithCancel(context.Background())
	command := exec.CommandContext(ctx, program, args...)
	var errs bytes.Buffer
	command.Stderr = &errs
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "ERLMCP_ENV=dev"}
	in, err := command.StdinPipe()
	must(t, err)
	out, err := command.StdoutPipe()
	must(t, err)
	must(t, command.Start())
	end := sync.OnceFunc(func() {
		_ = in.Close()
		late := time.AfterFunc(20*time.Second, cancel)
		err := command.Wait()
		if !late.Stop() || err != nil {
			t.Errorf("%s %s: %v\n%s", filepath.Base(program), strings.Join(args, " "), err, errs.Bytes())
		}
		cancel()
	})
	t.Cleanup(end)
	return &frames{bufio.NewReader(out), in, end}
}

// compatibility is the table of all cells, as Markdown.
func compatibility(servers []server, places []place, held map[string]int) []byte {
	var b bytes.Buffer
	b.WriteString(`<!-- Made by "make compatibility" from a run of TestEveryCell in test/transports. Don't edit. -->

# Compatibility

Each cell is a run of one suite: a client of that revision, over that transport, through erlmcp, at a server of that
kind; once with erlmcp as one process (` + "`erlmcp up`, `erlmcp stdio`" + `), once as a cluster (two gateways behind a
round-robin balancer, two session owners, registry and metrics, on Redis and Postgres). The number is how many promises
held in both, of as many as that kind of server can keep.

| transport | revision |`)
	for _, s := range servers {
		fmt.Fprintf(&b, " %s |", s.title)
	}
	b.WriteString("\n|---|---|" + strings.Repeat("---|", len(servers)) + "\n")
	titles := map[string]string{"http": "Streamable HTTP", "websocket": "WebSocket", "tcp": "TCP", "stdio": "standard streams", "sse": "HTTP+SSE"}
	for _, w := range ways {
		for _, version := range append(allLegacy[:len(allLegacy):len(allLegacy)], mcp.V2026_07_28) {
			fmt.Fprintf(&b, "| %s | %s |", titles[w.name], version)
			for _, s := range servers {
				if excluded[w.name+"/"+version] != "" {
					b.WriteString(" excluded |")
					continue
				}
				least := len(s.promises)
				for _, p := range places {
					least = min(least, held[strings.Join([]string{w.name, version, s.name, p.name}, "/")])
				}
				fmt.Fprintf(&b, " %d of %d |", least, len(s.promises))
			}
			b.WriteString("\n")
		}
	}
	b.WriteString("\nExcluded, and refused with an error:\n\n")
	for _, w := range ways {
		for _, version := range append(allLegacy[:len(allLegacy):len(allLegacy)], mcp.V2026_07_28) {
			if why := excluded[w.name+"/"+version]; why != "" {
				fmt.Fprintf(&b, "- %s, %s: %s\n", titles[w.name], version, why)
			}
		}
	}
	b.WriteString("\n## The promises\n\nMCP servers:\n\n")
	for _, p := range mcpPromises {
		fmt.Fprintf(&b, "- %s\n", p.name)
	}
	b.WriteString("\ngRPC services, whose methods are tools:\n\n")
	for _, p := range grpcPromises {
		fmt.Fprintf(&b, "- %s\n", p.name)
	}
	b.WriteString(`
A stdio program's lists are asked of a process of the registry's own, so a list that changes in one session's process
alone is not told. A legacy server without sessions has no stream on which it could tell of changes: the registry finds
out when it looks again.
`)
	return b.Bytes()
}
