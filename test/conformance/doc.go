// Package conformance runs the official MCP conformance suite (npm @modelcontextprotocol/conformance) against an
// endpoint, for every revision the suite knows, and says what passed.
//
// It must not know erlmcp: command conformance (cmd/conformance) starts what is tested and gives a URL.
//
// The suite and its Node are pinned in suite/package.json and installed once per build directory. What may fail
// is named in baseline.txt, each line with its reason. Start reading at [Install] and [Suite.Run].
package conformance
