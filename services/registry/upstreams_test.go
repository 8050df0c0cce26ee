package registry_test

import (
	"context"
	"errors"
	"fmt"
	"sync"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
)

// upstreams are the servers of a test; it is their Discoverer.
type upstreams struct {
	mu      sync.Mutex
	offers  map[string]*registryv1.Offer
	asked   map[string]int
	asking  map[string]int
	most    map[string]int // asked at a time
	changed map[string]map[*func()]struct{}
	hang    map[string]bool
	broken  map[string]chan struct{} // closed and replaced when subscriptions break
}

func newUpstreams() *upstreams {
	return &upstreams{
		offers: map[string]*registryv1.Offer{}, asked: map[string]int{}, asking: map[string]int{}, most: map[string]int{},
		changed: map[string]map[*func()]struct{}{}, hang: map[string]bool{}, broken: map[string]chan struct{}{},
	}
}

func offer(tools ...string) *registryv1.Offer {
	o := &registryv1.Offer{Eras: []registryv1.Era{registryv1.Era_ERA_MODERN}}
	for _, tool := range tools {
		o.Tools = append(o.Tools, &registryv1.Item{Key: tool, Json: fmt.Appendf(nil, `{"name":%q}`, tool)})
	}
	return o
}

// offer sets what a server offers; without a call it does not answer.
func (u *upstreams) offer(name string, tools ...string) { u.set(name, offer(tools...)) }

// set sets a server's offer; nil makes it silent.
func (u *upstreams) set(name string, o *registryv1.Offer) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.offers[name] = o
}

// tell lets a server say that its offer changed.
func (u *upstreams) tell(name string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for changed := range u.changed[name] {
		(*changed)()
	}
}

// hangs makes a server answer nothing at all.
func (u *upstreams) hangs(name string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.hang[name] = true
}

// cut breaks the subscriptions to a server.
func (u *upstreams) cut(name string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	close(u.broken[name])
	u.broken[name] = nil
}

func (u *upstreams) watched(name string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.changed[name])
}

func (u *upstreams) timesAsked(name string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.asked[name]
}

func (u *upstreams) mostAtOnce(name string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.most[name]
}

func (u *upstreams) Describe(ctx context.Context, s *registryv1.Server) (*registryv1.Offer, error) {
	name := s.GetName()
	u.mu.Lock()
	u.asked[name]++
	u.asking[name]++
	u.most[name] = max(u.most[name], u.asking[name])
	o, hang := u.offers[name], u.hang[name]
	u.mu.Unlock()
	defer func() {
		u.mu.Lock()
		u.asking[name]--
		u.mu.Unlock()
	}()
	if hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if o == nil {
		return nil, errors.New("connection refused")
	}
	return o, nil
}

func (u *upstreams) Watch(ctx context.Context, s *registryv1.Server, _ *registryv1.Offer, changed func()) error {
	name := s.GetName()
	u.mu.Lock()
	if u.changed[name] == nil {
		u.changed[name] = map[*func()]struct{}{}
	}
	u.changed[name][&changed] = struct{}{}
	if u.broken[name] == nil {
		u.broken[name] = make(chan struct{})
	}
	broken := u.broken[name]
	u.mu.Unlock()
	var err error
	select {
	case <-ctx.Done():
		err = ctx.Err()
	case <-broken:
		err = errors.New("connection reset")
	}
	u.mu.Lock()
	delete(u.changed[name], &changed)
	u.mu.Unlock()
	return err
}
