package catalog_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/shared/catalog"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
)

func server(name string, prefix *string, tools ...string) *registryv1.CatalogServer {
	s := &registryv1.CatalogServer{Server: &registryv1.Server{Name: name, Prefix: prefix}, Offer: &registryv1.Offer{}}
	for _, t := range tools {
		s.Offer.Tools = append(s.Offer.Tools, tool(t, ""))
	}
	return s
}

func tool(name, extra string) *registryv1.Item {
	return &registryv1.Item{Key: name, Json: []byte(`{"x-unknown":[1.00],"name":"` + name + `"` + extra + `,"inputSchema":{"type":"object"}}`)}
}

func snapshot(servers ...*registryv1.CatalogServer) *catalog.Catalog {
	return catalog.New().Apply(&registryv1.WatchCatalogResponse{Version: 1, Snapshot: true, Servers: servers})
}

func view(t *testing.T, c *catalog.Catalog, name string) *catalog.View {
	t.Helper()
	v, ok := c.View(name)
	if !ok {
		t.Fatalf("no view %q", name)
	}
	return v
}

func names(v *catalog.View, k catalog.Kind) []string {
	var names []string
	for _, e := range v.Entries(k) {
		names = append(names, e.Public)
	}
	return names
}

func TestServersAreOneListWithPrefixesAndEachAloneIsUnchanged(t *testing.T) {
	c := snapshot(server("weather", nil, "now", "later"), server("files", proto.String(""), "read"), server("a-b", proto.String("x."), "now"))
	if diff := cmp.Diff([]string{"x.now", "read", "weather_now", "weather_later"}, names(view(t, c, ""), catalog.Tools)); diff != "" {
		t.Error(diff)
	}
	own := view(t, c, "weather")
	if diff := cmp.Diff([]string{"now", "later"}, names(own, catalog.Tools)); diff != "" {
		t.Error(diff)
	}
	page, _, err := view(t, c, "").Page(catalog.Tools, "")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), `{"x-unknown":[1.00],"name":"weather_now","inputSchema":{"type":"object"}}`) {
		t.Errorf("members were changed: %s", page)
	}
	if _, ok := c.View("nobody"); ok {
		t.Error("a view that is not there was found")
	}
}

func TestLongNamesAreShortenedTheSameWayAlways(t *testing.T) {
	long := strings.Repeat("n", 60)
	s := &registryv1.Server{Name: "weather"}
	got := catalog.PublicName(s, long+"a")
	if len(got) != catalog.MaxName || got == catalog.PublicName(s, long+"b") || got != catalog.PublicName(s, long+"a") {
		t.Errorf("got %q", got)
	}
	if got != "weather_nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn_"+got[len(got)-8:] {
		t.Errorf("got %q", got)
	}
	if got := catalog.PublicName(&registryv1.Server{Name: "w", Prefix: proto.String("")}, long+long); got != long+long {
		t.Errorf("without a prefix names pass through, got %q", got)
	}
}

func TestDeltasLeadToTheCatalogueOfTheSnapshot(t *testing.T) {
	c := snapshot(server("a", nil, "one"), server("b", nil, "two"))
	c = c.Apply(&registryv1.WatchCatalogResponse{Version: 2, Servers: []*registryv1.CatalogServer{server("c", nil, "three")}, RemovedServers: []string{"a"}})
	c = c.Apply(&registryv1.WatchCatalogResponse{Version: 3, Views: []*registryv1.View{{Name: "v", Servers: []string{"c", "gone"}}}})
	if diff := cmp.Diff([]string{"b", "c"}, c.Servers()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"c_three"}, names(view(t, c, "v"), catalog.Tools)); diff != "" {
		t.Error(diff)
	}
	if c.Version() != 3 {
		t.Errorf("version %d", c.Version())
	}
}

func TestAViewShowsOnlyTheToolsItNames(t *testing.T) {
	c := snapshot(server("a", nil, "one", "two")).Apply(&registryv1.WatchCatalogResponse{
		Version: 2, Views: []*registryv1.View{{Name: "v", Servers: []string{"a"}, Tools: []string{"a_two"}}},
	})
	if diff := cmp.Diff([]string{"a_two"}, names(view(t, c, "v"), catalog.Tools)); diff != "" {
		t.Error(diff)
	}
}

func TestPagesCoverAListOnce(t *testing.T) {
	s := server("a", proto.String(""))
	var want []string
	for i := range 2*catalog.PageSize + 1 {
		name := fmt.Sprintf("tool-%d", i)
		want = append(want, name)
		s.Offer.Tools = append(s.Offer.Tools, tool(name, ""))
	}
	v := view(t, snapshot(s), "")
	var got []string
	cursor, pages := "", 0
	for {
		page, next, err := v.Page(catalog.Tools, cursor)
		if err != nil {
			t.Fatal(err)
		}
		if err := jsonrpc.Check(page); err != nil {
			t.Fatal(err)
		}
		jsonrpc.Elements(page, func(e []byte) bool {
			name, _ := jsonrpc.GetString(e, "name")
			got = append(got, name)
			return true
		})
		pages++
		if cursor = next; next == "" {
			break
		}
	}
	if diff := cmp.Diff(want, got); diff != "" || pages != 3 {
		t.Errorf("%d pages\n%s", pages, diff)
	}
	for _, bad := range []string{"!", "bm9uZQ", strings.Repeat("A", 1000)} {
		if _, _, err := v.Page(catalog.Tools, bad); !errors.Is(err, catalog.ErrCursor) {
			t.Errorf("cursor %q: %v", bad, err)
		}
	}
}

