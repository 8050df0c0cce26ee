package config

import (
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
)

// Effective is a setting's value as it holds, fit to be shown.
type Effective struct {
	Key string
	// Value, "***" for a secret.
	Value string
	// Origin of the value.
	Origin Origin
}

// Effective lists all settings with their values and where these came from. It shows no secret.
func (c *Config) Effective() []Effective {
	settings := Settings()
	list := make([]Effective, 0, len(settings))
	for i := range settings {
		s := &settings[i]
		e := Effective{Key: s.Key, Value: s.show(c), Origin: c.origins[s.Key]}
		if e.Origin.Layer == "" || e.Origin.Layer == FromDefault {
			e.Origin = Origin{Layer: FromDefault}
			if s.Secret() {
				e.Value = "" // worked out from other settings, which are shown
			}
		}
		list = append(list, e)
	}
	return list
}

// Print writes the effective settings and declared servers as tables. It shows no secret.
func (c *Config) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "SETTING\tVALUE\tFROM")
	for _, e := range c.Effective() {
		from := string(e.Origin.Layer)
		if e.Origin.Place != "" {
			from += " " + strings.TrimSuffix(e.Origin.Place, " "+e.Key)
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\n", e.Key, e.Value, from)
	}
	if len(c.Servers) > 0 {
		_, _ = fmt.Fprintln(t, "\nSERVER\tKIND\tWHERE")
	}
	for _, s := range c.Servers {
		kind, where := describe(s)
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\n", s.GetName(), kind, where)
	}
	return t.Flush()
}

// describe says where a server is, without what may be secret: headers, variables, a URL's user and query.
func describe(s *registryv1.Server) (kind, where string) {
	switch {
	case s.GetHttp() != nil:
		u, err := url.Parse(s.GetHttp().GetUrl())
		if err != nil {
			return "http", masked
		}
		u.User, u.RawQuery, u.Fragment = nil, "", ""
		return "http", u.String()
	case s.GetStdio() != nil:
		return "stdio", s.GetStdio().GetCommand()[0]
	case s.GetGrpc() != nil:
		services := slices.Clone(s.GetGrpc().GetServices())
		return "grpc", strings.Join(append([]string{s.GetGrpc().GetTarget()}, services...), " ")
	}
	return "", ""
}
