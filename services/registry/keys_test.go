package registry_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/services/registry/store"
	"erlmcp.dev/shared/access"
)

func TestAKeyWorksUntilItIsRevoked(t *testing.T) {
	overStores(t, func(t *testing.T, open func() store.Store) {
		r := start(t, quick(open(), newUpstreams()))
		w := r.watch(t)
		made, err := r.CreateKey(t.Context(), &registryv1.CreateKeyRequest{Principal: "ann", Description: "laptop", Ttl: durationpb.New(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		if k := made.Key; k.Role != registryv1.Role_ROLE_USER || time.Until(k.ExpiresAt.AsTime()) < 59*time.Minute || time.Until(k.ExpiresAt.AsTime()) > time.Hour {
			t.Errorf("key %v", k)
		}
		admin, err := r.CreateKey(t.Context(), &registryv1.CreateKeyRequest{Principal: "bob", Role: registryv1.Role_ROLE_ADMIN})
		if err != nil || admin.Key.Role != registryv1.Role_ROLE_ADMIN || admin.Key.ExpiresAt != nil {
			t.Fatalf("%v, %v", admin, err)
		}
		w.until(t, "the keys", func() bool { return len(w.keys) == 2 })
		authenticate := func() (access.Principal, error) {
			var set access.KeySet
			w.mu.Lock()
			defer w.mu.Unlock()
			for _, k := range w.keys {
				set.Apply(false, []*registryv1.KeyRecord{k}, nil)
			}
			return set.Authenticate(t.Context(), made.Secret)
		}
		if p, err := authenticate(); err != nil || p.ID != "ann" {
			t.Errorf("%v, %v", p, err)
		}
		list, err := r.ListKeys(t.Context(), &registryv1.ListKeysRequest{})
		if err != nil || len(list.Keys) != 2 || list.Keys[0].Principal != "bob" {
			t.Errorf("%v, %v", list, err)
		}
		if _, err := r.RevokeKey(t.Context(), &registryv1.RevokeKeyRequest{Id: made.Key.Id}); err != nil {
			t.Fatal(err)
		}
		w.until(t, "the key is revoked", func() bool { return len(w.keys) == 1 })
		if _, err := authenticate(); err == nil {
			t.Error("a revoked key works")
		}
		_, err = r.RevokeKey(t.Context(), &registryv1.RevokeKeyRequest{Id: made.Key.Id})
		refused(t, err, codes.NotFound)
	})
}

func TestReplicasThatStartTogetherMakeOneAdminKey(t *testing.T) {
	overStores(t, func(t *testing.T, open func() store.Store) {
		replicas := []*replica{start(t, quick(open(), newUpstreams())), start(t, quick(open(), newUpstreams()))}
		var wg sync.WaitGroup
		var mu sync.Mutex
		var secrets []string
		for i := range 6 {
			wg.Go(func() {
				secret, created, err := replicas[i%2].service.EnsureAdminKey(t.Context())
				if err != nil || created != (secret != "") {
					t.Errorf("%q, %v, %v", secret, created, err)
				}
				mu.Lock()
				defer mu.Unlock()
				if created {
					secrets = append(secrets, secret)
				}
			})
		}
		wg.Wait()
		list, err := replicas[0].ListKeys(t.Context(), &registryv1.ListKeysRequest{})
		if err != nil || len(secrets) != 1 || len(list.Keys) != 1 || list.Keys[0].Role != registryv1.Role_ROLE_ADMIN {
			t.Errorf("%d secrets, keys %v, %v", len(secrets), list, err)
		}
	})
}

func TestAnOperatorsAdminKeyIsAddedOnce(t *testing.T) {
	overStores(t, func(t *testing.T, open func() store.Store) {
		replicas := []*replica{start(t, quick(open(), newUpstreams())), start(t, quick(open(), newUpstreams()))}
		give := func(i int, key string) {
			t.Helper()
			if err := replicas[i].service.GiveAdminKey(t.Context(), key); err != nil {
				t.Fatal(err)
			}
		}
		first := "erlmcp_firstkey_" + strings.Repeat("a1", 16)
		give(0, first)
		give(1, first)
		give(0, "erlmcp_nextkey2_"+strings.Repeat("b2", 16))
		list, err := replicas[0].ListKeys(t.Context(), &registryv1.ListKeysRequest{})
		if err != nil || len(list.Keys) != 2 || list.Keys[0].Principal != "admin" || list.Keys[0].Role != registryv1.Role_ROLE_ADMIN {
			t.Errorf("%v, %v", list, err)
		}
		if err := replicas[0].service.GiveAdminKey(t.Context(), "erlmcp_short_key"); err == nil {
			t.Error("a key that can be guessed is taken")
		}
	})
}

func TestAKeyThatExpiredLongAgoGoesWhenTheNextIsMade(t *testing.T) {
	overStores(t, func(t *testing.T, open func() store.Store) {
		s := open()
		r := start(t, quick(s, newUpstreams()))
		for principal, ago := range map[string]time.Duration{"old": 8 * 24 * time.Hour, "recent": time.Hour} {
			record, _, err := access.NewKey(principal, registryv1.Role_ROLE_USER, "", time.Now().Add(-ago))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Change(t.Context(), func(tx store.Tx) error { return tx.AddKey(t.Context(), record) }); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := r.CreateKey(t.Context(), &registryv1.CreateKeyRequest{Principal: "new"}); err != nil {
			t.Fatal(err)
		}
		list, err := r.ListKeys(t.Context(), &registryv1.ListKeysRequest{})
		if err != nil || len(list.Keys) != 2 || list.Keys[0].Principal != "new" || list.Keys[1].Principal != "recent" {
			t.Errorf("%v, %v", list, err)
		}
	})
}
