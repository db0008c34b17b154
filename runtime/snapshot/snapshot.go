// Package snapshot keeps layers, immutable directories in overlayfs upper
// format, and stacks them into the file trees that steps run on. It has two
// drivers: overlay, where a step's changes land in the layer by themselves,
// and copy, for machines on which overlayfs cannot be mounted.
//
// On disk, in the store's directory "snapshots":
//
//	layers/<id>/fs      a layer in overlay format
//	layers/<id>/stamp   symbolic link that holds a store.Stamp
//	layers/<id>/size    symbolic link that holds the computed size
//	active/<owner>.<n>/ what a living process is working on
//	trash/<owner>.<n>   what is being deleted
//	kept/<id>/          a writable tree that outlives its process (a container's)
//	empty/              an empty directory, for overlayfs (see mount.Tree)
//	opaque              symbolic link: the attribute that opaque marks use
//
// A commit writes the stamp into the active and renames its directory to the
// layer's name, so a layer is there with all that belongs to it or not at
// all. Nothing is synced: the stamp tells later whether a power loss may have
// damaged the layer, and then it does not count (see package store).
//
// Removing renames into trash, which takes microseconds, and deletes in the
// background, unless a container is removed. That is not only for speed: ext4
// looks for each new inode past those deleted in the last seconds, which can
// make it slower by a factor of ten and more. For the same reason the
// directory of actives carries ext4's TOPDIR flag: each active then begins in
// a block group of its own.
package snapshot

import (
	"context"
	"errors"
	"time"

	"github.com/strata-build/strata/runtime/mount"
	"github.com/strata-build/strata/runtime/store"
)

// Errors that callers tell apart.
var (
	// ErrNotFound says that there is no layer or active of that name.
	ErrNotFound = errors.New("no such snapshot")
	// ErrExists says that the layer or active of that name exists already.
	ErrExists = errors.New("snapshot exists already")
)

// RefPrefix begins the refs of layers in the store: "layer:<id>".
const RefPrefix = "layer:"

// Ref returns the store's ref of a layer.
func Ref(id string) store.Ref { return store.Ref(RefPrefix + id) }

// Snapshotter keeps layers and makes trees of them.
//
//	Prepare ─▶ active ─┬─ Commit ─▶ layer ── Remove ─▶ gone
//	NewLayer ─▶ active ┴─ Remove ─▶ gone
//	View ─▶ view ── Remove ─▶ gone
//	Keep ─▶ kept ─┬─ OpenKept ─▶ a tree, closed again ─┬─ DropKept ─▶ gone
//	              └────────────────◀───────────────────┘
//
// An active belongs to the process that made it and never outlives it: what
// a killed process left is removed by Reap and never counts. A layer is
// immutable and shared by all processes. Keys name actives and views within
// one process and may be any string; layer ids must pass store.ValidName.
// All methods may be called concurrently.
type Snapshotter interface {
	// Name is the driver's name: "overlay" or "copy".
	Name() string
	// Reason says why this driver is used, as one line.
	Reason() string
	// UserXattr reports whether layers mark opaque directories with
	// user.overlay.opaque instead of trusted.overlay.opaque.
	UserXattr() bool
	// Prepare makes an active: a writable tree over the parents, which are
	// layer ids, bottom first. The tree must be closed before Commit or
	// Remove. ErrExists when the key is in use, ErrNotFound when a parent is
	// not there.
	Prepare(ctx context.Context, key string, parents []string) (mount.Tree, error)
	// View makes a read-only tree of the layers.
	View(ctx context.Context, key string, parents []string) (mount.Tree, error)
	// NewLayer makes an active that is a bare directory, which the caller
	// fills in overlay format.
	NewLayer(ctx context.Context, key string) (dir string, err error)
	// Commit turns an active into the layer id, which the process then
	// leases (see store.Store.LeaseMade). When the layer exists already it
	// stays as it is, the active is dropped, and the error is ErrExists.
	Commit(ctx context.Context, id, key string) error
	// Layer returns a committed layer's directory, or ErrNotFound.
	Layer(id string) (dir string, err error)
	// Remove removes this process's active or view of that key or, when
	// there is none, the layer of that id. The files are deleted in the
	// background. ErrNotFound when there is neither.
	Remove(ctx context.Context, idOrKey string) error
	// Keep makes a writable tree over the parents, as Prepare does, that
	// outlives this process: it stays until DropKept, or until a collection
	// finds that no record refers to KeptRef(id). ErrExists when there is one
	// of that id, which must pass store.ValidName.
	Keep(ctx context.Context, id string, parents []string) error
	// OpenKept returns the tree of Keep, given the same parents. Its caller
	// makes sure that it is open once at a time. It survives a power loss as
	// well as any directory, unless the caller unsets Durable.
	OpenKept(ctx context.Context, id string, parents []string) (mount.Tree, error)
	// Changed calls fn with a directory in overlay format that holds what a
	// kept tree changes on its parents. It is valid during the call, and is
	// not to be written to.
	Changed(ctx context.Context, id string, parents []string, fn func(dir string) error) error
	// DropKept removes a kept tree, or fails with ErrNotFound. It returns when
	// everything is deleted.
	DropKept(id string) error
	// KeptOwner returns the kept trees as objects that store.Store.Collect
	// removes.
	KeptOwner() store.Owner
	// Walk calls fn for every layer, and for every active of any process.
	Walk(ctx context.Context, fn func(Info) error) error
	// Usage returns a layer's size on disk and its number of inodes. It is
	// computed once per layer.
	Usage(ctx context.Context, id string) (bytes, inodes int64, err error)
	// Reap removes the actives of dead processes and the layers which a
	// power loss may have damaged, and waits until all that was removed is
	// deleted.
	Reap(ctx context.Context) error
	// Owner returns the layers as objects that store.Store.Collect removes.
	Owner() store.Owner
}

// Info describes a layer or an active.
type Info struct {
	// ID is the layer's id; for an active, its directory's name.
	ID string
	// Active tells an active from a layer.
	Active  bool
	Created time.Time
	// Dir is the directory in overlay format.
	Dir string
}
