// Package ends opens the conversations with servers that owners hold. It must not know sessions. Start at
// [Opener.Open].
package ends

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/services/session/owner"
	"erlmcp.dev/services/session/stdio"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/upstream"
	"erlmcp.dev/shared/upstream/dial"
	"erlmcp.dev/shared/upstream/mcphttp"
	"erlmcp.dev/shared/upstream/pool"
)

// Opener implements owner.Opener.
type Opener struct {
	Dialer *dial.Dialer
	// Pool holds what is shared.
	Pool     *pool.Pool
	Programs *stdio.Runner
	// ProgramIdle is how long a program lives that nobody calls; 30 minutes when 0.
	ProgramIdle time.Duration
	// Words has clients be told what a program that failed wrote last. Else only those who look after servers see it:
	// it may tell of files, addresses and other principals' data.
	Words bool
}

var _ owner.Opener = (*Opener)(nil)

// Open implements owner.Opener.
func (o *Opener) Open(ctx context.Context, s *registryv1.CatalogServer, c owner.EndClient) (owner.End, error) {
	switch e := s.GetServer().GetEndpoint().(type) {
	case *registryv1.Server_Http:
		return o.http(ctx, s, e.Http, c)
	case *registryv1.Server_Stdio:
		return o.stdio(ctx, s, e.Stdio, c)
	}
	return owner.End{Peer: o.Pool.Borrowed(s), Modern: true}, nil
}

// legacy reports whether a server is spoken to in the legacy era: it has no other, or the client can be asked
// while a call runs.
func legacy(s *registryv1.CatalogServer, c owner.EndClient) bool {
	eras := s.GetOffer().GetEras()
	return !slices.Contains(eras, registryv1.Era_ERA_MODERN) || c.Legacy && slices.Contains(eras, registryv1.Era_ERA_LEGACY)
}

// version is the revision to ask a server for: the client's, where the server has one as new.
func version(s *registryv1.CatalogServer, c owner.EndClient) string {
	if newest := s.GetOffer().GetLegacyVersion(); newest != "" && newest < c.Version {
		return newest
	}
	return c.Version
}

func (o *Opener) http(ctx context.Context, s *registryv1.CatalogServer, e *registryv1.HttpEndpoint, c owner.EndClient) (owner.End, error) {
	offer := s.GetOffer()
	// A server that does both eras but keeps no session can't ask a client in the legacy one.
	if !legacy(s, c) || offer.GetSessionless() && slices.Contains(offer.GetEras(), registryv1.Era_ERA_MODERN) {
		return owner.End{Peer: o.Pool.Borrowed(s), Modern: true}, nil
	}
	config := mcphttp.LegacyConfig{
		Config: o.Dialer.HTTP(e), Version: version(s, c), Capabilities: c.Capabilities, Info: c.Info, Listener: c.Listener, Journal: c.Journal,
	}
	if offer.GetHttpSse() {
		peer, err := mcphttp.OpenSSE(ctx, config)
		if err != nil {
			return owner.End{}, notOpened(err)
		}
		return owner.End{Peer: peer, Logging: logs(peer.Result())}, nil
	}
	if before := c.Conversation; before != nil && before.URL == e.GetUrl() {
		config.SessionID, config.Version, config.After = before.ID, before.Version, before.Heard
		end, err := resume(ctx, config, before)
		if !errors.Is(err, upstream.ErrSessionGone) {
			return end, err
		}
		config.SessionID, config.Version, config.After = "", version(s, c), "" // the server forgot it: from the beginning
	}
	peer, err := mcphttp.Initialize(ctx, config)
	if err != nil {
		return owner.End{}, notOpened(err)
	}
	end := owner.End{Peer: peer, Logging: logs(peer.Result())}
	if peer.SessionID() != "" {
		end.Conversation = &owner.Conversation{URL: e.GetUrl(), ID: peer.SessionID(), Version: peer.Version(), Logging: end.Logging}
	}
	return end, nil
}

// resume goes on with a conversation of another process: upstream.ErrSessionGone where the server has forgotten it.
func resume(ctx context.Context, config mcphttp.LegacyConfig, before *owner.Conversation) (owner.End, error) {
	peer, err := mcphttp.Resume(config)
	if err != nil {
		return owner.End{}, notOpened(err)
	}
	if _, err := peer.Call(ctx, upstream.Request{Method: mcp.MethodPing}, nil); err != nil {
		peer.Leave()
		if errors.Is(err, upstream.ErrSessionGone) {
			return owner.End{}, err
		}
		return owner.End{}, notOpened(err)
	}
	return owner.End{Peer: peer, Logging: before.Logging, Conversation: before}, nil
}

func logs(result json.RawMessage) bool {
	return jsonrpc.Get(result, "capabilities", "logging") != nil
}

// notOpened says of whatever went wrong while opening that no call was sent.
func notOpened(err error) error {
	if errors.Is(err, upstream.ErrNotSent) || errors.Is(err, upstream.ErrRefused) || errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%w: %w", upstream.ErrNotSent, err)
}
