package catalog

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
)

// Kind is one of the four lists of a view.
type Kind int

// The lists.
const (
	Tools Kind = iota
	Prompts
	Resources
	Templates
	kinds
)

// Member is the list's name in the result of its list method.
func (k Kind) Member() string {
	return [...]string{"tools", "prompts", "resources", "resourceTemplates"}[k]
}

// PageSize is how many entries one page of a list holds.
const PageSize = 1000

// View is a list of each kind, with the way from each entry to its server.
type View struct {
	// Name is the view's; empty for the view of everything.
	Name string
	// Servers are the names of the servers it shows, sorted.
	Servers []string
	// Instructions of its servers to models.
	Instructions string
	// Pending: some server was not asked yet what it offers.
	Pending bool

	lists     [kinds]list
	templates []template
}

// Entry is one thing that a view shows.
type Entry struct {
	// Public is the name or URI that clients use, Own the server's.
	Public, Own string
	// Server names the server it comes from.
	Server string
	// JSON is the object that clients are shown.
	JSON json.RawMessage

	headers    []mcp.HeaderParam // of a tool
	repeatable bool              // a tool that may be called twice
}

type list struct {
	entries []*Entry
	index   map[string]int // by public name
	digest  [sha256.Size]byte
	first   []byte // JSON array of the first page
}

type template struct {
	parts  []string // literals between variables
	server string
}

func newView(name string, servers []*registryv1.CatalogServer, public func(*registryv1.Server, string) string, only []string) *View {
	v := &View{Name: name}
	var instructions strings.Builder
	for _, s := range servers {
		spec, offer := s.GetServer(), s.GetOffer()
		v.Servers = append(v.Servers, spec.GetName())
		v.Pending = v.Pending || s.GetState() == registryv1.ServerState_SERVER_STATE_PENDING
		v.add(Tools, s, offer.GetTools(), func(own string) string { return public(spec, own) }, only)
		v.add(Prompts, s, offer.GetPrompts(), func(own string) string { return public(spec, own) }, nil)
		v.add(Resources, s, offer.GetResources(), nil, nil)
		v.add(Templates, s, offer.GetResourceTemplates(), nil, nil)
		if text := strings.TrimSpace(offer.GetInstructions()); text != "" {
			if len(servers) > 1 {
				instructions.WriteString("# " + spec.GetName() + "\n\n")
			}
			instructions.WriteString(text + "\n\n")
		}
	}
	v.Instructions = strings.TrimSpace(instructions.String())
	for k := range v.lists {
		v.lists[k].finish()
	}
	for _, e := range v.lists[Templates].entries {
		v.templates = append(v.templates, template{literals(e.Own), e.Server})
	}
	return v
}

// add appends a server's items. Where another server has an entry of that name already, the first one keeps
// it: for tools and prompts the registry lets no such pair pass, and a resource belongs to the first server.
func (v *View) add(k Kind, s *registryv1.CatalogServer, items []*registryv1.Item, public func(string) string, only []string) {
	l := &v.lists[k]
	if l.index == nil {
		l.index = map[string]int{}
	}
	for _, item := range items {
		e := &Entry{Public: item.GetKey(), Own: item.GetKey(), Server: s.GetServer().GetName(), JSON: item.GetJson()}
		if public != nil {
			if e.Public = public(e.Own); e.Public != e.Own {
				e.JSON = jsonrpc.With(e.JSON, jsonrpc.String(e.Public), "name")
			}
		}
		if _, taken := l.index[e.Public]; taken || len(only) > 0 && !slices.Contains(only, e.Public) {
			continue
		}
		if k == Tools {
			e.headers = mcp.HeaderParams(jsonrpc.Get(e.JSON, "inputSchema"))
			e.repeatable = repeatable(e.JSON)
		}
		l.index[e.Public] = len(l.entries)
		l.entries = append(l.entries, e)
	}
}

func (l *list) finish() {
	h := sha256.New()
	for _, e := range l.entries {
		h.Write(e.JSON)
		h.Write([]byte{'\n'})
	}
	h.Sum(l.digest[:0])
	l.first = encode(l.entries[:min(PageSize, len(l.entries))])
}

