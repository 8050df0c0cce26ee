package rpc

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"time"

	"google.golang.org/grpc/resolver"
)

// names resolves dns:///name:port to all addresses of the name. gRPC's own resolver looks again only when a connection
// broke, and at most each half a minute, or two minutes after failures: replicas that are added would get no calls, and
// those that moved would be missed for that long. This one looks again every lookEvery too, so that it finds what is added,
// and at most lookAtMost apart where a connection broke.
type names struct {
	lookup                func(ctx context.Context, host string) ([]string, error)
	lookEvery, lookAtMost time.Duration
}

// lookupTimeout bounds one lookup.
const lookupTimeout = 5 * time.Second

func newNames() *names {
	return &names{lookup: net.DefaultResolver.LookupHost, lookEvery: 10 * time.Second, lookAtMost: time.Second}
}

// Scheme implements resolver.Builder.
func (*names) Scheme() string { return "dns" }

// Build implements resolver.Builder.
func (n *names) Build(target resolver.Target, conn resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	host, port, err := net.SplitHostPort(target.Endpoint())
	if err != nil || host == "" || target.URL.Host != "" {
		return nil, fmt.Errorf("%s is no address; give dns:///name:port", target.String())
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &nameWatch{names: n, host: host, port: port, conn: conn, again: make(chan struct{}, 1), cancel: cancel, done: make(chan struct{})}
	go w.run(ctx)
	return w, nil
}

// nameWatch keeps the addresses of one name up to date.
type nameWatch struct {
	names      *names
	host, port string
	conn       resolver.ClientConn
	again      chan struct{} // has one while someone waits for a lookup
	cancel     context.CancelFunc
	done       chan struct{}
}

// ResolveNow implements resolver.Resolver.
func (w *nameWatch) ResolveNow(resolver.ResolveNowOptions) {
	select {
	case w.again <- struct{}{}:
	default:
	}
}

// Close implements resolver.Resolver.
func (w *nameWatch) Close() {
	w.cancel()
	<-w.done
}

func (w *nameWatch) run(ctx context.Context) {
	defer close(w.done)
	var known []string
	for {
		found, err := w.look(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && known == nil:
			w.conn.ReportError(fmt.Errorf("look up %s: %w", w.host, err))
		case err == nil && !slices.Equal(found, known): // what can't be looked up for now stays as it was
			known = found
			_ = w.conn.UpdateState(state(known)) // an error says to look again, which is done anyway
		}
		pause(ctx, w.names.lookAtMost)
		// Processes that start together are not to ask together.
		wait := time.NewTimer(w.names.lookEvery/2 + rand.N(w.names.lookEvery))
		select {
		case <-ctx.Done():
		case <-w.again:
		case <-wait.C:
		}
		wait.Stop()
	}
}

// look returns the addresses, with the port, in order; an error where there are none.
func (w *nameWatch) look(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	hosts, err := w.names.lookup(ctx, w.host)
	if err != nil {
		return nil, err
	}
	if len(hosts) == 0 {
		return nil, fmt.Errorf("the name %s has no address", w.host)
	}
	addresses := make([]string, len(hosts))
	for i, h := range hosts {
		addresses[i] = net.JoinHostPort(h, w.port)
	}
	slices.Sort(addresses)
	return slices.Compact(addresses), nil
}

func state(addresses []string) resolver.State {
	var s resolver.State
	for _, a := range addresses {
		s.Addresses = append(s.Addresses, resolver.Address{Addr: a})
	}
	return s
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
