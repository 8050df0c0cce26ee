// Package cli is erlmcp's command line: commands that run roles, look at the configuration, and talk to a running
// erlmcp over gRPC or its health port. It must not know how roles are built; it hands them to [System].Run.
//
// A command that was used wrongly ends with 2, one that failed with 1, each with one line on standard error that
// says what to do. Start at [Main].
package cli
