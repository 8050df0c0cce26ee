package redis_test

import (
	"errors"
	"net"
	"testing"

	"erlmcp.dev/services/session/store"
	"erlmcp.dev/services/session/store/redis"
	"erlmcp.dev/shared/redisx"
	"erlmcp.dev/shared/testkit"
)

// A claim and an event that never reached the replica which took over are lost, and nothing that comes after is
// mistaken for them.
func TestWhatAFailoverLosesIsNotGivenAgain(t *testing.T) {
	ctx := t.Context()
	primary := testkit.Redis(t)
	_, port, err := net.SplitHostPort(primary)
	if err != nil {
		t.Fatal(err)
	}
	replica, err := testkit.StartRedis(ctx, "", "--replicaof", "127.0.0.1 "+port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(replica.Stop)
	before := connect(t, redisx.Settings{Addresses: []string{primary}})
	after := connect(t, redisx.Settings{Addresses: []string{replica.Address()}})
	old, taken := redis.New(redis.Config{Client: before}), redis.New(redis.Config{Client: after})

	const id = "5bd1f0c2-7a0e-4d35-9c1d-3f7b8a6f2c11"
	if err := old.Create(ctx, "a", store.Record{ID: id, Principal: "alice"}); err != nil {
		t.Fatal(err)
	}
	if _, err := old.Append(ctx, id, "a", 1, "0", []byte("kept")); err != nil {
		t.Fatal(err)
	}
	if n, err := before.Do(ctx, "WAIT", 1, 10_000).Int(); err != nil || n != 1 {
		t.Fatalf("%d replicas have it, %v", n, err)
	}
	if err := after.SlaveOf(ctx, "NO", "ONE").Err(); err != nil { // from here on it hears nothing
		t.Fatal(err)
	}
	lostEpoch, err := old.Claim(ctx, id, "b", 1)
	if err != nil {
		t.Fatal(err)
	}
	lostEvent, err := old.Append(ctx, id, "b", lostEpoch, "0", []byte("lost"), []byte("lost"))
	if err != nil {
		t.Fatal(err)
	}

	if err := taken.Save(ctx, id, "b", lostEpoch, store.Changes{}); !errors.Is(err, store.ErrFenced) {
		t.Errorf("the node whose claim was lost writes: %v", err)
	}
	epoch, err := taken.Claim(ctx, id, "b", 1)
	if err != nil {
		t.Fatal(err)
	}
	if epoch <= lostEpoch {
		t.Errorf("epoch %d was given again as %d", lostEpoch, epoch)
	}
	if err := taken.Save(ctx, id, "b", lostEpoch, store.Changes{}); !errors.Is(err, store.ErrFenced) {
		t.Errorf("at the lost epoch: %v", err)
	}
	next, err := taken.Append(ctx, id, "b", epoch, "0", []byte("next"))
	if err != nil {
		t.Fatal(err)
	}
	page, err := taken.Read(ctx, id, "0", lostEvent, 0)
	if err != nil || len(page.Events) != 1 || page.Events[0].Seq != next || string(page.Events[0].Message) != "next" {
		t.Errorf("behind the lost event %d: %v, %v", lostEvent, page, err)
	}
}
