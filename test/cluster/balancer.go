package cluster

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httputil"
	"sync/atomic"
	"time"
)

// Balancer is an HTTP reverse proxy that gives each request to the next target in turn, and passes over targets
// that refuse connections. It keeps no affinity whatsoever: what works behind it works at any replica.
type Balancer struct {
	targets  []string
	turn     atomic.Uint64
	listener net.Listener
	server   *http.Server
	served   chan struct{}
}

// Balance starts a balancer on a free port of 127.0.0.1, in this process, over targets given as host:port.
func Balance(targets ...string) (*Balancer, error) {
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
	return b, nil
}

// Address is the balancer's host:port.
func (b *Balancer) Address() string { return b.listener.Addr().String() }

// Close ends the balancer and every connection through it.
func (b *Balancer) Close() {
	_ = b.server.Close()
	<-b.served
}

func (b *Balancer) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	first := b.turn.Add(1)
	var failed []error
	for i := range uint64(len(b.targets)) {
		conn, err := new(net.Dialer).DialContext(ctx, network, b.targets[(first+i)%uint64(len(b.targets))])
		if err == nil {
			return conn, nil
		}
		failed = append(failed, err)
	}
	return nil, errors.Join(failed...)
}
