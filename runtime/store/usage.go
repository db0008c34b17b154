package store

import (
	"context"
	"fmt"
	"slices"
)

// Usage says what is in the store.
type Usage struct {
	// Items lists everything, the largest first.
	Items []Item
	// Total is the size of everything; Reclaimable of what a Collect with All
	// would remove now.
	Total, Reclaimable int64
}

// Usage lists what is in the store. The policy says which buckets are roots
// and caches. Builds go on meanwhile, so the answer may be old already.
func (s *Store) Usage(ctx context.Context, p Policy, owners ...Owner) (Usage, error) {
	u, err := s.usage(ctx, p, owners)
	if err != nil {
		return Usage{}, fmt.Errorf("usage of the store: %w", err)
	}
	return u, nil
}

func (s *Store) usage(ctx context.Context, p Policy, owners []Owner) (Usage, error) {
	g, err := s.load(ctx, p, owners)
	if err != nil {
		return Usage{}, err
	}
	leased, err := s.leased()
	if err != nil {
		return Usage{}, err
	}
	if err := g.sizeAll(ctx); err != nil {
		return Usage{}, err
	}
	g.keepRoots(leased)
	for _, t := range g.things {
		t.InUse = t.mark == live
	}
	g.spreadLastUsed()
	var u Usage
	for _, t := range g.things {
		u.Items = append(u.Items, t.Item)
		u.Total += t.Size
		if !t.InUse {
			u.Reclaimable += t.Size
		}
	}
	sortItems(u.Items)
	return u, nil
}

// spreadLastUsed gives everything the time of the latest record that needs
// it: going through the records from the latest on, each thing is reached
// once.
func (g *graph) spreadLastUsed() {
	var records []*thing
	for _, t := range g.things {
		t.mark = unmarked
		if !t.LastUsed.IsZero() && t.role != byFirstRef {
			records = append(records, t)
		}
	}
	slices.SortFunc(records, func(a, b *thing) int { return b.LastUsed.Compare(a.LastUsed) })
	for _, r := range records {
		g.keep(r.Ref)
		for _, t := range g.added {
			if t.LastUsed.Before(r.LastUsed) {
				t.LastUsed = r.LastUsed
			}
		}
	}
}
