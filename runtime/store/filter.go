package store

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Filter selects what a collection may drop. The zero Filter selects all.
type Filter struct {
	// Until selects what was last used longer ago than this.
	Until time.Duration
	// IDs selects by key or ref; any of them matches.
	IDs []string
	// Types selects by bucket, and "download" for unfinished downloads; any
	// of them matches.
	Types []string
}

// ParseFilter reads filters as they stand on the command line: "until=24h",
// "id=KEY", "type=BUCKET". Several ids, and several types, are alternatives.
func ParseFilter(exprs []string) (Filter, error) {
	var f Filter
	for _, expr := range exprs {
		name, value, ok := strings.Cut(expr, "=")
		if !ok || value == "" {
			return Filter{}, fmt.Errorf("filter %q: write NAME=VALUE", expr)
		}
		switch name {
		case "until":
			d, err := time.ParseDuration(value)
			if err != nil || d <= 0 {
				return Filter{}, fmt.Errorf("filter %q: write a duration such as until=24h", expr)
			}
			f.Until = d
		case "id":
			f.IDs = append(f.IDs, value)
		case "type":
			f.Types = append(f.Types, value)
		default:
			return Filter{}, fmt.Errorf("filter %q: unknown filter %q; known are until, id and type", expr, name)
		}
	}
	return f, nil
}

func (f Filter) isZero() bool { return f.Until == 0 && len(f.IDs) == 0 && len(f.Types) == 0 }

func (f Filter) matches(t *thing, now time.Time) bool {
	if f.Until > 0 && now.Sub(t.LastUsed) < f.Until {
		return false
	}
	if len(f.Types) > 0 && !slices.Contains(f.Types, t.Type) {
		return false
	}
	return len(f.IDs) == 0 || slices.Contains(f.IDs, string(t.Ref)) || slices.Contains(f.IDs, t.key)
}
