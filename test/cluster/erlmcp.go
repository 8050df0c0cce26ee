package cluster

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Erlmcp says how erlmcp's processes are started, whatever their role.
type Erlmcp struct {
	// Binary is the path of the program.
	Binary string
	// Dir gets a directory for each process, with its data and log. Empty means a new temporary directory.
	Dir string
	// Config is the text of erlmcp.yaml; empty for none.
	Config string
	// Env overrides what this package sets.
	Env []string
}

// Node is one erlmcp process. Its ports stay the same over a restart.
type Node struct {
	*Process
	Role  string
	Ports Ports
}

// Ports are a node's TCP ports on 127.0.0.1. A role that does not use one leaves it closed.
type Ports struct {
	API, HTTP, WS, SSE, Health, Metrics, GRPC int
}

func newPorts() (Ports, error) {
	p, err := FreePorts(7)
	if err != nil {
		return Ports{}, err
	}
	return Ports{API: p[0], HTTP: p[1], WS: p[2], SSE: p[3], Health: p[4], Metrics: p[5], GRPC: p[6]}, nil
}

func (p Ports) env() []string {
	var env []string
	for name, port := range map[string]int{
		"ERLMCP_PORT": p.API, "ERLMCP_HTTP_PORT": p.HTTP, "ERLMCP_WS_PORT": p.WS, "ERLMCP_SSE_PORT": p.SSE,
		"HEALTH_PORT": p.Health, "METRICS_PORT": p.Metrics, "ERLMCP_GRPC_PORT": p.GRPC,
	} {
		env = append(env, name+"="+strconv.Itoa(port))
	}
	return env
}

// Address is a port of a node as host:port.
func Address(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }

// URL is the node's Streamable HTTP endpoint, for a view or, where that is empty, for everything.
func (n *Node) URL(view string) string { return endpoint(Address(n.Ports.HTTP), view) }

func endpoint(address, view string) string {
	if view == "" {
		return "http://" + address + "/mcp"
	}
	return "http://" + address + "/mcp/" + view
}

// Get reads a path of the node's health port, such as /status or /metrics.
func (n *Node) Get(ctx context.Context, path string) (status int, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+Address(n.Ports.Health)+path, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// Up starts erlmcp with all roles in one process and embedded stores. ctx bounds the start.
func Up(ctx context.Context, e Erlmcp) (*Node, error) {
	ports, err := newPorts()
	if err != nil {
		return nil, err
	}
	if e.Dir, err = workDir(e.Dir); err != nil {
		return nil, err
	}
	return e.start(ctx, "up", "up", ports, nil)
}

// start runs one role under a name that is unique in the cluster.
func (e Erlmcp) start(ctx context.Context, role, name string, ports Ports, env []string) (*Node, error) {
	dir := filepath.Join(e.Dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	args := []string{role}
	if e.Config != "" {
		file := filepath.Join(dir, "erlmcp.yaml")
		if err := os.WriteFile(file, []byte(e.Config), 0o600); err != nil {
			return nil, err
		}
		args = append(args, "--config", file)
	}
	all := append([]string{
		"ERLMCP_ENV=dev",
		"ERLMCP_NODE_NAME=" + name + "@127.0.0.1",
		"ERLMCP_LISTEN=127.0.0.1",
		"ERLMCP_ADVERTISE_ADDR=" + Address(ports.GRPC),
		"ERLMCP_DATA_DIR=" + filepath.Join(dir, "data"),
		"ERLMCP_LOG_FORMAT=text",
		"RATE_LIMIT_PER_SECOND=1000000000", // it counts, and refuses no test's load
	}, ports.env()...)
	all = append(append(all, env...), e.Env...)
	node := &Node{Role: role, Ports: ports}
	process, err := Start(ctx, Program{
		Name: name, Path: e.Binary, Args: args, Env: all, Dir: dir,
		Ready: func(ctx context.Context, _ *Process) error { return node.ready(ctx) },
	})
	if err != nil {
		return nil, err
	}
	node.Process = process
	return node, nil
}

// ready asks /ready once.
func (n *Node) ready(ctx context.Context) error {
	status, body, err := n.Get(ctx, "/ready")
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("/ready answers %d: %s", status, strings.TrimSpace(body))
	}
	return nil
}

func workDir(dir string) (string, error) {
	if dir == "" {
		return os.MkdirTemp("", "erlmcp-cluster-")
	}
	return filepath.Abs(dir)
}
