package registry_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/services/registry/store"
	"erlmcp.dev/shared/testkit"
)

func TestAServerThatDoesNotAnswerIsAcceptedAndTriedUntilItDoes(t *testing.T) {
	overStores(t, func(t *testing.T, open func() store.Store) {
		up := newUpstreams()
		r := start(t, quick(open(), up))
		w := r.watch(t)
		st := r.register(t, spec("a"))
		if st.State != unreachable || !strings.Contains(st.Message, "connection refused") {
			t.Errorf("status %v", st)
		}
		testkit.Eventually(t, func() bool { return up.timesAsked("a") > 3 }, patience)
		w.until(t, "published without an offer", func() bool { return w.servers["a"].GetState() == unreachable && w.servers["a"].Offer == nil })
		up.offer("a", "x")
		w.until(t, "it answers", func() bool { return w.servers["a"].GetState() == ready && slices.Equal(w.tools("a"), []string{"x"}) })
		if st := r.get(t, "a"); st.Message != "" {
			t.Errorf("a ready server has the message %q", st.Message)
		}
	})
}

func TestAChangeThatAServerTellsOfIsPublished(t *testing.T) {
	overStores(t, func(t *testing.T, open func() store.Store) {
		up := newUpstreams()
		r := start(t, quick(open(), up))
		w := r.watch(t)
		up.offer("a", "x")
		r.register(t, spec("a"))
		testkit.Eventually(t, func() bool { return up.watched("a") == 1 }, patience)
		up.offer("a", "x", "y")
		up.tell("a")
		w.until(t, "the new tool", func() bool { return slices.Equal(w.tools("a"), []string{"x", "y"}) })
		if up.watched("a") != 1 {
			t.Errorf("%d subscriptions", up.watched("a"))
		}
		if _, err := r.DeleteServer(t.Context(), &registryv1.DeleteServerRequest{Name: "a"}); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, func() bool { return up.watched("a") == 0 }, patience)
	})
}

func TestABrokenSubscriptionIsMadeAgainAndTheServerAskedMeanwhile(t *testing.T) {
	overStores(t, func(t *testing.T, open func() store.Store) {
		up := newUpstreams()
		r := start(t, quick(open(), up))
		w := r.watch(t)
		up.offer("a", "x")
		r.register(t, spec("a"))
		for _, tool := range []string{"y", "z"} {
			testkit.Eventually(t, func() bool { return up.watched("a") == 1 }, patience)
			up.offer("a", tool) // and it tells nobody
			up.cut("a")
			w.until(t, "tool "+tool, func() bool { return slices.Equal(w.tools("a"), []string{tool}) })
		}
		testkit.Eventually(t, func() bool { return up.watched("a") == 1 }, patience)

		other := offer("z")
		other.Eras, other.LegacyVersion = []registryv1.Era{registryv1.Era_ERA_LEGACY}, "2025-11-25"
		up.set("a", other)
		up.tell("a")
		w.until(t, "another era", func() bool { return w.servers["a"].Offer.GetLegacyVersion() != "" })
		testkit.Eventually(t, func() bool { return up.watched("a") == 1 }, patience)
	})
}

func TestAProbeThatFindsNothingNewPublishesNothing(t *testing.T) {
	overStores(t, func(t *testing.T, open func() store.Store) {
		up := newUpstreams()
		c := quick(open(), up)
		c.ProbeInterval = 10 * time.Millisecond
		r := start(t, c)
		w := r.watch(t)
		up.offer("a", "x", "y", "z")
		r.register(t, spec("a"))
		w.until(t, "a", func() bool { return w.servers["a"] != nil })
		before := r.get(t, "a").CheckedAt.AsTime()
		asked := up.timesAsked("a")
		up.offer("a", "z", "x", "y") // another order is no news
		testkit.Eventually(t, func() bool { return up.timesAsked("a") > asked+5 }, patience)
		testkit.Eventually(t, func() bool { return r.get(t, "a").CheckedAt.AsTime().After(before) }, patience)
		r.register(t, spec("last"))
		w.until(t, "last", func() bool { return w.servers["last"] != nil })
		w.mu.Lock()
		defer w.mu.Unlock()
		published := 0
		for _, m := range w.messages {
			if slices.ContainsFunc(m.Servers, func(s *registryv1.CatalogServer) bool { return s.Server.Name == "a" }) {
				published++
			}
		}
		if published != 1 || !slices.Equal(w.tools("a"), []string{"x", "y", "z"}) {
			t.Errorf("published %d times, tools %v", published, w.tools("a"))
		}
	})
}

func TestAServerThatFailsKeepsItsOfferInTheCatalogue(t *testing.T) {
	overStores(t, func(t *testing.T, open func() store.Store) {
		up := newUpstreams()
		c := quick(open(), up)
		c.ProbeInterval = 20 * time.Millisecond
		r := start(t, c)
		w := r.watch(t)
		up.offer("a", "x")
		r.register(t, spec("a"))
		up.set("a", nil)
		st := r.becomes(t, "a", unreachable)
		if !slices.Equal(st.Tools, []string{"x"}) || !strings.Contains(st.Message, "connection refused") {
			t.Errorf("status %v", st)
		}
		w.until(t, "it is published so", func() bool { return w.servers["a"].GetState() == unreachable && len(w.tools("a")) == 1 })
		up.offer("a", "x")
		r.becomes(t, "a", ready)
	})
}

