// Package rmtree deletes file trees that strangers have written: what a
// build step left in its file system.
//
// Everything is done by directory descriptor, relative to the parent that the
// caller opened. A name is only ever followed if it is a real directory on
// the same mount, which openat2(2) checks and opens in one step: a symbolic
// link is removed, never followed (CVE-2024-23652), and a file system that is
// still mounted inside is left alone, with an error.
//
// Descriptors are bounded: a directory that lies too deep is first moved up
// into the root of the tree.
package rmtree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxDepth is how deep the recursion goes, and so how many descriptors it
// holds open.
const maxDepth = 64

// batch is how many names are read at once.
const batch = 1024

// Remove removes the file or tree called name, one path element, from the
// open directory parent. A name that is not there is no error.
func Remove(ctx context.Context, parent *os.File, name string) error {
	r := remover{ctx: ctx}
	if err := r.remove(int(parent.Fd()), name, 0); err != nil {
		return fmt.Errorf("remove %s/%s: %w", parent.Name(), name, err)
	}
	return nil
}

type remover struct {
	ctx context.Context
	// top is the root of the tree, where directories that are too deep go.
	top   int
	moved int
}

func (r *remover) remove(parent int, name string, depth int) error {
	err := unlink(parent, name, 0)
	if err == nil || !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) {
		return err
	}
	dir, operr := openDir(parent, name)
	switch {
	case operr == nil:
	case errors.Is(operr, unix.ENOENT):
		return nil
	case errors.Is(operr, unix.ENOTDIR), errors.Is(operr, unix.ELOOP):
		return err // not a directory: the answer to unlink stands
	default:
		return operr
	}
	defer dir.Close()
	if depth == 0 {
		r.top = int(dir.Fd())
	}
	return r.removeDir(parent, dir, name, depth)
}

// removeDir empties a directory and removes it, as often as deeper
// directories were moved into it.
func (r *remover) removeDir(parent int, dir *os.File, name string, depth int) error {
	for {
		before := r.moved
		if err := r.empty(dir, depth); err != nil {
			return err
		}
		err := unlink(parent, name, unix.AT_REMOVEDIR)
		if depth > 0 || r.moved == before || !errors.Is(err, unix.ENOTEMPTY) {
			return err
		}
		if _, err := dir.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
}

func (r *remover) empty(dir *os.File, depth int) error {
	for {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		entries, err := dir.ReadDir(batch)
		for _, e := range entries {
			if err := r.removeEntry(dir, e, depth); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, unix.ENOENT) {
			return nil // ENOENT: somebody else has removed it already
		}
		if err != nil {
			return err
		}
	}
}

func (r *remover) removeEntry(dir *os.File, e os.DirEntry, depth int) error {
	fd := int(dir.Fd())
	if !e.IsDir() {
		return r.inWritable(fd, func() error { return unlink(fd, e.Name(), 0) })
	}
	if depth < maxDepth {
		return r.inWritable(fd, func() error { return r.remove(fd, e.Name(), depth+1) })
	}
	return r.inWritable(fd, func() error { return r.moveUp(fd, e.Name()) })
}

// moveUp moves a directory into the root of the tree, under any free name.
func (r *remover) moveUp(dir int, name string) error {
	for {
		r.moved++
		err := unix.Renameat(dir, name, r.top, ".rmtree-"+strconv.Itoa(r.moved))
		switch {
		case errors.Is(err, unix.EEXIST), errors.Is(err, unix.ENOTEMPTY), errors.Is(err, unix.ENOTDIR):
			// That name is taken.
		case errors.Is(err, unix.EACCES):
			// Its ".." is about to change, which is a write to it.
			if err := makeReadable(dir, name); err != nil {
				return err
			}
			return pathError("rename", name, unix.Renameat(dir, name, r.top, ".rmtree-"+strconv.Itoa(r.moved)))
		default:
			return pathError("rename", name, err)
		}
	}
}

// inWritable runs op, which changes a directory, again after making that
// directory writable: an ordinary user's own read-only directories.
func (r *remover) inWritable(dir int, op func() error) error {
	err := op()
	if !errors.Is(err, unix.EACCES) {
		return err
	}
	if cherr := unix.Fchmod(dir, 0o700); cherr != nil {
		return err
	}
	return op()
}

// openDir opens a real directory on the same mount, making it readable if it
// is not.
func openDir(parent int, name string) (*os.File, error) {
	fd, err := openat2(parent, name, unix.O_RDONLY)
	if errors.Is(err, unix.EACCES) {
		if err := makeReadable(parent, name); err != nil {
			return nil, err
		}
		fd, err = openat2(parent, name, unix.O_RDONLY)
	}
	if err != nil {
		return nil, pathError("open", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

func makeReadable(parent int, name string) error {
	fd, err := openat2(parent, name, unix.O_PATH)
	if err != nil {
		return pathError("open", name, err)
	}
	defer unix.Close(fd)
	// An O_PATH descriptor takes no fchmod; its name in /proc does, and
	// leads to this very directory.
	return pathError("chmod", name, unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), 0o700))
}

func openat2(parent int, name string, mode int) (int, error) {
	how := unix.OpenHow{
		Flags:   uint64(mode | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS,
	}
	for {
		fd, err := unix.Openat2(parent, name, &how)
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return fd, err
		}
	}
}

func unlink(parent int, name string, flags int) error {
	err := unix.Unlinkat(parent, name, flags)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return pathError("unlink", name, err)
}

func pathError(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &os.PathError{Op: op, Path: path, Err: err}
}
