package engine

import (
	"context"

	"github.com/strata-build/strata/runtime/store"
)

// Root is the store's directory.
func (e *Engine) Root() string { return e.opt.Root }

// Rootless reports whether the engine works inside a user namespace, and
// whether that maps a single id only.
func (e *Engine) Rootless() (rootless, singleID bool) { return e.opt.Rootless, e.opt.SingleID }

// Fsck reads everything in the store and returns what is damaged; with Repair
// that is removed, to be made or fetched again.
func (e *Engine) Fsck(ctx context.Context, o store.FsckOptions) ([]store.Problem, error) {
	owners, err := e.owners()
	if err != nil {
		return nil, err
	}
	o.Policy = policy()
	return e.Store.Fsck(ctx, o, owners...)
}