func TestResourcesLeadToTheirServer(t *testing.T) {
	a, b := server("a", nil), server("b", nil)
	a.Offer.Resources = []*registryv1.Item{{Key: "test://both", Json: []byte(`{"uri":"test://both"}`)}}
	b.Offer.Resources = []*registryv1.Item{{Key: "test://both", Json: []byte(`{"uri":"test://both"}`)}, {Key: "test://b", Json: []byte(`{"uri":"test://b"}`)}}
	b.Offer.ResourceTemplates = []*registryv1.Item{{Key: "test://t/{id}/data", Json: []byte(`{"uriTemplate":"test://t/{id}/data"}`)}}
	c := snapshot(a, b)
	v := view(t, c, "")
	for uri, want := range map[string]string{"test://both": "a", "test://b": "b", "test://t/7/data": "b", "test://t//data": "b", "test://t/7/other": "", "test://none": ""} {
		if got, _ := v.ServerOf(uri); got != want {
			t.Errorf("%s leads to %q, want %q", uri, got, want)
		}
	}
	if v.Len(catalog.Resources) != 2 {
		t.Errorf("%d resources", v.Len(catalog.Resources))
	}
	if got, _ := view(t, c, "b").ServerOf("test://unlisted"); got != "b" {
		t.Errorf("in a server's own view it answers for what it does not list, got %q", got)
	}
}

func TestCompareTellsWhichListsChanged(t *testing.T) {
	before := snapshot(server("a", nil, "one"))
	changed := server("a", nil, "one")
	changed.Offer.Prompts = []*registryv1.Item{{Key: "p", Json: []byte(`{"name":"p"}`)}}
	now := before.Apply(&registryv1.WatchCatalogResponse{Version: 2, Servers: []*registryv1.CatalogServer{changed}})
	if got := catalog.Compare(before, now, ""); got != (catalog.Changes{false, true, false}) {
		t.Errorf("got %v", got)
	}
	if got := catalog.Compare(before, now, "not there"); got != (catalog.Changes{}) {
		t.Errorf("got %v", got)
	}
}

func TestHeaderParamsAreFoundInTheSchema(t *testing.T) {
	s := server("a", nil)
	s.Offer.Tools = []*registryv1.Item{{Key: "t", Json: []byte(`{"name":"t","inputSchema":{"properties":{"region":{"type":"string","x-mcp-header":"Region"},"deep":{"properties":{"n":{"type":"integer","x-mcp-header":"N"}}}}}}`)}}
	got := view(t, snapshot(s), "a").Find(catalog.Tools, "t").HeaderParams()
	want := []mcp.HeaderParam{{Header: "Region", Path: []string{"region"}, Type: "string"}, {Header: "N", Path: []string{"deep", "n"}, Type: "integer"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestRepeatableIsWhatAnnotationsOrTheDeclarationSay(t *testing.T) {
	withTools := func(name string, repeat registryv1.Repeat) *registryv1.CatalogServer {
		s := server(name, nil, "write")
		s.Server.Repeat = repeat
		s.Offer.Tools = append(s.Offer.Tools,
			tool("read", `,"annotations":{"readOnlyHint":true}`), tool("put", `,"annotations":{"idempotentHint":true}`),
			tool("said", `,"annotations":{"readOnlyHint":false,"idempotentHint":"true"}`))
		return s
	}
	c := snapshot(withTools("default", registryv1.Repeat_REPEAT_UNSPECIFIED), withTools("annotated", registryv1.Repeat_REPEAT_ANNOTATED),
		withTools("never", registryv1.Repeat_REPEAT_NEVER), withTools("always", registryv1.Repeat_REPEAT_ALWAYS))
	annotated := map[string]bool{"read": true, "put": true}
	for server, want := range map[string]map[string]bool{
		"default": annotated, "annotated": annotated, "never": {},
		"always": {"read": true, "put": true, "write": true, "said": true, "unlisted": true},
	} {
		for _, tool := range []string{"read", "put", "write", "said", "unlisted"} {
			if got := c.Repeatable(server, mcp.MethodToolsCall, []byte(`{"name":"`+tool+`"}`)); got != want[tool] {
				t.Errorf("%s's %s: %v", server, tool, got)
			}
		}
		if !c.Repeatable(server, mcp.MethodResourcesRead, nil) {
			t.Errorf("reading a resource of %s is not repeatable", server)
		}
	}
}
