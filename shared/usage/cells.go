package usage

import (
	"hash/maphash"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"erlmcp.dev/shared/latency"
)

// Other stands for names that are too many, too long or no text.
const Other = "other"

// Longest fields that the metrics service takes, in characters; here in bytes, of which a character has one at least.
const (
	maxPrincipal = 256
	maxServer    = 64
	maxMethod    = 128
	maxName      = 256
	maxTenant    = 128
)

type key struct{ principal, server, method, name string }

// cell is what was counted since the last collection.
type cell struct {
	tenant        string // of the principal, as the last call has it
	calls, errors uint64
	nanos         uint64
	// took counts calls by how long they took.
	took [latency.Buckets]uint32
	// idle counts collections that found nothing.
	idle int
}

// idleLimit is after how many idle collections a cell goes: until then a call that comes now and then allocates nothing.
const idleLimit = 12

const shards = 16

// cells counts calls by key. A key's cell is made with its first call and stays while it is used, so that counting
// usually allocates nothing. The shards keep concurrent callers apart.
type cells struct {
	seed  maphash.Seed
	shard [shards]shard
}

type shard struct {
	mu    sync.Mutex
	cells map[key]*cell
	// Up to named cells any key gets its own; up to all cells, one whose name is Other; then only the last one, Other
	// throughout.
	named, all int
	_          [64]byte // apart in the processor's cache
}

func newCells(keys int) *cells {
	c := &cells{seed: maphash.MakeSeed()}
	all := max(keys/shards, 4)
	for i := range c.shard {
		c.shard[i].cells = make(map[key]*cell)
		c.shard[i].named, c.shard[i].all = all*3/4, all
	}
	return c
}

func (c *cells) add(k key, tenant string, failed bool, d time.Duration) {
	// Principal and name tell most keys apart, and hashing only them takes a fraction of the time.
	s := &c.shard[(maphash.String(c.seed, k.principal)^maphash.String(c.seed, k.name))%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.cells[k]
	if at == nil {
		at = s.make(k)
	}
	if at.tenant != tenant && (at.tenant == "" || tenant != "") {
		at.tenant = strings.Clone(fit(tenant, maxTenant))
	}
	at.calls++
	if failed {
		at.errors++
	}
	at.nanos += uint64(max(d, 0))
	at.took[latency.Bucket(d)]++
}

// make finds or makes the cell for a key that has none.
func (s *shard) make(k key) *cell {
	k = key{
		principal: fit(k.principal, maxPrincipal), server: fit(k.server, maxServer),
		method: fit(k.method, maxMethod), name: fit(k.name, maxName),
	}
	if c := s.cells[k]; c != nil || len(s.cells) < s.named {
		return s.put(k, c)
	}
	if k.name != "" {
		k.name = Other
	}
	if c := s.cells[k]; c != nil || len(s.cells) < s.all {
		return s.put(k, c)
	}
	k = key{Other, Other, Other, Other}
	return s.put(k, s.cells[k])
}

// put returns c, or a new cell where it is nil. The key is copied: callers' strings may be parts of whole messages.
func (s *shard) put(k key, c *cell) *cell {
	if c == nil {
		c = new(cell)
		s.cells[key{
			strings.Clone(k.principal), strings.Clone(k.server), strings.Clone(k.method), strings.Clone(k.name),
		}] = c
	}
	return c
}

// fit returns s where the service takes it. One string that it refuses would have the whole batch refused.
func fit(s string, longest int) string {
	if len(s) > longest || !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0 {
		return Other
	}
	return s
}

// collect passes on what was counted and starts from zero.
func (c *cells) collect(take func(key, *cell)) {
	for i := range c.shard {
		s := &c.shard[i]
		s.mu.Lock()
		for k, at := range s.cells {
			switch {
			case at.calls > 0:
				take(k, at)
				*at = cell{tenant: at.tenant}
			case at.idle >= idleLimit:
				delete(s.cells, k)
			default:
				at.idle++
			}
		}
		s.mu.Unlock()
	}
}
