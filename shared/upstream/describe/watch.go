package describe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/upstream"
	"erlmcp.dev/shared/upstream/mcphttp"
)

// ErrNoStream: the server has no way to tell of changes, so it must be asked now and then.
var ErrNoStream = errors.New("the server does not tell of changes")

// pingEvery is how often a legacy server is asked whether the session still stands.
const pingEvery = 30 * time.Second

// WatchHTTP stays subscribed to a server's list changes and calls changed at each, until the subscription is
// lost or ctx ends. ErrNoStream.
func WatchHTTP(ctx context.Context, config mcphttp.Config, offer *registryv1.Offer, c Client, changed func()) error {
	if slices.Contains(offer.GetEras(), registryv1.Era_ERA_MODERN) {
		peer, err := mcphttp.NewModern(config)
		if err != nil {
			return err
		}
		defer func() { _ = peer.Close() }()
		return c.listen(ctx, peer, changed)
	}
	legacyConfig := mcphttp.LegacyConfig{Config: config, Version: offer.GetLegacyVersion(), Info: c.Info, Listener: changes(changed)}
	switch {
	case offer.GetHttpSse():
		peer, err := mcphttp.OpenSSE(ctx, legacyConfig)
		if err != nil {
			return err
		}
		return stay(ctx, peer, peer.Done())
	case offer.GetSessionless():
		return ErrNoStream
	}
	peer, err := mcphttp.Initialize(ctx, legacyConfig)
	if err != nil {
		return err
	}
	return stay(ctx, peer, peer.Silent())
}

// stay holds a legacy conversation until it is lost, ctx ends, or nothing more is heard on it, and closes it.
func stay(ctx context.Context, peer upstream.Peer, silent <-chan struct{}) error {
	defer func() { _ = peer.Close() }()
	for {
		over := false
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-silent:
			over = true
		case <-time.After(pingEvery):
		}
		short, cancel := context.WithTimeout(ctx, pingEvery)
		_, err := peer.Call(short, upstream.Request{Method: mcp.MethodPing}, nil)
		cancel()
		switch {
		case err != nil:
			return err
		case over: // the session stands, and the server has no stream for it
			return ErrNoStream
		}
	}
}

// listChanges are the notifications that are asked for.
var listChanges = []string{"toolsListChanged", "promptsListChanged", "resourcesListChanged"}

func (c Client) listen(ctx context.Context, peer upstream.Peer, changed func()) error {
	var wanted, params jsonrpc.Object
	for _, key := range listChanges {
		wanted.Set(key, json.RawMessage("true"))
	}
	params.Set("notifications", wanted.JSON())
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	from := subscription{changes(changed), func() { cancel(ErrNoStream) }}
	reply, err := peer.Call(ctx, upstream.Request{Method: mcp.MethodListen, Params: c.modernParams(params.JSON())}, from)
	if err != nil {
		return err
	}
	if reply.Error != nil {
		e := jsonrpc.ParseError(reply.Error)
		if e.Code == jsonrpc.CodeMethodNotFound {
			return ErrNoStream
		}
		return fmt.Errorf("%w: subscriptions/listen: %w", upstream.ErrRefused, e)
	}
	return fmt.Errorf("%w: the server ended the subscription", upstream.ErrLost)
}

// changes calls a function at each notification of a changed list.
type changes func()

// Notification implements upstream.Listener.
func (f changes) Notification(method string, _ json.RawMessage) {
	switch method {
	case mcp.MethodToolsChanged, mcp.MethodPromptsChanged, mcp.MethodResourcesChanged:
		f()
	}
}

// Request implements upstream.Listener.
func (f changes) Request(_ context.Context, method string, _ json.RawMessage) (json.RawMessage, *jsonrpc.Error) {
	return nil, jsonrpc.Errorf(jsonrpc.CodeMethodNotFound, "Method not found: %s", method)
}

// subscription hears a subscriptions/listen.
type subscription struct {
	changes
	none func() // called where the server honours nothing that was asked for
}

// Notification implements upstream.Listener.
func (s subscription) Notification(method string, params json.RawMessage) {
	if method != mcp.MethodAcknowledged {
		s.changes.Notification(method, params)
		return
	}
	for _, key := range listChanges {
		if string(jsonrpc.Get(params, "notifications", key)) == "true" {
			return
		}
	}
	s.none()
}
