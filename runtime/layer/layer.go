package layer

import (
	"context"
	"iter"

	"github.com/strata-build/strata/runtime/tree"
)

// Override is the intended owner, type and device number of a file; see
// tree.Override.
type Override = tree.Override

// OverrideXattr is the extended attribute that holds an Override.
const OverrideXattr = tree.OverrideXattr

// Change is one path that a layer adds, modifies or deletes.
type Change = tree.Change

// Changes lists what a layer directory changes on those below; see
// tree.Changes.
func Changes(ctx context.Context, dir string, lower []string, f tree.Format) iter.Seq2[Change, error] {
	return tree.Changes(ctx, dir, lower, f)
}

// CompareRequest names the two trees of Compare.
type CompareRequest = tree.CompareRequest

// Compare writes what turns one tree into another as a layer directory; see
// tree.Compare.
func Compare(ctx context.Context, req CompareRequest) error { return tree.Compare(ctx, req) }
