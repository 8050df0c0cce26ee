package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?\.?$`)

func isHost(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	return hostName.MatchString(s)
}

func isHostPort(s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil || !isHost(host) {
		return false
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return err == nil
}

// isTarget reports whether gRPC could dial s: host:port, or scheme:... for one of its resolvers.
func isTarget(s string) bool {
	for _, scheme := range []string{"dns:", "passthrough:", "unix:", "unix-abstract:", "ipv4:", "ipv6:", "xds:"} {
		if rest, ok := strings.CutPrefix(s, scheme); ok {
			return rest != "" && !strings.ContainsAny(s, " \t")
		}
	}
	return isHostPort(s)
}

func within(v, low, high int) (problem, fix string) {
	if v < low || v > high {
		return fmt.Sprintf("%d is out of range", v), fmt.Sprintf("give %d to %d", low, high)
	}
	return "", ""
}

func notZero(port int) (problem, fix string) {
	if port == 0 {
		return "0 is no port of a server", "give the port that it listens on"
	}
	return "", ""
}

func durationWithin(v, low, high time.Duration) (problem, fix string) {
	if v < low || v > high {
		return trimDuration(v) + " is out of range", "give " + trimDuration(low) + " to " + trimDuration(high)
	}
	return "", ""
}

// allowList checks names that requests may carry: hosts with or without port, and for origins with a scheme too.
func allowList(list []string, origins bool) (problem, fix string) {
	for _, entry := range list {
		rest := entry
		if origins && strings.Contains(entry, "://") {
			u, err := url.Parse(entry)
			if err != nil || u.Host == "" || (u.Path != "" && u.Path != "/") || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
				return quote(entry) + " is no origin", "write scheme and host only, such as https://app.example.com"
			}
			rest = u.Host
		}
		if rest == "*" || isHost(rest) || isHostPort(rest) {
			continue
		}
		if origins {
			return quote(entry) + " is no origin", "write one such as https://app.example.com, or *"
		}
		return quote(entry) + " is no host", "write a name such as mcp.example.com, or *"
	}
	return "", ""
}
