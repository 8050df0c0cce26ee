package describe

import (
	"context"
	"encoding/json"
	"fmt"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
	"erlmcp.dev/shared/upstream"
)

// Bounds of what one server may offer.
const (
	maxPages = 1000
	maxItems = 100_000
	maxBytes = 64 << 20
)

// list reads all lists that the server says it has.
func (c Client) list(ctx context.Context, peer upstream.Peer, modern bool, offer *registryv1.Offer) error {
	l := lister{client: c, peer: peer, modern: modern}
	var err error
	if jsonrpc.Get(offer.GetCapabilities(), "tools") != nil {
		if offer.Tools, err = l.all(ctx, mcp.MethodToolsList, "tools", "name"); err != nil {
			return err
		}
		offer.Tools = c.fit(offer.Tools)
	}
	if jsonrpc.Get(offer.GetCapabilities(), "prompts") != nil {
		if offer.Prompts, err = l.all(ctx, mcp.MethodPromptsList, "prompts", "name"); err != nil {
			return err
		}
	}
	if jsonrpc.Get(offer.GetCapabilities(), "resources") != nil {
		if offer.Resources, err = l.all(ctx, mcp.MethodResourcesList, "resources", "uri"); err != nil {
			return err
		}
		if offer.ResourceTemplates, err = l.all(ctx, mcp.MethodTemplatesList, "resourceTemplates", "uriTemplate"); err != nil {
			return err
		}
	}
	return nil
}

// fit drops tools that must not be shown.
func (c Client) fit(tools []*registryv1.Item) []*registryv1.Item {
	kept := tools[:0]
	out := 0
	for _, t := range tools {
		if err := mcp.CheckTool(t.GetJson()); err != nil {
			if out++; out <= maxNamed {
				c.log().Warn("a tool is left out", "tool", short(t.GetKey()), "reason", err)
			}
			continue
		}
		kept = append(kept, t)
	}
	if out > maxNamed {
		c.log().Warn("more tools are left out", "count", out-maxNamed)
	}
	return kept
}

// maxNamed is how many of the items that are left out of a list are named in the log.
const maxNamed = 10

// short bounds what a server can write to the log.
func short(name string) string {
	if len(name) > 128 {
		return name[:128] + "..."
	}
	return name
}

type lister struct {
	client Client
	peer   upstream.Peer
	modern bool
	items  int
	bytes  int
}

// all reads a list page by page. Of several items with one key the first counts.
func (l *lister) all(ctx context.Context, method, member, key string) ([]*registryv1.Item, error) {
	var items []*registryv1.Item
	seen := map[string]bool{}
	out := 0
	defer func() {
		if out > maxNamed {
			l.client.log().Warn("more items are left out: their keys are missing or stand twice", "method", method, "count", out-maxNamed)
		}
	}()
	var cursor json.RawMessage
	for range maxPages {
		var params json.RawMessage
		if cursor != nil {
			params = jsonrpc.With(nil, cursor, "cursor")
		}
		if l.modern {
			params = l.client.modernParams(params)
		}
		reply, err := l.peer.Call(ctx, upstream.Request{Method: method, Params: params}, nil)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", method, err)
		}
		if reply.Error != nil {
			e := jsonrpc.ParseError(reply.Error)
			if e.Code == jsonrpc.CodeMethodNotFound { // it has the capability and not this list of it
				return nil, nil
			}
			return nil, fmt.Errorf("%w: %s: %w", upstream.ErrRefused, method, e)
		}
		page := jsonrpc.Get(reply.Result, member)
		if len(page) == 0 || page[0] != '[' {
			return nil, fmt.Errorf("%w: %s: its result has no %q", upstream.ErrRefused, method, member)
		}
		l.bytes += len(reply.Result) // items keep their page in memory
		jsonrpc.Elements(page, func(e []byte) bool {
			l.items++
			name, ok := jsonrpc.GetString(e, key)
			if !ok || name == "" || seen[name] {
				if out++; out <= maxNamed {
					l.client.log().Warn("an item is left out: its key is missing or stands twice", "method", method, "key", key, "value", short(name))
				}
			} else {
				seen[name] = true
				items = append(items, &registryv1.Item{Key: name, Json: e})
			}
			return l.items <= maxItems && l.bytes <= maxBytes
		})
		if l.items > maxItems || l.bytes > maxBytes {
			return nil, fmt.Errorf("%w: it offers more than %d items or %d bytes", upstream.ErrTooLarge, maxItems, maxBytes)
		}
		next := jsonrpc.Get(reply.Result, "nextCursor")
		if next == nil || string(next) == "null" {
			return items, nil
		}
		cursor = next
	}
	return nil, fmt.Errorf("%w: %s has more than %d pages", upstream.ErrTooLarge, method, maxPages)
}
