package health

import (
	"encoding/json"
	"net/http"
	"os"
	"time"
)

// Status is the answer of /status. The handler fills in what it knows itself: uptime, PID and dependencies.
type Status struct {
	Version string   `json:"version"`
	Node    string   `json:"node"`
	Roles   []string `json:"roles"`
	// Uptime is in whole seconds.
	Uptime int64 `json:"uptime_seconds"`
	PID    int   `json:"pid"`
	// Sessions that this process holds.
	Sessions int `json:"sessions"`
	// ClusterNodes live, as this one knows.
	ClusterNodes int `json:"cluster_nodes"`
	// CatalogVersion of the catalogue in use; 0 before the first.
	CatalogVersion uint64 `json:"catalog_version"`
	// Ports that really listen, by what listens there.
	Ports map[string]int `json:"ports"`
	// Programs that this process runs for sessions; nil where it runs none.
	Programs *Programs `json:"programs,omitempty"`
	// Settings that need a word, such as one that is accepted and does nothing.
	Settings map[string]string `json:"settings,omitempty"`
	Report
}

// Programs are servers on standard streams, as their owner sees them.
type Programs struct {
	// Running is how many run, Most how many may.
	Running int `json:"running"`
	Most    int `json:"most"`
	// Resting are servers whose program ended soon after its start, several times in a row, so that it is not started
	// at every call: how often that was. What the programs wrote is not for everyone who may read this.
	Resting map[string]int `json:"resting,omitempty"`
}

// HandlerConfig is what the endpoints show.
type HandlerConfig struct {
	Checker *Checker
	// Started is when the process did.
	Started time.Time
	// Status is asked at each /status; it must be quick and hold no secrets.
	Status func() Status
	// Metrics serves /metrics.
	Metrics http.Handler
	// Debug serves what begins with /debug/. It must ask who wants to know.
	Debug http.Handler
}

// Handler serves /health, /ready, /status, /metrics and /debug/. Where Status, Metrics or Debug is nil its path is not
// found.
func Handler(c HandlerConfig) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		r := c.Checker.Report()
		answer(w, r.Status != Unhealthy, r)
	})
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		r := c.Checker.readiness()
		answer(w, r.Ready, r)
	})
	if c.Status != nil {
		mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
			s := c.Status()
			s.Uptime, s.PID, s.Report = int64(time.Since(c.Started)/time.Second), os.Getpid(), c.Checker.Report()
			answer(w, true, s)
		})
	}
	if c.Metrics != nil {
		mux.Handle("GET /metrics", c.Metrics)
	}
	if c.Debug != nil {
		mux.Handle("/debug/", c.Debug)
	}
	return mux
}

func answer(w http.ResponseWriter, well bool, body any) {
	b, err := json.MarshalIndent(body, "", "  ")
	if err != nil { // our own types: cannot be
		http.Error(w, "the answer could not be encoded", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if !well {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, _ = w.Write(append(b, '\n')) // a client that left needs no answer
}
