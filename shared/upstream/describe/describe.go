// Package describe finds out what an MCP server offers: its eras, and its tools, prompts and resources as it
// writes them. It must not know who wants to know. Start at [HTTP] and [Stream].
package describe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/shared/era"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/upstream"
	"erlmcp.dev/shared/upstream/mcphttp"
	"erlmcp.dev/shared/upstream/mcpio"
)

// Client is who asks.
type Client struct {
	// Info is the Implementation object that servers are told; may be nil.
	Info json.RawMessage
	// Log hears of what servers offer that can't be shown. Optional.
	Log *slog.Logger
}

func (c Client) log() *slog.Logger {
	if c.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return c.Log
}

// HTTP describes a server that is reached over HTTP. The server may speak the modern era, the legacy era, or
// both, and else HTTP+SSE. Errors are upstream's sentinels, wrapped.
func HTTP(ctx context.Context, config mcphttp.Config, c Client) (*registryv1.Offer, error) {
	offer := &registryv1.Offer{}
	modern, modernErr := mcphttp.NewModern(config)
	if modernErr == nil {
		defer func() { _ = modern.Close() }()
		modernErr = c.discover(ctx, modern, offer)
	}
	if modernErr != nil && (errors.Is(modernErr, upstream.ErrNotSent) || ctx.Err() != nil) {
		return nil, modernErr // nobody is there to speak any era
	}
	legacyConfig := mcphttp.LegacyConfig{Config: config, Version: mcp.LegacyVersions[0], Info: c.Info, NoStream: true}
	probe, cancel := legacyProbe(ctx, modernErr == nil)
	legacy, legacyErr := mcphttp.Initialize(probe, legacyConfig)
	cancel()
	if legacyErr == nil {
		defer func() { _ = legacy.Close() }()
		offer.Eras = append(offer.Eras, registryv1.Era_ERA_LEGACY)
		offer.LegacyVersion = legacy.Version()
		offer.Sessionless = legacy.SessionID() == ""
	}
	switch {
	case modernErr == nil:
		return offer, c.list(ctx, modern, true, offer)
	case legacyErr == nil:
		readInitialize(legacy.Result(), offer)
		return offer, c.list(ctx, legacy, false, offer)
	case !errors.Is(legacyErr, upstream.ErrRefused) || ctx.Err() != nil:
		return nil, legacyErr
	}
	old, err := mcphttp.OpenSSE(ctx, legacyConfig)
	if err != nil {
		return nil, fmt.Errorf("it answers neither as a modern nor as a legacy MCP server: %w", legacyErr)
	}
	defer func() { _ = old.Close() }()
	offer.Eras = []registryv1.Era{registryv1.Era_ERA_LEGACY}
	offer.HttpSse = true
	readInitialize(old.Result(), offer)
	offer.LegacyVersion, _ = jsonrpc.GetString(old.Result(), "protocolVersion")
	return offer, c.list(ctx, old, false, offer)
}

// discoverTime is how long a server has to answer server/discover. Old ones may not answer at all.
const discoverTime = 5 * time.Second

// Stream describes a server that speaks over a stream of bytes. dial opens a stream; it is called again where
// the server must be asked anew.
func Stream(ctx context.Context, dial func(context.Context) (io.ReadWriteCloser, error), c Client) (*registryv1.Offer, error) {
	offer := &registryv1.Offer{}
	stream, err := dial(ctx)
	if err != nil {
		return nil, err
	}
	modern := mcpio.New(stream, mcpio.Config{})
	defer func() { _ = modern.Close() }()
	modernErr := c.discover(ctx, modern, offer)
	if modernErr != nil {
		_ = modern.Close() // two of a program may be one too many
		if ctx.Err() != nil {
			return nil, modernErr
		}
	}
	legacy, result, legacyErr := c.initialize(ctx, dial, modernErr == nil)
	if legacyErr == nil {
		defer func() { _ = legacy.Close() }()
		offer.Eras = append(offer.Eras, registryv1.Era_ERA_LEGACY)
		offer.LegacyVersion, _ = jsonrpc.GetString(result, "protocolVersion")
	}
	switch {
	case modernErr == nil:
		return offer, c.list(ctx, modern, true, offer)
	case legacyErr == nil:
		readInitialize(result, offer)
		return offer, c.list(ctx, legacy, false, offer)
	}
	return nil, legacyErr
}

// initialize opens a legacy conversation on a stream of its own.
func (c Client) initialize(ctx context.Context, dial func(context.Context) (io.ReadWriteCloser, error), isModern bool) (*mcpio.Conn, json.RawMessage, error) {
	ctx, cancel := legacyProbe(ctx, isModern)
	defer cancel()
	stream, err := dial(ctx)
	if err != nil {
		return nil, nil, err
	}
	conn := mcpio.New(stream, mcpio.Config{})
	result, err := conn.Initialize(ctx, mcp.LegacyVersions[0], nil, c.Info)
	if err != nil {
		_ = conn.Close()
		return nil, nil, err
	}
	return conn, result, nil
}

// legacyProbe bounds asking a server that is known to be modern whether it is legacy too. It may never answer, and
// whatever it makes of the question it can be described.
func legacyProbe(ctx context.Context, isModern bool) (context.Context, context.CancelFunc) {
	if isModern {
		return context.WithTimeout(ctx, discoverTime)
	}
	return context.WithCancel(ctx)
}

// discover asks a server whether and how it speaks the modern era.
func (c Client) discover(ctx context.Context, peer upstream.Peer, offer *registryv1.Offer) error {
	ctx, cancel := context.WithTimeout(ctx, discoverTime)
	defer cancel()
	reply, err := peer.Call(ctx, upstream.Request{Method: mcp.MethodDiscover, Params: c.modernParams(nil)}, nil)
	if err != nil {
		return err
	}
	if reply.Error != nil {
		return fmt.Errorf("%w: server/discover: %w", upstream.ErrRefused, jsonrpc.ParseError(reply.Error))
	}
	var versions []string
	_ = json.Unmarshal(jsonrpc.Get(reply.Result, "supportedVersions"), &versions) // absent: none
	if !slices.ContainsFunc(versions, mcp.IsModern) {
		return fmt.Errorf("%w: it speaks no modern revision that is known here", upstream.ErrRefused)
	}
	offer.Eras = append(offer.Eras, registryv1.Era_ERA_MODERN)
	offer.Capabilities = jsonrpc.Get(reply.Result, "capabilities")
	offer.Instructions, _ = jsonrpc.GetString(reply.Result, "instructions")
	offer.ServerInfo = jsonrpc.Get(reply.Result, "_meta", mcp.MetaServerInfo)
	return nil
}

func readInitialize(result json.RawMessage, offer *registryv1.Offer) {
	offer.Capabilities = jsonrpc.Get(result, "capabilities")
	offer.Instructions, _ = jsonrpc.GetString(result, "instructions")
	offer.ServerInfo = jsonrpc.Get(result, "serverInfo")
}

func (c Client) modernParams(params json.RawMessage) json.RawMessage {
	return era.RequestToModern(params, era.Client{Info: c.Info})
}
