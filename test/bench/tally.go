package bench

import (
	"fmt"
	"slices"
	"strings"
)

// kinds is how many kinds of error a tally tells apart.
const kinds = 8

// tally counts errors by what they say, apart from the numbers in it.
type tally map[string]int

func (t *tally) add(err error) { t.count(anonymous(err.Error()), 1) }

func (t *tally) count(kind string, n int) {
	if *t == nil {
		*t = tally{}
	}
	if _, known := (*t)[kind]; !known && len(*t) >= kinds {
		kind = "other errors"
	}
	(*t)[kind] += n
}

func (t *tally) merge(other tally) {
	for kind, n := range other {
		t.count(kind, n)
	}
}

func (t tally) total() (sum int) {
	for _, n := range t {
		sum += n
	}
	return sum
}

// lines are the kinds with their counts, most frequent first.
func (t tally) lines() []string {
	found := make([]string, 0, len(t))
	for kind := range t {
		found = append(found, kind)
	}
	slices.SortFunc(found, func(a, b string) int {
		if t[a] != t[b] {
			return t[b] - t[a]
		}
		return strings.Compare(a, b)
	})
	for i, kind := range found {
		found[i] = fmt.Sprintf("%d times: %s", t[kind], kind)
	}
	return found
}

// anonymous turns runs of five digits and more, the numbers of calls and ports, into one N.
func anonymous(text string) string {
	var out strings.Builder
	for i := 0; i < len(text); {
		end := i
		for end < len(text) && text[end] >= '0' && text[end] <= '9' {
			end++
		}
		switch {
		case end-i >= 5:
			out.WriteByte('N')
		case end > i:
			out.WriteString(text[i:end])
		default:
			out.WriteByte(text[i])
			end = i + 1
		}
		i = end
	}
	return out.String()
}
