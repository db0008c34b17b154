package mount

import (
	"errors"
	"os"
)

// Open returns the tree as a detached mount; closing it unmounts the tree
// unless it was attached.
func (t Tree) Open() (*os.File, error) { return nil, errors.ErrUnsupported }

// Bind returns a detached clone of the mount tree at src, which may be a
// directory or a file.
func Bind(src *os.File, o BindOptions) (*os.File, error) { return nil, errors.ErrUnsupported }

// Tmpfs returns a new, detached tmpfs.
func Tmpfs(o TmpfsOptions) (*os.File, error) { return nil, errors.ErrUnsupported }

// Attach mounts the detached mount m on target, a path below dir, in the
// calling thread's mount namespace.
func Attach(m *os.File, target string) error { return errors.ErrUnsupported }

// OverlaySupported tries an overlay below dir and says why it cannot be used.
func OverlaySupported(dir string, userxattr bool) error { return errors.ErrUnsupported }
