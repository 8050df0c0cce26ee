package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"sync/atomic"
)

// checker tells whether an answer is the right one. It is shared by all clients of a case and target.
type checker struct {
	method string
	// list is the first list that was got, and read in full: all others must be equal to it except for their
	// ids. It is nil before.
	list atomic.Pointer[splitList]
}

// splitList is an encoded answer to tools/list, before and after its id.
type splitList struct{ before, after []byte }

func (c *checker) check(r response, number uint64) error {
	if r.status != 200 {
		return fmt.Errorf("status %d: %.150s", r.status, r.body)
	}
	var buffer [len(hole)]byte
	id := strconv.AppendUint(buffer[:0], number, 10)
	if c.method == "tools/list" {
		return c.checkList(r.body, id)
	}
	if !holds(r.body, `"id":`, id, ",}") || !holds(r.body, `"hello `, id, `"`) {
		return fmt.Errorf("not the answer to this call: %.150s", r.body)
	}
	return nil
}

// holds tells whether text has the prefix, the number and one of the ends in a row.
func holds(text []byte, prefix string, number []byte, ends string) bool {
	for {
		at := bytes.Index(text, number)
		if at < 0 {
			return false
		}
		after := text[at+len(number):]
		if bytes.HasSuffix(text[:at], []byte(prefix)) && len(after) > 0 && bytes.IndexByte([]byte(ends), after[0]) >= 0 {
			return true
		}
		text = after
	}
}

func (c *checker) checkList(body, id []byte) error {
	want := c.list.Load()
	if want == nil {
		first, err := readList(body, id)
		if err != nil {
			return err
		}
		c.list.CompareAndSwap(nil, first)
		want = c.list.Load()
	}
	before, after := len(want.before), len(want.after)
	switch {
	case len(body) != before+len(id)+after:
		return fmt.Errorf("a list of %d bytes, the first had %d: %.150s", len(body), before+len(id)+after, body)
	case !bytes.Equal(body[before:before+len(id)], id):
		return fmt.Errorf("not the answer to this call: %.150s", body)
	case !bytes.Equal(body[:before], want.before) || !bytes.Equal(body[before+len(id):], want.after):
		return fmt.Errorf("a list that differs from the first: %.150s", body)
	}
	return nil
}

func readList(body, id []byte) (*splitList, error) {
	var list struct {
		ID     json.RawMessage `json:"id"`
		Result struct {
			Tools []struct {
				Name string `json:"name"`
			} `json:"tools"`
		} `json:"result"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("not a list: %w: %.150s", err, body)
	}
	if !bytes.Equal(list.ID, id) || len(list.Result.Tools) != ToolCount {
		return nil, fmt.Errorf("a list of %d tools with id %s, want %d and %s: %.150s", len(list.Result.Tools), list.ID, ToolCount, id, body)
	}
	at := bytes.Index(body, append([]byte(`"id":`), id...))
	if at < 0 {
		return nil, fmt.Errorf("an id with space before it: %.150s", body)
	}
	at += len(`"id":`)
	return &splitList{bytes.Clone(body[:at]), bytes.Clone(body[at+len(id):])}, nil
}
