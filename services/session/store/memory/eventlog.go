package memory

import (
	"sort"
	"time"

	"erlmcp.dev/services/session/store"
)

// eventLog is the events of one session, of all its streams in the order they came, so that the oldest can go
// first. The zero value is empty.
type eventLog struct {
	entries []entry
	bytes   int
	// last is the sequence number given last.
	last uint64
	// streams has those with entries and those remembered for having lost theirs.
	streams map[string]streamState
	// forgotten: streams that are not in the map may have lost events up to this one.
	forgotten uint64
	// empty counts the streams that have no entries.
	empty int
}

type entry struct {
	seq     uint64
	stream  string
	message []byte
	closes  bool
	at      time.Time
}

type streamState struct {
	// kept counts its entries; up to trimmed it lost some, or may have.
	kept    int
	trimmed uint64
	closed  bool
}

func (l *eventLog) add(e entry) {
	l.last++
	e.seq = l.last
	l.entries = append(l.entries, e)
	l.bytes += len(e.message)
	if l.streams == nil {
		l.streams = make(map[string]streamState)
	}
	state, known := l.streams[e.stream]
	switch {
	case !known: // it may be one that was forgotten
		state.trimmed = l.forgotten
	case state.kept == 0:
		l.empty--
	}
	state.kept++
	state.closed = state.closed || e.closes
	l.streams[e.stream] = state
}

// trim drops the oldest entries until the log is within its bounds.
func (l *eventLog) trim(limits store.Limits, now time.Time) {
	n := 0
	for _, e := range l.entries {
		if len(l.entries)-n <= limits.Events && l.bytes <= limits.EventBytes && now.Sub(e.at) <= limits.EventAge {
			break
		}
		n++
		l.bytes -= len(e.message)
		state := l.streams[e.stream]
		state.trimmed = e.seq
		if e.closes {
			state.closed = false
		}
		if state.kept--; state.kept == 0 {
			l.empty++
		}
		l.streams[e.stream] = state
	}
	if n == 0 {
		return
	}
	clear(l.entries[:n]) // append moves the rest to a new array in time; the messages must not wait for that
	l.entries = l.entries[n:]
	if len(l.entries) == 0 {
		l.entries = nil
	}
	for l.empty > limits.TrimmedStreams {
		l.forget()
	}
}

// forget forgets the stream without entries that lost its last one first.
func (l *eventLog) forget() {
	oldest, found := "", uint64(0)
	for name, state := range l.streams {
		if state.kept == 0 && (found == 0 || state.trimmed < found) {
			oldest, found = name, state.trimmed
		}
	}
	l.forgotten = max(l.forgotten, found)
	delete(l.streams, oldest)
	l.empty--
}

// missed tells that the stream lost, or may have lost, events after this one.
func (l *eventLog) missed(stream string, after uint64) bool {
	state, known := l.streams[stream]
	if !known {
		return after < l.forgotten
	}
	return after < state.trimmed
}

func (l *eventLog) read(stream string, after uint64, limit int) store.Page {
	var page store.Page
	start := sort.Search(len(l.entries), func(i int) bool { return l.entries[i].seq > after })
	for _, e := range l.entries[start:] {
		if e.stream != stream {
			continue
		}
		if e.closes {
			page.Closed = true
			break
		}
		if len(page.Events) == limit {
			break
		}
		page.Events = append(page.Events, store.Event{Seq: e.seq, Message: e.message})
	}
	// After the closing itself nothing is left to find.
	page.Closed = page.Closed || len(page.Events) == 0 && l.streams[stream].closed
	return page
}
