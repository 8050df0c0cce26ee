package discovery

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/services/registry/store"
	"erlmcp.dev/shared/catalog"
)

// Bounds of an offer. Beyond them a server counts as one that does not answer.
const (
	maxItems     = 20_000   // of all kinds
	maxKey       = 8 << 10  // bytes of a resource's URI or template; names have store.MaxName
	maxOfferSize = 16 << 20 // bytes of all of it
	maxMessage   = 500      // bytes of what is told to humans
)

// check says what is wrong with an offer, as the end of "server x ...".
func check(o *registryv1.Offer) error {
	if size := proto.Size(o); size > maxOfferSize {
		return fmt.Errorf("it offers too much: %d bytes in all, at most %d are kept", size, maxOfferSize)
	}
	if !utf8.ValidString(o.GetInstructions()) || !utf8.ValidString(o.GetLegacyVersion()) {
		return fmt.Errorf("it sent text that is not valid UTF-8")
	}
	n := 0
	for _, list := range []struct {
		what  string
		items []*registryv1.Item
		most  int
	}{
		{"tool", o.GetTools(), store.MaxName - 64}, // a prefix comes before it
		{"prompt", o.GetPrompts(), store.MaxName - 64},
		{"resource", o.GetResources(), maxKey},
		{"resource template", o.GetResourceTemplates(), maxKey},
	} {
		for _, item := range list.items {
			switch key := item.GetKey(); {
			case key == "":
				return fmt.Errorf("it offers a %s without a name", list.what)
			case len(key) > list.most:
				return fmt.Errorf("it offers a %s whose name is longer than %d bytes: it begins with %q", list.what, list.most, key[:40])
			case !utf8.ValidString(key) || strings.Contains(key, "\x00"):
				return fmt.Errorf("it offers a %s whose name is no proper text: %q", list.what, key)
			}
		}
		n += len(list.items)
	}
	if n > maxItems {
		return fmt.Errorf("it offers %d things, at most %d are kept", n, maxItems)
	}
	return nil
}

// Settle gives a server what asking it at a time brought: an offer, or a failure to answer.
func Settle(s *store.Server, offer *registryv1.Offer, failure error, at time.Time) {
	s.CheckedAt = at.UTC().Truncate(time.Microsecond)
	if failure != nil {
		s.State = registryv1.ServerState_SERVER_STATE_UNREACHABLE
		s.Message = message(fmt.Sprintf("did not answer when it was last asked: %v. It is asked again until it does; check that it runs and that the registry can reach it", failure))
		return
	}
	s.State, s.Message = registryv1.ServerState_SERVER_STATE_READY, ""
	if s.Offer == nil || !sameOffer(s.Offer, offer) {
		s.Offer = offer
	}
}

// withhold takes a server's offer out of the catalogue because another has one of its names.
func withhold(s *store.Server, taken *store.NameTaken) {
	s.State, s.Offer = registryv1.ServerState_SERVER_STATE_CONFLICT, nil
	s.Message = message(fmt.Sprintf("servers %q and %q both offer a %s named %q, so what %q offers is not shown. Give one of them another prefix",
		s.Spec.GetName(), taken.Holder, taken.Kind, taken.Name.Name, s.Spec.GetName()))
}

// message makes text fit to be kept and shown.
func message(text string) string {
	if len(text) > maxMessage {
		text = text[:maxMessage] + "..."
	}
	return strings.ReplaceAll(strings.ToValidUTF8(text, ""), "\x00", "")
}

// Names are the names that a server has in views of several servers by what it offers, each once.
func Names(s *store.Server) []store.Name {
	var names []store.Name
	for _, list := range []struct {
		kind  store.NameKind
		items []*registryv1.Item
	}{
		{store.Tool, s.Offer.GetTools()},
		{store.Prompt, s.Offer.GetPrompts()},
	} {
		for _, item := range list.items {
			names = append(names, store.Name{Kind: list.kind, Name: catalog.PublicName(s.Spec, item.GetKey())})
		}
	}
	slices.SortFunc(names, func(a, b store.Name) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	return slices.Compact(names)
}

// sameOffer reports whether two offers differ in nothing but the order of what is in their lists: some servers list
// in another order each time, which is nobody's news.
func sameOffer(a, b *registryv1.Offer) bool {
	return proto.Equal(a, b) || proto.Equal(ordered(a), ordered(b))
}

// ordered returns an offer with its lists in order. What is in the lists is shared.
func ordered(o *registryv1.Offer) *registryv1.Offer {
	sorted := func(items []*registryv1.Item) []*registryv1.Item {
		return slices.SortedStableFunc(slices.Values(items), func(a, b *registryv1.Item) int { return cmp.Compare(a.GetKey(), b.GetKey()) })
	}
	c := handshake(o)
	c.Tools, c.Prompts = sorted(o.GetTools()), sorted(o.GetPrompts())
	c.Resources, c.ResourceTemplates = sorted(o.GetResources()), sorted(o.GetResourceTemplates())
	return c
}

// handshake is an offer without its lists: how the server presents itself.
func handshake(o *registryv1.Offer) *registryv1.Offer {
	return &registryv1.Offer{
		Eras: o.GetEras(), LegacyVersion: o.GetLegacyVersion(), Sessionless: o.GetSessionless(), HttpSse: o.GetHttpSse(),
		Capabilities: o.GetCapabilities(), ServerInfo: o.GetServerInfo(), Instructions: o.GetInstructions(),
	}
}
