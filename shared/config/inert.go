package config

import (
	"fmt"
	"strings"
)

// Inert are settings that are accepted and do nothing, each with its value and the reason, by the variable that sets it.
func (c *Config) Inert() map[string]string {
	inert := map[string]string{
		"ERL_FULLSWEEP_AFTER": fmt.Sprintf("%d: no effect, Go's collector has nothing like it; set GOGC or GOMEMLIMIT instead", c.FullsweepAfter),
	}
	if _, ignored := erlFlags(c.Cluster.Flags); len(ignored) > 0 {
		names := make([]string, len(ignored)) // without their values, which may be secrets
		for i, flag := range ignored {
			names[i] = plain(flag)
		}
		inert["ERL_AFLAGS"] = strings.Join(names, " ") + ": no effect, these flags mean nothing to erlmcp"
	}
	return inert
}
