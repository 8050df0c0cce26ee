package registry_test

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/services/registry/store"
)

func TestARegisteredServerIsShownAndPublished(t *testing.T) {
	overStores(t, func(t *testing.T, open func() store.Store) {
		up := newUpstreams()
		r := start(t, quick(open(), up))
		w := r.watch(t)
		o := offer("x", "y")
		o.Prompts = []*registryv1.Item{{Key: "p"}}
		o.Resources = []*registryv1.Item{{Key: "file:///r"}}
		o.ResourceTemplates = []*registryv1.Item{{Key: "file:///{t}"}}
		up.set("a", o)
		st := r.register(t, spec("a"))
		if st.State != ready || st.Message != "" || st.Declared || st.CheckedAt == nil || !slices.Equal(st.Tools, []string{"x", "y"}) ||
			!slices.Equal(st.Prompts, []string{"p"}) || !slices.Equal(st.Resources, []string{"file:///r"}) ||
			!slices.Equal(st.ResourceTemplates, []string{"file:///{t}"}) || !slices.Equal(st.Eras, o.Eras) {
			t.Errorf("status %v", st)
		}
		if !proto.Equal(r.get(t, "a"), st) {
			t.Errorf("it is shown as %v", r.get(t, "a"))
		}
		w.until(t, "server a", func() bool {
			return proto.Equal(w.servers["a"], &registryv1.CatalogServer{Server: spec("a"), Offer: o, State: ready})
		})
		up.offer("0")
		r.register(t, spec("0"))
		list, err := r.ListServers(t.Context(), &registryv1.ListServersRequest{})
		if err != nil || len(list.Servers) != 2 || list.Servers[0].Server.Name != "0" {
			t.Errorf("%v, %v", list, err)
		}
		if _, err := r.DeleteServer(t.Context(), &registryv1.DeleteServerRequest{Name: "a"}); err != nil {
			t.Fatal(err)
		}
		w.until(t, "a is gone", func() bool { return w.servers["a"] == nil && w.servers["0"] != nil })
	})
}

func TestWhatCannotBeIsRefusedWithTheReason(t *testing.T) {
	overStores(t, func(t *testing.T, open func() store.Store) {
		up := newUpstreams()
		r := start(t, quick(open(), up))
		up.offer("a")
		r.register(t, spec("a"))
		if _, err := r.PutView(t.Context(), &registryv1.PutViewRequest{View: &registryv1.View{Name: "v", Servers: []string{"a"}}}); err != nil {
			t.Fatal(err)
		}
		with := func(change func(*registryv1.Server)) *registryv1.Server {
			s := spec("new")
			change(s)
			return s
		}
		for what, c := range map[string]struct {
			spec *registryv1.Server
			code codes.Code
			text string
		}{
			"a server's name":     {spec("a"), codes.AlreadyExists, `server named "a"`},
			"a view's name":       {spec("v"), codes.AlreadyExists, `view named "v"`},
			"no name":             {spec(""), codes.InvalidArgument, "name"},
			"no declaration":      {nil, codes.InvalidArgument, "server"},
			"a password in a URL": {with(func(s *registryv1.Server) { s.GetHttp().Url = "http://u:hunter2@h/mcp" }), codes.InvalidArgument, "Authorization"},
			"a URL without host":  {with(func(s *registryv1.Server) { s.GetHttp().Url = "http:///mcp" }), codes.InvalidArgument, "server.http.url"},
			"a broken header":     {with(func(s *registryv1.Server) { s.GetHttp().Headers = map[string]string{"a b": "c"} }), codes.InvalidArgument, "server.http.headers"},
			"a value to keep":     {with(func(s *registryv1.Server) { s.GetHttp().Headers = map[string]string{"A": "***"} }), codes.InvalidArgument, "instead of ***"},
			"a variable with =": {with(func(s *registryv1.Server) {
				s.Endpoint = &registryv1.Server_Stdio{Stdio: &registryv1.StdioEndpoint{Command: []string{"x"}, Env: map[string]string{"A=": "b"}}}
			}), codes.InvalidArgument, "server.stdio.env"},
			"metadata of gRPC's own": {with(func(s *registryv1.Server) {
				s.Endpoint = &registryv1.Server_Grpc{Grpc: &registryv1.GrpcEndpoint{Target: "x", Metadata: map[string]string{"grpc-timeout": "b"}}}
			}), codes.InvalidArgument, "server.grpc.metadata"},
		} {
			_, err := r.RegisterServer(t.Context(), &registryv1.RegisterServerRequest{Server: c.spec})
			if st := refused(t, err, c.code); !strings.Contains(st.Message(), c.text) || strings.Contains(st.Message(), "hunter2") {
				t.Errorf("%s: %v", what, err)
			}
		}
		_, err := r.GetServer(t.Context(), &registryv1.GetServerRequest{Name: "nobody"})
		if d := detail[*errdetails.ResourceInfo](t, refused(t, err, codes.NotFound)); d.ResourceName != "nobody" || d.ResourceType != "server" {
			t.Errorf("detail %v", d)
		}
		_, err = r.UpdateServer(t.Context(), &registryv1.UpdateServerRequest{Server: spec("nobody")})
		refused(t, err, codes.NotFound)
		_, err = r.DeleteServer(t.Context(), &registryv1.DeleteServerRequest{Name: "nobody"})
		refused(t, err, codes.NotFound)
		_, err = r.RefreshServer(t.Context(), &registryv1.RefreshServerRequest{Name: "nobody"})
		refused(t, err, codes.NotFound)
	})
}

