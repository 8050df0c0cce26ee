package cluster

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httputil"
	"sync"
	"sync/atomic"
	"time"
)

// Balancer is an HTTP reverse proxy that gives each request to the next target in turn, and passes over targets
// that refuse connections, or that said last that they are not ready. It keeps no affinity whatsoever: what works behind
// it works at any replica.
type Balancer struct {
	targets  []*Target
	turn     atomic.Uint64
	listener net.Listener
	server   *http.Server
	served   chan struct{}
	looking  sync.WaitGroup
	stop     context.CancelFunc
}

// Target is one that a balancer gives requests to.
type Target struct {
	// Address is its host:port.
	Address string
	// Health is the host:port where it answers /ready; empty where it isn't asked.
	Health string

	away atomic.Bool
}

// lookEvery is how often a target is asked whether it is ready.
const lookEvery = 200 * time.Millisecond

// Balance starts a balancer on a free port of 127.0.0.1, in this process, over targets.
func Balance(targets ...*Target) (*Balancer, error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b := &Balancer{targets: targets, listener: listener, served: make(chan struct{})}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", "next" // dial chooses
			r.Out.Host = r.In.Host                            // as the client wrote it: the gateway checks it
		},
		FlushInterval: -1, // events at once
		Transport: &http.Transport{
			DialContext:        b.dial,
			DisableKeepAlives:  true, // a connection is chosen, not a request: one each
			DisableCompression: true,
		},
	}
	// Without full duplex the server may close the request's body, and with it the exchange, while an answer is
	// still being passed on.
	duplex := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex() // HTTP/1 has it
		proxy.ServeHTTP(w, r)
	})
	b.server = &http.Server{Handler: duplex, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(b.served)
		_ = b.server.Serve(listener)
	}()
	ctx, stop := context.WithCancel(context.Background())
	b.stop = stop
	for _, target := range targets {
		if target.Health != "" {
			b.looking.Go(func() { target.look(ctx) })
		}
	}
	return b, nil
}

// look asks a target whether it is ready, over and over. What it said last counts, while it refuses connections too: then
// it is passed over when it is dialled.
func (t *Target) look(ctx context.Context) {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for ctx.Err() == nil {
		if r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+t.Health+"/ready", nil); err == nil {
			if answer, err := client.Do(r); err == nil {
				_ = answer.Body.Close()
				t.away.Store(answer.StatusCode != http.StatusOK)
			} else if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
				t.away.Store(true)
			}
		}
		select {
		case <-time.After(lookEvery):
		case <-ctx.Done():
		}
	}
}

// Address is the balancer's host:port.
func (b *Balancer) Address() string { return b.listener.Addr().String() }

// Close ends the balancer and every connection through it.
func (b *Balancer) Close() {
	_ = b.server.Close()
	<-b.served
	b.stop()
	b.looking.Wait()
}

func (b *Balancer) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	first := b.turn.Add(1)
	var failed []error
	for _, away := range []bool{false, true} { // better one that is not ready than none
		for i := range uint64(len(b.targets)) {
			target := b.targets[(first+i)%uint64(len(b.targets))]
			if target.away.Load() != away {
				continue
			}
			conn, err := new(net.Dialer).DialContext(ctx, network, target.Address)
			if err == nil {
				return conn, nil
			}
			failed = append(failed, err)
		}
	}
	return nil, errors.Join(failed...)
}
