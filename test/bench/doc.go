// Package bench measures what a hop costs: the same MCP calls are driven to a bare server, through a plain
// httputil.ReverseProxy in front of it, and through erlmcp. All run as processes of their own on one machine, and
// take turns in short rounds, so that whatever else the machine does falls on all of them alike. Absolute numbers
// belong to the machine; the ratios are what counts.
//
// It must not know erlmcp's inside: a [Target] is a URL, and the processes whose work is counted.
//
// Start reading at [Plan.Run]. The load client (conn.go) is made to cost little, and checks every answer; the
// server (upstream.go) and the proxy (proxy.go) are run by command bench (cmd/bench) as its own subcommands.
package bench