func TestACollisionNamesBothServersAndTheName(t *testing.T) {
	overStores(t, func(t *testing.T, open func() store.Store) {
		up := newUpstreams()
		r := start(t, quick(open(), up))
		up.offer("one", "ask", "tell")
		up.offer("two", "tell", "ask")
		up.offer("three", "one_ask")
		r.register(t, spec("one"))
		r.register(t, spec("two")) // other prefixes, other names
		plain := spec("three")
		plain.Prefix = proto.String("")
		_, err := r.RegisterServer(t.Context(), &registryv1.RegisterServerRequest{Server: plain})
		st := refused(t, err, codes.AlreadyExists)
		for _, part := range []string{`"one"`, `"three"`, `"one_ask"`, "prefix"} {
			if !strings.Contains(st.Message(), part) {
				t.Errorf("no %s in %q", part, st.Message())
			}
		}
		if d := detail[*errdetails.ErrorInfo](t, st); d.Reason != "NAME_COLLISION" || d.Metadata["server"] != "three" || d.Metadata["other"] != "one" || d.Metadata["name"] != "one_ask" {
			t.Errorf("detail %v", d)
		}
		_, err = r.GetServer(t.Context(), &registryv1.GetServerRequest{Name: "three"})
		refused(t, err, codes.NotFound)

		same := spec("two")
		same.Prefix = proto.String("one_")
		_, err = r.UpdateServer(t.Context(), &registryv1.UpdateServerRequest{Server: same})
		refused(t, err, codes.AlreadyExists)
		if r.get(t, "two").Server.Prefix != nil {
			t.Error("a refused update changed the server")
		}
	})
}

func TestResourcesMayBeOfferedByManyServers(t *testing.T) {
	overStores(t, func(t *testing.T, open func() store.Store) {
		up := newUpstreams()
		r := start(t, quick(open(), up))
		for _, name := range []string{"a", "b"} {
			up.set(name, &registryv1.Offer{Resources: []*registryv1.Item{{Key: "file:///x"}}, ResourceTemplates: []*registryv1.Item{{Key: "f:{x}"}}})
			if st := r.register(t, spec(name)); st.State != ready {
				t.Errorf("%s is %v", name, st)
			}
		}
	})
}

func TestOfManyWhoRegisterTheSameAtOnceOneSucceeds(t *testing.T) {
	overStores(t, func(t *testing.T, open func() store.Store) {
		up := newUpstreams()
		r := start(t, quick(open(), up))
		var wg sync.WaitGroup
		var mu sync.Mutex
		accepted := map[string]int{}
		try := func(kind string, s *registryv1.Server) {
			up.offer(s.Name, "x")
			wg.Go(func() {
				_, err := r.RegisterServer(t.Context(), &registryv1.RegisterServerRequest{Server: s})
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					accepted[kind]++
				} else {
					refused(t, err, codes.AlreadyExists)
				}
			})
		}
		for i := range 5 {
			try("name", spec("same"))
			s := spec("s" + string(rune('a'+i)))
			s.Prefix = proto.String("")
			try("tool", s)
		}
		wg.Wait()
		if d := cmp.Diff(map[string]int{"name": 1, "tool": 1}, accepted); d != "" {
			t.Error(d)
		}
	})
}

func TestSecretsAreHiddenAndKept(t *testing.T) {
	overStores(t, func(t *testing.T, open func() store.Store) {
		up := newUpstreams()
		r := start(t, quick(open(), up))
		w := r.watch(t)
		secret := map[string]string{"k": "hunter2", "l": ""}
		http, stdio, grpc := spec("http"), spec("stdio"), spec("grpc")
		http.GetHttp().Headers = secret
		stdio.Endpoint = &registryv1.Server_Stdio{Stdio: &registryv1.StdioEndpoint{Command: []string{"x"}, Env: secret}}
		grpc.Endpoint = &registryv1.Server_Grpc{Grpc: &registryv1.GrpcEndpoint{Target: "x:1", Metadata: secret}}
		for _, s := range []*registryv1.Server{http, stdio, grpc} {
			up.offer(s.Name)
			registered := r.register(t, s)
			got := r.get(t, s.Name)
			list, err := r.ListServers(t.Context(), &registryv1.ListServersRequest{})
			if err != nil {
				t.Fatal(err)
			}
			updated, err := r.UpdateServer(t.Context(), &registryv1.UpdateServerRequest{Server: got.Server})
			if err != nil {
				t.Fatal(err)
			}
			refreshed, err := r.RefreshServer(t.Context(), &registryv1.RefreshServerRequest{Name: s.Name})
			if err != nil {
				t.Fatal(err)
			}
			for _, answer := range []proto.Message{registered, got, list, updated, refreshed} {
				if text := answer.(interface{ String() string }).String(); strings.Contains(text, "hunter2") || !strings.Contains(text, "***") {
					t.Errorf("%T shows %s", answer, text)
				}
			}
			w.until(t, "the secrets are published", func() bool { return proto.Equal(w.servers[s.Name].GetServer(), s) })
		}
		// One value is kept, one is new, one is gone.
		up.offer("http", "x")
		changed := proto.CloneOf(http)
		changed.GetHttp().Headers = map[string]string{"k": "***", "new": "n"}
		if _, err := r.UpdateServer(t.Context(), &registryv1.UpdateServerRequest{Server: changed}); err != nil {
			t.Fatal(err)
		}
		changed.GetHttp().Headers["k"] = "hunter2"
		w.until(t, "the update", func() bool { return proto.Equal(w.servers["http"].GetServer(), changed) && len(w.tools("http")) == 1 })
		// What was an environment variable is no header's value.
		moved := spec("stdio")
		moved.GetHttp().Headers = map[string]string{"k": "***"}
		_, err := r.UpdateServer(t.Context(), &registryv1.UpdateServerRequest{Server: moved})
		refused(t, err, codes.InvalidArgument)
	})
}

