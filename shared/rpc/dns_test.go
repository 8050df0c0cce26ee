package rpc

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	grpcpeer "google.golang.org/grpc/peer"

	"erlmcp.dev/shared/testkit"
)

// zone is what a DNS server says of one name.
type zone struct {
	mu    sync.Mutex
	hosts []string
	err   error
	asked int
}

func (z *zone) set(err error, hosts ...string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.hosts, z.err = hosts, err
}

func (z *zone) lookup(_ context.Context, host string) ([]string, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.asked++
	if host != "services.test" {
		return nil, fmt.Errorf("asked for %s", host)
	}
	return z.hosts, z.err
}

func (z *zone) lookups() int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.asked
}

// serveHealth serves at a port of several hosts of this machine; port is 0 for any. stop ends one host's.
func serveHealth(t *testing.T, port string, hosts ...string) (at string, stop map[string]func()) {
	t.Helper()
	stop = map[string]func(){}
	for _, host := range hosts {
		l, err := net.Listen("tcp", net.JoinHostPort(host, port))
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ = net.SplitHostPort(l.Addr().String())
		s := grpc.NewServer()
		healthv1.RegisterHealthServer(s, health.NewServer())
		done := make(chan struct{})
		go func() { defer close(done); _ = s.Serve(l) }() // a stopped one says so
		stop[host] = sync.OnceFunc(func() { s.Stop(); <-done })
		t.Cleanup(stop[host])
	}
	return port, stop
}

// caller calls a name, and finds out who answers.
type caller struct{ client healthv1.HealthClient }

func newCaller(t *testing.T, n *names, port string) caller {
	t.Helper()
	conn, err := grpc.NewClient("dns:///services.test:"+port, grpc.WithResolvers(n), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`), grpc.WithNoProxy())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return caller{healthv1.NewHealthClient(conn)}
}

func (c caller) call(ctx context.Context) (host string, err error) {
	var at grpcpeer.Peer
	if _, err := c.client.Check(ctx, &healthv1.HealthCheckRequest{}, grpc.Peer(&at)); err != nil {
		return "", err
	}
	host, _, err = net.SplitHostPort(at.Addr.String())
	return host, err
}

// reaches waits until calls go to just the hosts that are wanted.
func (c caller) reaches(t *testing.T, when string, want ...string) {
	t.Helper()
	testkit.Eventually(t, func() error {
		got := map[string]bool{}
		for range 12 {
			host, err := c.call(t.Context())
			if err != nil {
				return err
			}
			got[host] = true
		}
		if hosts := slices.Sorted(maps.Keys(got)); !slices.Equal(hosts, want) {
			return fmt.Errorf("%s: calls go to %v", when, hosts)
		}
		return nil
	}, 10*time.Second)
}

func TestANameIsItsAddressesAsTheyCome(t *testing.T) {
	port, _ := serveHealth(t, "0", "127.0.0.1", "127.0.0.2", "127.0.0.3")
	z := &zone{err: errors.New("the DNS is away")}
	c := newCaller(t, &names{lookup: z.lookup, lookEvery: 20 * time.Millisecond, lookAtMost: time.Millisecond}, port)
	if _, err := c.call(t.Context()); err == nil {
		t.Error("a call went somewhere though the name has no address")
	}
	z.set(nil, "127.0.0.1", "127.0.0.1")
	c.reaches(t, "the name is found", "127.0.0.1")
	z.set(nil, "127.0.0.3", "127.0.0.1", "127.0.0.2")
	c.reaches(t, "two are added, and no connection broke", "127.0.0.1", "127.0.0.2", "127.0.0.3")
	z.set(nil, "127.0.0.2", "127.0.0.3")
	c.reaches(t, "one is taken away", "127.0.0.2", "127.0.0.3")
	for _, away := range []error{errors.New("the DNS is away"), nil} { // or says that there are none
		z.set(away)
		since := z.lookups()
		testkit.Eventually(t, func() bool { return z.lookups() > since+2 }, 10*time.Second)
		c.reaches(t, "what is known holds while nothing is found", "127.0.0.2", "127.0.0.3")
	}
}

func TestANameIsLookedUpOnceAConnectionBreaks(t *testing.T) {
	port, stop := serveHealth(t, "0", "127.0.0.1", "127.0.0.2")
	z := &zone{hosts: []string{"127.0.0.1"}}
	c := newCaller(t, &names{lookup: z.lookup, lookEvery: time.Hour, lookAtMost: time.Millisecond}, port)
	c.reaches(t, "at first", "127.0.0.1")
	z.set(nil, "127.0.0.2")
	stop["127.0.0.1"]()
	c.reaches(t, "it moved", "127.0.0.2")
}

func TestNamesThatCannotBeLookedUpAreRefused(t *testing.T) {
	for _, target := range []string{"dns:///services.test", "dns:///:9101", "dns://1.1.1.1/services.test:9101"} {
		conn, err := Dial(target, ClientConfig{})
		if err != nil {
			continue
		}
		_, err = healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{})
		if err == nil {
			t.Errorf("%s was called", target)
		}
		_ = conn.Close()
	}
}
