// Package nearest finds what a misspelled name was probably meant to be.
package nearest

import "strings"

// Name is the candidate that name was probably meant to be, or "": the one
// in the fewest edits, at most a third of its length.
func Name(name string, candidates []string) string {
	best, bestCost := "", 1<<30
	for _, c := range candidates {
		if c == name {
			continue
		}
		cost := Distance(fold(name), fold(c))
		limit := max(1, (max(len(name), len(c))+1)/3)
		if cost <= limit && (cost < bestCost || cost == bestCost && c < best) {
			best, bestCost = c, cost
		}
	}
	return best
}

// fold drops what people mix up: case, '-', '_' and '#'.
func fold(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || r == '#' {
			return -1
		}
		return r
	}, strings.ToLower(s))
}

// Distance counts the insertions, deletions, replacements and swaps of
// neighbours that make a into b.
func Distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	var before, prev []int
	row := make([]int, len(y)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(x); i++ {
		before, prev, row = prev, row, make([]int, len(y)+1)
		row[0] = i
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(y)]
}
