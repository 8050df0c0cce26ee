package discovery

import (
	"context"
	"sync"
)

// turns lets one at a time do something for a name. Names that nobody waits for take no room.
type turns struct {
	mu sync.Mutex
	of map[string]*turn
}

type turn struct {
	taken chan struct{} // of one place
	users int           // who has it or waits for it
}

// enter waits for the turn. leave ends it, and must be called.
func (t *turns) enter(ctx context.Context, name string) (leave func(), err error) {
	t.mu.Lock()
	if t.of == nil {
		t.of = map[string]*turn{}
	}
	mine := t.of[name]
	if mine == nil {
		mine = &turn{taken: make(chan struct{}, 1)}
		t.of[name] = mine
	}
	mine.users++
	t.mu.Unlock()

	select {
	case mine.taken <- struct{}{}:
		return func() {
			<-mine.taken
			t.forget(name, mine)
		}, nil
	case <-ctx.Done():
		t.forget(name, mine)
		return nil, ctx.Err()
	}
}

func (t *turns) forget(name string, mine *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if mine.users--; mine.users == 0 {
		delete(t.of, name)
	}
}
