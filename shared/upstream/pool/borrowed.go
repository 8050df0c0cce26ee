package pool

import (
	"context"
	"encoding/json"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/shared/upstream"
)

// Borrowed is a Peer that borrows the shared connection for each call, for those who keep a conversation of
// their own elsewhere.
func (p *Pool) Borrowed(server *registryv1.CatalogServer) upstream.Peer {
	return borrowed{p, server}
}

type borrowed struct {
	pool   *Pool
	server *registryv1.CatalogServer
}

// Call implements upstream.Peer.
func (b borrowed) Call(ctx context.Context, req upstream.Request, from upstream.Listener) (upstream.Reply, error) {
	peer, done, err := b.pool.Peer(ctx, b.server)
	if err != nil {
		return upstream.Reply{}, err
	}
	defer done()
	return peer.Call(ctx, req, from)
}

// Notify implements upstream.Peer: a shared conversation has nobody to speak for.
func (b borrowed) Notify(context.Context, string, json.RawMessage) error { return nil }

// Close implements upstream.Peer: what was borrowed is given back after each call.
func (b borrowed) Close() error { return nil }
