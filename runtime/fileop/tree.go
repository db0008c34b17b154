package fileop

import (
	"strings"

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
	// Open opens the regular file n, an entry of this directory, for reading,
	// and returns the descriptor, which the caller closes.
	Open(n *Node) (int, error)
	// Xattrs returns the extended attributes that a copy takes along: of the
	// entry n, or of the directory itself when n is nil. fd is the open file,
	// or -1.
	Xattrs(n *Node, fd int) ([]Xattr, error)
	Close() error
}

// Linker is a Tree that has some of its files elsewhere already.
type Linker interface {
	Tree
	// Link makes name in dst a hard link to a file that is just like the node
	// n at the path p of the tree; false when there is none. Calls do not
	// overlap. A copy that changes owners, modes or times does not ask.
	Link(dst *rootfs.Dir, name, p string, n *Node) (bool, error)
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

// Type is the S_IFMT bits.
func (n *Node) Type() uint32 { return n.Mode & unix.S_IFMT }

// IsDir tells a directory.
func (n *Node) IsDir() bool { return n.Type() == unix.S_IFDIR }

// IsRegular tells a regular file.
func (n *Node) IsRegular() bool { return n.Type() == unix.S_IFREG }

// IsLink tells a symlink.
func (n *Node) IsLink() bool { return n.Type() == unix.S_IFLNK }

// inode identifies what hard links share.
func (n *Node) inode() inode { return inode{n.Dev, n.Ino} }

type inode struct{ dev, ino uint64 }

// Xattr is one extended attribute.
type Xattr struct {
	Name, Value string
}

// PortableXattr tells whether an extended attribute belongs to the contents of
// a file: not the security label of this machine, not overlayfs's marks, and
// not the overrides, which a hostile file could otherwise carry into a layer.
func PortableXattr(name string) bool {
	switch {
	case strings.HasPrefix(name, "trusted.overlay."), strings.HasPrefix(name, "user.overlay."),
		strings.HasPrefix(name, "user.strata."), strings.HasPrefix(name, "com.apple."):
		return false
	}
	return name != "security.selinux" && name != "security.ima" && name != "security.evm"
}
