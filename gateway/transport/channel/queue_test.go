package channel

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/mcp"
)

func message(size int) outgoing { return outgoing{pieces: [][]byte{make([]byte, size)}} }

func TestAFullQueueDropsWhatCanBeMissedAndHoldsUpTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(2, 100, func() {})
		ctx := t.Context()
		for range 2 {
			if err := q.put(ctx, message(10), false); err != nil {
				t.Fatal(err)
			}
		}
		if err := q.put(ctx, message(10), true); err != nil {
			t.Fatal(err)
		}
		put := make(chan error, 1)
		go func() { put <- q.put(ctx, message(20), false) }()
		synctest.Wait()
		select {
		case err := <-put:
			t.Fatalf("a full queue took a message: %v", err)
		default:
		}
		for _, want := range []int{10, 10, 20} {
			m, ok, _ := q.take()
			synctest.Wait()
			if !ok || m.size != want {
				t.Fatalf("took %d, %v; want %d", m.size, ok, want)
			}
		}
		if err := <-put; err != nil {
			t.Error(err)
		}
	})
}

func TestAQueueTakesOneMessageOfAnySize(t *testing.T) {
	q := newQueue(10, 100, func() {})
	if err := q.put(t.Context(), message(1000), false); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := q.put(ctx, message(1), false); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestAClosedQueueIsEmptiedAndTakesNoMore(t *testing.T) {
	q := newQueue(10, 100, func() {})
	if err := q.put(t.Context(), message(1), false); err != nil {
		t.Fatal(err)
	}
	q.close()
	if err := q.put(t.Context(), message(1), false); !errors.Is(err, errClosed) {
		t.Errorf("got %v", err)
	}
	if _, ok, _ := q.take(); !ok {
		t.Error("what was queued is lost")
	}
	if _, ok, last := q.take(); ok || !last {
		t.Error("there is more than was put, or the end is not told")
	}
}

// There is one writer while there is something to write, and one at the end, which closes the connection.
func TestAQueueHasAWriterWhenItNeedsOne(t *testing.T) {
	began := 0
	q := newQueue(10, 100, func() { began++ })
	put := func(writers int) {
		t.Helper()
		if err := q.put(t.Context(), message(1), false); err != nil {
			t.Fatal(err)
		}
		if began != writers {
			t.Fatalf("%d writers began, want %d", began, writers)
		}
	}
	take := func(wantOK, wantLast bool) {
		t.Helper()
		if _, ok, last := q.take(); ok != wantOK || last != wantLast {
			t.Fatalf("took %v, last %v", ok, last)
		}
	}
	put(1)
	put(1)
	take(true, false)
	take(true, false)
	put(1)
	take(true, false)
	take(false, false)
	put(2)
	take(true, false)
	take(false, false)
	q.close()
	if began != 3 {
		t.Errorf("nobody sees to the end: %d writers began", began)
	}
	take(false, true)
	q.close()
	if began != 3 {
		t.Errorf("another writer began behind the last: %d", began)
	}
}

func TestOnlyProgressAndLogsCanBeMissed(t *testing.T) {
	for method, want := range map[string]bool{
		mcp.MethodProgress: true, mcp.MethodMessage: true, mcp.MethodToolsChanged: false, mcp.MethodAcknowledged: false,
	} {
		if got := droppable(jsonrpc.Request(nil, method, nil)); got != want {
			t.Errorf("%s: %v", method, got)
		}
	}
	if droppable(jsonrpc.Response(jsonrpc.IntID(1), []byte(`{"method":"notifications/progress"}`))) {
		t.Error("an answer can be missed")
	}
}
