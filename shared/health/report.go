package health

import "time"

// States of the whole.
const (
	Healthy   = "healthy"   // every condition holds
	Degraded  = "degraded"  // a condition does not hold that is not critical, or not for long yet
	Unhealthy = "unhealthy" // a critical condition has not held for longer than its patience
)

// Report is the answer of /health.
type Report struct {
	Status       string                `json:"status"`
	Dependencies map[string]Dependency `json:"dependencies"`
}

// Dependency is the state of one condition.
type Dependency struct {
	// Status is Healthy or Unhealthy.
	Status   string `json:"status"`
	Critical bool   `json:"critical"`
	// Error says what is wrong, in words for anyone.
	Error string `json:"error,omitempty"`
	// Since is when it was last seen well, or the process began; absent while it is well.
	Since *time.Time `json:"since,omitempty"`
	// CheckedAt is when the last check ended; absent before the first.
	CheckedAt *time.Time `json:"checked_at,omitempty"`
	// Millis is how long that check took.
	Millis float64 `json:"duration_ms"`
}

// Readiness is the answer of /ready.
type Readiness struct {
	Ready    bool `json:"ready"`
	Draining bool `json:"draining"`
	// Reasons why not, by condition.
	Reasons map[string]string `json:"reasons,omitempty"`
}

// Report tells how the process and its dependencies do.
func (h *Checker) Report() Report {
	r := Report{Status: Healthy, Dependencies: make(map[string]Dependency, len(h.conditions))}
	now := time.Now()
	for _, w := range h.conditions {
		o := w.outcome(now, h.oldest())
		d := Dependency{Status: Healthy, Critical: w.Critical, Millis: float64(o.took.Microseconds()) / 1000}
		if !o.at.IsZero() {
			at := o.at.UTC().Truncate(time.Millisecond)
			d.CheckedAt = &at
		}
		if o.problem != "" {
			since := o.held.UTC().Truncate(time.Millisecond)
			d.Status, d.Error, d.Since = Unhealthy, string(o.problem), &since
			switch {
			case w.Critical && now.Sub(o.held) >= w.Patience:
				r.Status = Unhealthy
			case r.Status == Healthy:
				r.Status = Degraded
			}
		}
		r.Dependencies[w.Name] = d
	}
	return r
}

func (h *Checker) readiness() Readiness {
	draining := h.draining.Load()
	r := Readiness{Ready: !draining, Draining: draining}
	now := time.Now()
	for _, w := range h.conditions {
		if !w.Ready {
			continue
		}
		if o := w.outcome(now, h.oldest()); o.problem != "" {
			if r.Reasons == nil {
				r.Reasons = make(map[string]string)
			}
			r.Ready, r.Reasons[w.Name] = false, string(o.problem)
		}
	}
	return r
}

// oldest is the age beyond which an outcome counts no longer: a round and its timeout, and a second of grace.
func (h *Checker) oldest() time.Duration { return h.interval + h.timeout + time.Second }
