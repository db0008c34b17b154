package fileop

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/rootfs"
)

// Tree is what a copy reads from. It is safe for concurrent use.
type Tree interface {
	// Root opens the top directory.
	Root() (Dir, error)
}

// Dir is an open directory of a Tree. Names are plain names; a symlink is
// never followed. An absent name is an error that is fs.ErrNotExist. Its
// methods may be called from several goroutines.
type Dir interface {
	// Self describes the directory itself.
	Self() (Node, error)
	// Names lists the directory, sorted by bytes.
	Names() ([]string, error)
	// Lookup describes one entry.
	Lookup(name string) (Node, error)
	// Sub opens a sub-directory, which outlives this handle.
	Sub(name string) (Dir, error)
	// Open opens the regular file n, an entry of this directory, for reading.
	Open(n *Node) (*os.File, error)
	// Xattrs returns the extended attributes of an entry, or of the directory
	// itself when n is nil. f is the open file, when there is one.
	Xattrs(n *Node, f *os.File) ([]Xattr, error)
	Close() error
}

// Node describes an entry of a Tree.
type Node struct {
	Name string
	// Mode has type and permission bits, as st_mode.
	Mode     uint32
	UID, GID uint32
	Size     int64
	Rdev     uint64
	Atime    unix.Timespec
	Mtime    unix.Timespec
	// Dev, Ino and Nlink tell hard links.
	Dev, Ino uint64
	Nlink    uint64
	// Link is the target of a symlink.
	Link string
	// Sum is the SHA-256 of the contents, where the tree knows it: a copy
	// verifies it.
	Sum *[32]byte
}

// Xattr is one extended attribute.
type Xattr struct {
	Name, Value string
}

// RootOptions say how RootTree reads.
type RootOptions struct {
	// SingleID is set when owners and devices are recorded as overrides.
	SingleID bool
}

// RootTree is the tree of an open root, which stays the caller's.
func RootTree(r *rootfs.Root, o RootOptions) Tree { return rootTree{r, o} }

type rootTree struct {
	root *rootfs.Root
	o    RootOptions
}

func (t rootTree) Root() (Dir, error) { return nil, errLanding }