func TestRefreshAsksAtOnce(t *testing.T) {
	overStores(t, func(t *testing.T, open func() store.Store) {
		up := newUpstreams()
		r := start(t, quick(open(), up))
		up.offer("a", "x")
		r.register(t, spec("a"))
		up.offer("a", "y")
		refresh := func() (*registryv1.RefreshServerResponse, error) {
			return r.RefreshServer(t.Context(), &registryv1.RefreshServerRequest{Name: "a"})
		}
		response, err := refresh()
		if err != nil || !slices.Equal(response.Status.Tools, []string{"y"}) {
			t.Fatalf("%v, %v", response, err)
		}
		up.set("a", nil)
		_, err = refresh()
		if d := detail[*errdetails.ErrorInfo](t, refused(t, err, codes.Unavailable)); d.Reason != "UNREACHABLE" {
			t.Errorf("detail %v", d)
		}
		if st := r.get(t, "a"); st.State != unreachable || len(st.Tools) != 1 {
			t.Errorf("status %v", st)
		}
		up.offer("a", "y")
		if response, err = refresh(); err != nil || response.Status.State != ready {
			t.Errorf("%v, %v", response, err)
		}
	})
}

func TestACollisionThatComesLaterWithholdsTheOfferUntilTheNameIsFree(t *testing.T) {
	overStores(t, func(t *testing.T, open func() store.Store) {
		up := newUpstreams()
		r := start(t, quick(open(), up))
		w := r.watch(t)
		bare := func(name string) *registryv1.Server {
			s := spec(name)
			s.Prefix = proto.String("")
			return s
		}
		up.offer("a", "x")
		up.offer("b", "y")
		r.register(t, bare("a"))
		r.register(t, bare("b"))
		up.offer("b", "y", "x")
		testkit.Eventually(t, func() bool { return up.watched("b") == 1 }, patience)
		up.tell("b")
		st := r.becomes(t, "b", conflict)
		for _, part := range []string{`"a"`, `"b"`, `"x"`, "prefix"} {
			if !strings.Contains(st.Message, part) {
				t.Errorf("no %s in %q", part, st.Message)
			}
		}
		if len(st.Tools) != 0 {
			t.Errorf("it shows %v", st.Tools)
		}
		w.until(t, "withheld", func() bool { return w.servers["b"].GetState() == conflict && w.servers["b"].Offer == nil })
		if r.get(t, "a").State != ready {
			t.Error("the first one suffers")
		}
		if _, err := r.DeleteServer(t.Context(), &registryv1.DeleteServerRequest{Name: "a"}); err != nil {
			t.Fatal(err)
		}
		w.until(t, "shown", func() bool { return w.servers["b"].GetState() == ready && len(w.tools("b")) == 2 })
	})
}

func TestOffersThatCannotBeKeptCountAsNoAnswer(t *testing.T) {
	overStores(t, func(t *testing.T, open func() store.Store) {
		up := newUpstreams()
		r := start(t, quick(open(), up))
		many := &registryv1.Offer{}
		for i := range 20_001 {
			many.Resources = append(many.Resources, &registryv1.Item{Key: fmt.Sprint(i)})
		}
		for name, o := range map[string]*registryv1.Offer{
			"many": many, "huge": {Tools: []*registryv1.Item{{Key: "x", Json: make([]byte, 17<<20)}}},
			"nameless": offer(""), "nul": offer("a\x00b"), "broken": offer("a\xff"), "long": offer(strings.Repeat("x", 2000)),
			"text": {Instructions: "\xff"},
		} {
			up.set(name, o)
			if st := r.register(t, spec(name)); st.State != unreachable || len(st.Tools) != 0 || len(st.Resources) != 0 {
				t.Errorf("%s: %v %s", name, st.State, st.Message)
			}
		}
		up.set("twice", offer("x", "x")) // strange, but harmless
		if st := r.register(t, spec("twice")); st.State != ready {
			t.Errorf("%v", st)
		}
	})
}

func TestServersThatHangHoldUpNoOthers(t *testing.T) {
	up := newUpstreams()
	c := quick(onPostgres(t)(), up)
	c.DescribeTimeout = 100 * time.Millisecond
	c.ProbeInterval = 50 * time.Millisecond
	for i := range 60 {
		name := fmt.Sprintf("hung-%d", i)
		up.hangs(name)
		c.Declared = append(c.Declared, spec(name))
	}
	up.offer("fine", "x")
	c.Declared = append(c.Declared, spec("fine"))
	r := start(t, c)
	r.becomes(t, "fine", ready)
	r.becomes(t, "hung-59", unreachable)
	asked := up.timesAsked("fine")
	began := time.Now()
	testkit.Eventually(t, func() bool { return up.timesAsked("fine") > asked+10 }, patience)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("10 probes of a server that answers took %v", took)
	}
	for i := range 60 {
		if name := fmt.Sprintf("hung-%d", i); up.mostAtOnce(name) > 1 {
			t.Errorf("%s was asked %d times at once", name, up.mostAtOnce(name))
		}
	}
}

func TestAServerThatCriesWolfIsAskedEverMoreSeldom(t *testing.T) {
	up := newUpstreams()
	c := quick(onPostgres(t)(), up)
	c.Debounce = 2 * time.Millisecond // so once in 100 ms at last
	r := start(t, c)
	up.offer("a", "x")
	r.register(t, spec("a"))
	testkit.Eventually(t, func() bool { return up.watched("a") == 1 }, patience)
	asked := up.timesAsked("a")
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		up.tell("a")
	}
	if n := up.timesAsked("a") - asked; n > 30 || n < 3 {
		t.Errorf("asked %d times in a second", n)
	}
}
