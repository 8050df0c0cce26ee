package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"erlmcp.dev/cmd/erlmcp/internal/build"
	"erlmcp.dev/shared/config"
)

// maxStatus is the longest answer that is read from the health port.
const maxStatus = 4 << 20

// healthClient asks the health port of a running erlmcp.
type healthClient struct {
	system  *System
	addr    string
	timeout time.Duration
}

// healthFlags adds what all commands share that ask the health port.
func healthFlags(s *System, c *cobra.Command) *healthClient {
	h := &healthClient{system: s}
	c.Args = takes(0, 0, "")
	c.Flags().StringVar(&h.addr, "health-addr", "", "`host:port` of the health port (default: 127.0.0.1 and the configured port)")
	c.Flags().DurationVar(&h.timeout, "timeout", 5*time.Second, "longest time to wait")
	return h
}

// get reads one of the health port's pages.
func (h *healthClient) get(ctx context.Context, path string) (status int, body []byte, err error) {
	return h.ask(ctx, http.MethodGet, path, "", "")
}

// ask sends a request to the health port, with a key where there is one.
func (h *healthClient) ask(ctx context.Context, method, path, key, content string) (status int, body []byte, err error) {
	addr := h.addr
	if addr == "" {
		port, err := config.Lookup(config.Source{Search: searchPath(), Environ: h.system.Environ}, "ports.health")
		if err != nil {
			return 0, nil, err
		}
		if port == "0" {
			return 0, nil, errors.New("the health port is picked by the system (0); give --health-addr with the one that erlmcp printed at its start")
		}
		addr = net.JoinHostPort("127.0.0.1", port)
	}
	ctx, cancel := context.WithTimeout(ctx, h.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+addr+path, strings.NewReader(content))
	if err != nil {
		return 0, nil, usagef("--health-addr %q is no host:port", addr)
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	// A transport of its own, so that no proxy is asked and no connection stays.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return 0, nil, fmt.Errorf("nothing listens at %s; start erlmcp, or give its --health-addr", addr)
	case errors.Is(err, context.DeadlineExceeded):
		return 0, nil, fmt.Errorf("no answer from %s within %s; erlmcp hangs, or --health-addr is another's", addr, h.timeout)
	case err != nil:
		return 0, nil, fmt.Errorf("ask %s: %w", addr, err)
	}
	defer func() { _ = resp.Body.Close() }() // read whole
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxStatus))
	if err != nil {
		return 0, nil, fmt.Errorf("read the answer of %s: %w", addr, err)
	}
	return resp.StatusCode, body, nil
}

// status reads /status as JSON.
func (h *healthClient) status(ctx context.Context) (map[string]any, error) {
	code, body, err := h.get(ctx, "/status")
	if err != nil {
		return nil, err
	}
	var status map[string]any
	if err := json.Unmarshal(body, &status); err != nil || code != http.StatusOK {
		return nil, fmt.Errorf("/status answered %d, and no erlmcp answers so; is --health-addr right?", code)
	}
	return status, nil
}

func pingCommand(s *System) *cobra.Command {
	c := &cobra.Command{
		Use: "ping", Short: "Say pong when erlmcp on this host is well",
		Long:    "Ask the health port: prints pong and ends with 0 when erlmcp is healthy or degraded; else says why and ends with 1.",
		Example: "  erlmcp ping && echo alive",
	}
	h := healthFlags(s, c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		code, body, err := h.get(cmd.Context(), "/health")
		if err != nil {
			return err
		}
		if code != http.StatusOK {
			return fmt.Errorf("unhealthy (%d): %s", code, body)
		}
		_, err = fmt.Fprintln(s.Out, "pong")
		return err
	}
	return c
}

func logLevelCommand(s *System) *cobra.Command {
	var key string
	c := &cobra.Command{
		Use: "log-level [debug|info|warn|error]", Short: "Show or change how much erlmcp logs, while it runs",
		Long:    "Ask the health port for the log level, or change it until the process ends. Each process has its own; it takes an administrator's key where anonymous callers are not let in.",
		Example: "  erlmcp log-level\n  erlmcp log-level debug --health-addr 127.0.0.1:9090",
	}
	h := healthFlags(s, c)
	c.Args = takes(0, 1, "a level")
	c.Flags().StringVar(&key, "key", "", "API `key` with the role admin (ERLMCP_API_KEY, which other users can't see)")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		method, level := http.MethodGet, ""
		if len(args) == 1 {
			method, level = http.MethodPut, args[0]
		}
		if key == "" {
			var err error
			if key, err = s.apiKey(); err != nil {
				return err
			}
		}
		code, body, err := h.ask(cmd.Context(), method, "/debug/log-level", key, level)
		switch {
		case err != nil:
			return err
		case code == http.StatusNoContent:
			return nil
		case code == http.StatusOK:
			_, err = s.Out.Write(body)
			return err
		case code == http.StatusUnauthorized, code == http.StatusForbidden:
			return errors.New("this needs an administrator's key: give --key or ERLMCP_API_KEY")
		}
		return fmt.Errorf("refused (%d): %s", code, bytes.TrimSpace(body))
	}
	return c
}

func statusCommand(s *System) *cobra.Command {
	var output string
	c := &cobra.Command{
		Use: "status", Short: "Show what the erlmcp on this host is and does",
		Example: "  erlmcp status\n  erlmcp status -o json",
	}
	h := healthFlags(s, c)
	outputFlag(c, &output)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkOutput(output); err != nil {
			return err
		}
		status, err := h.status(cmd.Context())
		if err != nil {
			return err
		}
		if output == "json" {
			enc := json.NewEncoder(s.Out)
			enc.SetIndent("", "  ")
			return enc.Encode(status)
		}
		return printTree(s.Out, status)
	}
	return c
}

func getpidCommand(s *System) *cobra.Command {
	c := &cobra.Command{
		Use: "getpid", Short: "Print the process id of the erlmcp on this host",
		Example: "  kill -TERM \"$(erlmcp getpid)\"",
	}
	h := healthFlags(s, c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		status, err := h.status(cmd.Context())
		if err != nil {
			return err
		}
		pid, ok := status["pid"].(float64)
		if !ok {
			return errors.New("/status tells no pid; is --health-addr right?")
		}
		_, err = fmt.Fprintln(s.Out, strconv.FormatFloat(pid, 'f', -1, 64))
		return err
	}
	return c
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Aliases: []string{"versions"}, Short: "Print the version of this program", Args: takes(0, 0, ""),
		Example: "  erlmcp version",
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "erlmcp %s\ncommit %s\nbuilt  %s\ngo     %s\n", build.Version, build.Revision(), build.Built(), build.Go())
			return err
		},
	}
}
