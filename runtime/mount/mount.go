// Package mount makes the file trees that steps run on, as detached mounts:
// file descriptors that nobody else can see or reach by a path until they are
// attached, in the step's own mount namespace, with move_mount(2). A detached
// mount that is closed unmounts itself, so that a killed build leaves no
// mount behind.
//
// It is a leaf: the snapshotter describes a tree (Tree), the executor and the
// file operations open it, and neither imports the other.
//
// Layers are given to the kernel one by one (the overlay option "lowerdir+",
// Linux 6.7), as the classic option string ends at one page. An older kernel
// gets the option string after all, with descriptor numbers in place of
// paths, which fits 500 layers, overlayfs's own limit. The oldest kernel that
// serves is 5.12.
//
// No path reaches the kernel in a form in which a byte of it could be taken
// for an option or for a separator: a path that has such a byte, or is longer
// than the kernel's limit for an option, goes by descriptor.
package mount

import "os"

// Tree describes a file tree that can be opened as a detached mount: an
// overlay of layer directories, or one plain directory. An overlayfs Upper
// has one writer: a tree with an Upper is opened once.
type Tree struct {
	// Lower holds the layer directories, bottom first.
	Lower []string
	// Upper receives what is written, in overlayfs upper-directory format.
	Upper string
	// Work is overlayfs's scratch directory: empty, never used before, and
	// on Upper's file system.
	Work string
	// Empty is an empty directory that stands in where overlayfs demands one
	// more lower directory than there is: below an Upper without a Lower,
	// and below a single Lower without an Upper.
	Empty string
	// Durable syncs Upper when the tree is unmounted. Without it an upper
	// directory that a crash may have hit must be thrown away.
	Durable bool
	// UserXattr selects user.overlay.* instead of trusted.overlay.*: the
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
	// Recursive takes the mounts below the source along.
	Recursive bool
	// ReadOnly refuses every write through the clone and its submounts.
	ReadOnly bool
}

// TmpfsOptions describe a new tmpfs.
type TmpfsOptions struct {
	// Size limits the content in bytes; 0 is the kernel's default, half of
	// the memory.
	Size int64
	// Mode is the root directory's permissions; 0 is 01777, as for /tmp.
	Mode os.FileMode
	// NoExec, NoSuid and NoDev are the mount's attributes of that name.
	NoExec, NoSuid, NoDev bool
	// Source is the name in the mount table's first column; "" is tmpfs.
	Source string
}
