package discovery

import (
	"context"
	"sync"

	"google.golang.org/protobuf/proto"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/services/registry/store"
)

// Run keeps asking all servers until ctx ends. Only one process should run it at a time; where two do, for a while,
// they cost servers some more questions and nothing else.
func (d *Discovery) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	running := map[string]*loop{}
	for first := true; ; first = false {
		servers, changed := d.config.Servers.Servers()
		gone := running
		running = make(map[string]*loop, len(servers))
		for _, s := range servers {
			name := s.Spec.GetName()
			l := gone[name]
			if l == nil || !proto.Equal(l.server.Spec, s.Spec) {
				// One that was just registered was asked then. At the start all are: nobody listened before.
				l = d.start(ctx, &wg, s, first)
			} else {
				delete(gone, name)
				if s.State == registryv1.ServerState_SERVER_STATE_CONFLICT {
					l.kick() // perhaps the other one gave the name up
				}
			}
			running[name] = l
		}
		for _, l := range gone {
			l.cancel()
		}
		select {
		case <-ctx.Done():
			return // the loops' contexts are its children
		case <-changed:
		}
	}
}

func (d *Discovery) start(ctx context.Context, wg *sync.WaitGroup, s *store.Server, atOnce bool) *loop {
	ctx, cancel := context.WithCancel(ctx)
	l := &loop{Discovery: d, server: s, cancel: cancel, kicked: make(chan struct{}, 1), log: d.config.Log.With("server", s.Spec.GetName())}
	wg.Go(func() {
		defer cancel()
		l.run(ctx, atOnce)
	})
	return l
}