func encode(entries []*Entry) []byte {
	n := 2
	for _, e := range entries {
		n += len(e.JSON) + 1
	}
	b := append(make([]byte, 0, n), '[')
	for i, e := range entries {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, e.JSON...)
	}
	return append(b, ']')
}

// Len is how many entries a list has.
func (v *View) Len(k Kind) int { return len(v.lists[k].entries) }

// Entries returns a list. It must not be changed.
func (v *View) Entries(k Kind) []*Entry { return v.lists[k].entries }

// Same reports whether two views show the same list; either may be nil.
func (v *View) Same(other *View, k Kind) bool {
	if v == nil || other == nil {
		return v == other
	}
	return v.lists[k].digest == other.lists[k].digest
}

// Changes says which lists of a view differ: tools, prompts, and resources with their templates.
type Changes [3]bool

// ChangeMethods are the notifications that tell of Changes, in their order.
var ChangeMethods = [3]string{mcp.MethodToolsChanged, mcp.MethodPromptsChanged, mcp.MethodResourcesChanged}

// Compare says which lists of a view differ between two catalogues.
func Compare(before, now *Catalog, view string) Changes {
	was, _ := before.View(view)
	is, _ := now.View(view)
	return Changes{
		!is.Same(was, Tools),
		!is.Same(was, Prompts),
		!is.Same(was, Resources) || !is.Same(was, Templates),
	}
}

// Find returns the tool or prompt of that public name, or the resource of that URI; nil where there is none.
func (v *View) Find(k Kind, public string) *Entry {
	if i, ok := v.lists[k].index[public]; ok {
		return v.lists[k].entries[i]
	}
	return nil
}

// ServerOf returns the server that answers for a resource: the one that lists it, else the first one with a
// template that fits, else, in a view of one server, that server, which may know more than it lists.
func (v *View) ServerOf(uri string) (string, bool) {
	if e := v.Find(Resources, uri); e != nil {
		return e.Server, true
	}
	for i := range v.templates {
		if v.templates[i].matches(uri) {
			return v.templates[i].server, true
		}
	}
	if len(v.Servers) == 1 {
		return v.Servers[0], true
	}
	return "", false
}

// ErrCursor: the cursor is none of ours, or its place in the list is gone.
var ErrCursor = errors.New("unknown cursor")

// Page returns one page of a list as a JSON array, and the next page's cursor, empty on the last one.
func (v *View) Page(k Kind, cursor string) (array []byte, next string, err error) {
	l := &v.lists[k]
	from := 0
	if cursor != "" {
		name, err := base64.RawURLEncoding.DecodeString(cursor)
		if err != nil {
			return nil, "", ErrCursor
		}
		i, ok := l.index[string(name)]
		if !ok {
			return nil, "", ErrCursor
		}
		from = i + 1
	}
	to := min(from+PageSize, len(l.entries))
	if to < len(l.entries) {
		next = base64.RawURLEncoding.EncodeToString([]byte(l.entries[to-1].Public))
	}
	if from == 0 {
		return l.first, next, nil
	}
	return encode(l.entries[from:to]), next, nil
}

// literals splits a URI template (RFC 6570) at its expressions.
func literals(uriTemplate string) []string {
	var parts []string
	for {
		open := strings.IndexByte(uriTemplate, '{')
		if open < 0 {
			return append(parts, uriTemplate)
		}
		parts = append(parts, uriTemplate[:open])
		end := strings.IndexByte(uriTemplate[open:], '}')
		if end < 0 {
			return append(parts, "")
		}
		uriTemplate = uriTemplate[open+end+1:]
	}
}

// matches says whether uri could be an expansion of the template. It errs towards yes: the server decides.
func (t *template) matches(uri string) bool {
	first, last := t.parts[0], t.parts[len(t.parts)-1]
	if len(t.parts) == 1 {
		return uri == first
	}
	if len(uri) < len(first)+len(last) || !strings.HasPrefix(uri, first) || !strings.HasSuffix(uri, last) {
		return false
	}
	rest := []byte(uri[len(first) : len(uri)-len(last)])
	for _, part := range t.parts[1 : len(t.parts)-1] {
		i := bytes.Index(rest, []byte(part))
		if i < 0 {
			return false
		}
		rest = rest[i+len(part):]
	}
	return true
}
