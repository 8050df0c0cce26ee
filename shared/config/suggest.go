package config

import "strings"

// nearest returns the name that is most like a misspelt one, or "" when none is alike. A name's last part counts
// alone too, so that "http" finds "ports.http".
func nearest(wrong string, names []string) string {
	best, bestDistance := "", len(wrong)/3+2
	for _, name := range names {
		d := distance(strings.ToLower(wrong), strings.ToLower(name))
		if dot := strings.LastIndexByte(name, '.'); dot >= 0 && !strings.Contains(wrong, ".") {
			d = min(d, distance(strings.ToLower(wrong), name[dot+1:])+1)
		}
		if d < bestDistance {
			best, bestDistance = name, d
		}
	}
	return best
}

// didYouMean is a fix that names the nearest, or else the alternative.
func didYouMean(wrong string, names []string, otherwise string) string {
	if n := nearest(wrong, names); n != "" {
		return "did you mean " + n + "?"
	}
	return otherwise
}

// distance counts the insertions, deletions, replacements and swaps of neighbours between two words.
func distance(a, b string) int {
	const longest = 80
	if len(a) > longest || len(b) > longest {
		return longest
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
