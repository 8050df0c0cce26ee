// Package build tells which erlmcp this is. The build sets its variables: -ldflags "-X .../internal/build.Commit=...".
package build

import (
	"cmp"
	"runtime"
	"runtime/debug"
)

// Set by the linker.
var (
	Version = "3.0.0"
	Commit  = ""
	Date    = ""
)

// Revision is the commit that was built, or "unknown".
func Revision() string {
	if Commit != "" {
		return Commit
	}
	if b, ok := debug.ReadBuildInfo(); ok {
		for _, s := range b.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return "unknown"
}

// Built is when this was built, or "unknown".
func Built() string { return cmp.Or(Date, "unknown") }

// Go is the toolchain and platform that this was built with.
func Go() string { return runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH }
