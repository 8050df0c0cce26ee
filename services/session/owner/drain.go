package owner

import (
	"context"
	"slices"
	"time"

	"erlmcp.dev/services/session/store"
)

// awayTime is how long a session that was drained is left to other owners.
const awayTime = 5 * time.Second

// Drain hands one session over, as if this process stopped: ErrNotFound, ErrStore, *MovedError. Other owners that live
// have awayTime to adopt it; then it may come back here.
func (o *Owner) Drain(ctx context.Context, id string) error {
	s, err := o.session(ctx, id)
	if err != nil {
		return err
	}
	nodes, err := o.config.Store.Nodes(ctx)
	if err != nil {
		return ErrStore
	}
	others := slices.ContainsFunc(nodes, func(n store.Node) bool { return n.Name != o.config.Node.Name })
	// Calls have their time whether or not whoever asked waits for it.
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.config.Drain)
	defer cancel()
	if others {
		o.mu.Lock()
		if o.away == nil {
			o.away = map[string]time.Time{}
		}
		for other, until := range o.away {
			if time.Now().After(until) {
				delete(o.away, other)
			}
		}
		o.away[id] = time.Now().Add(o.config.Drain + awayTime)
		o.mu.Unlock()
	}
	o.handOver(drain, s)
	if others {
		o.mu.Lock()
		o.away[id] = time.Now().Add(awayTime)
		o.mu.Unlock()
	}
	return nil
}

// isAway reports whether a session is left to other owners.
func (o *Owner) isAway(id string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return time.Now().Before(o.away[id])
}
