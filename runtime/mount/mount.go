// Package mount makes the file trees that steps run on, as detached mounts:
// file descriptors that nobody else can see or reach by a path until they are
// attached, in the step's own mount namespace, with move_mount(2).
//
// It is a leaf: the snapshotter describes a tree (Tree), the executor and the
// file operations open it, and neither imports the other.
package mount

import (
	"os"
)

// Tree describes a file tree that can be opened as a detached mount: an
// overlay of layer directories, or one plain directory. Opening it twice with
// an Upper is not allowed, as overlayfs has exactly one writer per Upper.
type Tree struct {
	// Lower holds the layer directories, bottom first.
	Lower []string
	// Upper receives what is written, in overlayfs upper-directory format.
	Upper string
	// Work is overlayfs's scratch directory, empty and on Upper's file system.
	Work string
	// Empty is an empty directory which stands in where overlayfs demands one
	// more lower directory than there is.
	Empty string
	// UserXattr selects user.overlay.* instead of trusted.overlay.*, the
	// only kind that a user namespace may use.
	UserXattr bool
	// Dir is a plain directory that is the tree itself; the fields above are
	// then unset.
	Dir string
	// ReadOnly refuses every write through the mount.
	ReadOnly bool
}

// BindOptions say how Bind clones a mount.
type BindOptions struct {
	// Recursive takes the mounts below src along.
	Recursive bool
	// ReadOnly refuses every write through the clone and its submounts.
	ReadOnly bool
}

// TmpfsOptions describe a new tmpfs.
type TmpfsOptions struct {
	// Size limits the content in bytes; 0 is the kernel's default, half of
	// the memory.
	Size int64
	// Mode is the root directory's permissions; 0 is 01777.
	Mode os.FileMode
	// NoExec, NoSuid and NoDev are the mount's attributes of that name.
	NoExec, NoSuid, NoDev bool
}
