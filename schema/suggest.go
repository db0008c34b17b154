package schema

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/strata-build/strata/internal/nearest"
)

// didYouMean is a hint that names the candidate nearest to name, or "".
func didYouMean(name string, candidates []string) string {
	if best := nearest.Name(name, candidates); best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return ""
}

// enumerate joins quoted names in a sentence: "a", "b" and "c".
func enumerate(names []string) string {
	if len(names) < 2 {
		return quoted(names)
	}
	last := len(names) - 1
	return quoted(names[:last]) + " and " + quoted(names[last:])
}

// quoted joins quoted names with commas.
func quoted(names []string) string {
	list := make([]string, len(names))
	for i, n := range names {
		list[i] = strconv.Quote(n)
	}
	return strings.Join(list, ", ")
}

// listed joins the first names for a hint, sorted.
func listed(names []string, limit int) string {
	names = slices.Sorted(slices.Values(names))
	if len(names) > limit {
		return strings.Join(names[:limit], ", ") + fmt.Sprintf(" and %d more", len(names)-limit)
	}
	return strings.Join(names, ", ")
}
