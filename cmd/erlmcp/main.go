// Command erlmcp is all of erlmcp: it runs the services, in one process or many, and looks after them.
package main

import (
	"os"

	"erlmcp.dev/cmd/erlmcp/internal/app"
	"erlmcp.dev/cmd/erlmcp/internal/cli"
)

func main() {
	os.Exit(cli.Main(cli.System{Run: app.Run, RunStdio: app.RunStdio, WatchPrograms: app.WatchPrograms, Migrate: app.Migrate, Backup: app.Backup, Args: os.Args[1:], Environ: os.Environ(), In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
