package usage

import (
	"sync"
	"time"

	metricsv1 "erlmcp.dev/proto/erlmcp/metrics/v1"
)

// batch waits to be sent. Once made it is never changed, since a batch that is sent again must be the same.
type batch struct {
	made    time.Time
	request *metricsv1.RecordUsageRequest
}

func (b *batch) calls() (n uint64) {
	for _, u := range b.request.GetUsage() {
		n += u.GetCalls()
	}
	return n
}

// queue holds batches, oldest first, up to a number of rows. Beyond it the oldest go.
type queue struct {
	limit int           // rows
	wake  chan struct{} // holds a token while something may be waiting

	mu      sync.Mutex
	batches []*batch
	rows    int
}

func newQueue(limit int) *queue { return &queue{limit: limit, wake: make(chan struct{}, 1)} }

// push adds the newest batch and returns those that had to go for it.
func (q *queue) push(b *batch) (dropped []*batch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.batches = append(q.batches, b)
	q.rows += len(b.request.GetUsage())
	for q.rows > q.limit && len(q.batches) > 1 {
		dropped = append(dropped, q.shift())
	}
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return dropped
}

// pop takes the oldest batch out; nil where there is none.
func (q *queue) pop() *batch {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.batches) == 0 {
		return nil
	}
	return q.shift()
}

// unpop puts back what pop gave. It is false where there is no room any more.
func (q *queue) unpop(b *batch) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if rows := len(b.request.GetUsage()); len(q.batches) > 0 && q.rows+rows > q.limit {
		return false
	}
	q.batches = append([]*batch{b}, q.batches...)
	q.rows += len(b.request.GetUsage())
	return true
}

func (q *queue) empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.batches) == 0
}

// shift needs the lock and a batch.
func (q *queue) shift() *batch {
	b := q.batches[0]
	q.batches[0] = nil // its memory goes with it
	q.batches = q.batches[1:]
	q.rows -= len(b.request.GetUsage())
	return b
}
