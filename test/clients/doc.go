// Package clients holds clients that others wrote, each made to run the same errand at an endpoint: list, call,
// read, be asked something, report progress. What they see must be the same wherever they come from and whatever
// they speak. It also holds servers that others wrote, to stand behind erlmcp.
//
// It must not know erlmcp: it is given URLs and commands. The clients are pinned in packages/package.json and
// go.mod. Start reading at [Seen] and [All].
package clients