// Whoever may change a server, and may not see its secrets, must not get them by having them sent elsewhere.
func TestASecretIsKeptOnlyForThePlaceThatItWasGivenFor(t *testing.T) {
	overStores(t, func(t *testing.T, open func() store.Store) {
		up := newUpstreams()
		r := start(t, quick(open(), up))
		secret := map[string]string{"k": "hunter2"}
		place := func(kind, at string) *registryv1.Server {
			s := spec(kind)
			switch kind {
			case "http":
				s.GetHttp().Url, s.GetHttp().Headers = at, secret
			case "stdio":
				s.Endpoint = &registryv1.Server_Stdio{Stdio: &registryv1.StdioEndpoint{Command: strings.Fields(at), Env: secret}}
			case "grpc":
				s.Endpoint = &registryv1.Server_Grpc{Grpc: &registryv1.GrpcEndpoint{Target: at, Tls: true, Metadata: secret}}
			}
			return s
		}
		for kind, at := range map[string][2]string{
			"http": {"https://good.example/mcp", "https://evil.example/mcp"}, "stdio": {"good", "good --and env"}, "grpc": {"good:1", "evil:1"},
		} {
			up.offer(kind)
			shown := r.register(t, place(kind, at[0])).GetServer()
			elsewhere := place(kind, at[1])
			switch e := elsewhere.GetEndpoint().(type) { // with what was shown, as who does not know the value must
			case *registryv1.Server_Http:
				e.Http.Headers = shown.GetHttp().GetHeaders()
			case *registryv1.Server_Stdio:
				e.Stdio.Env = shown.GetStdio().GetEnv()
			case *registryv1.Server_Grpc:
				e.Grpc.Metadata = shown.GetGrpc().GetMetadata()
			}
			_, err := r.UpdateServer(t.Context(), &registryv1.UpdateServerRequest{Server: elsewhere})
			refused(t, err, codes.InvalidArgument)
			if _, err := r.UpdateServer(t.Context(), &registryv1.UpdateServerRequest{Server: place(kind, at[1])}); err != nil {
				t.Errorf("with its value written anew: %v", err)
			}
		}
		plain := place("http", "http://evil.example/mcp") // what was sent over TLS is not sent without
		plain.GetHttp().Headers = map[string]string{"k": "***"}
		_, err := r.UpdateServer(t.Context(), &registryv1.UpdateServerRequest{Server: plain})
		refused(t, err, codes.InvalidArgument)
		path := place("http", "https://evil.example/other")
		path.GetHttp().Headers = map[string]string{"k": "***"}
		if _, err := r.UpdateServer(t.Context(), &registryv1.UpdateServerRequest{Server: path}); err != nil {
			t.Errorf("another path of the same server: %v", err)
		}
	})
}

func TestAnUpdateKeepsTheOfferOfASilentServerAtTheSameAddressOnly(t *testing.T) {
	overStores(t, func(t *testing.T, open func() store.Store) {
		up := newUpstreams()
		r := start(t, quick(open(), up))
		up.offer("a", "x")
		r.register(t, spec("a"))
		up.set("a", nil)
		same := spec("a")
		same.GetHttp().Headers = map[string]string{"A": "b"}
		response, err := r.UpdateServer(t.Context(), &registryv1.UpdateServerRequest{Server: same})
		if err != nil || response.Status.State != unreachable || len(response.Status.Tools) != 1 {
			t.Errorf("%v, %v", response, err)
		}
		elsewhere := spec("a")
		elsewhere.GetHttp().Url = "http://other.example/mcp"
		response, err = r.UpdateServer(t.Context(), &registryv1.UpdateServerRequest{Server: elsewhere})
		if err != nil || response.Status.State != unreachable || len(response.Status.Tools) != 0 {
			t.Errorf("%v, %v", response, err)
		}
	})
}
