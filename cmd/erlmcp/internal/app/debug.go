package app

import (
	"io"
	"net/http"
	"net/http/pprof"
	"strings"

	"erlmcp.dev/gateway/transport/guard"
	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/shared/telemetry"
)

// debug serves what only administrators may look at, beside the probes: /debug/pprof/, the profiles of net/http/pprof,
// and /debug/log-level, which GET reads and PUT changes until the process ends.
func (p *process) debug() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /debug/log-level", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.ToLower(p.level.Level().String())+"\n")
	})
	mux.HandleFunc("PUT /debug/log-level", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64))
		if err != nil {
			http.Error(w, "send the level alone: debug, info, warn or error", http.StatusBadRequest)
			return
		}
		level, err := telemetry.ParseLevel(strings.TrimSpace(string(body)))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		was := p.level.Level()
		p.level.Set(level)
		p.log.Warn("the log level was changed", "from", was, "to", level)
		w.WriteHeader(http.StatusNoContent)
	})
	g := &guard.Guard{Authenticator: p.authn, Hosts: p.cfg.Auth.Hosts, Origins: p.cfg.Auth.Origins}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		principal, ok := g.Admit(w, r)
		switch {
		case !ok:
		case principal.Role != registryv1.Role_ROLE_ADMIN:
			guard.Refuse(w, http.StatusForbidden, "this needs the role admin")
		default:
			mux.ServeHTTP(w, r)
		}
	})
}
