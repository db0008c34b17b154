package fileop

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/moby/buildkit/solver/pb"
	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/rootfs"
)

// Mkdir makes a directory. One that exists is left as it is.
func Mkdir(ctx context.Context, dst *rootfs.Root, a *pb.FileActionMkDir, o Options) (err error) {
	d := newDest(dst, &o)
	defer func() { err = errors.Join(err, d.finish()) }()
	if d.own, err = resolveOwner(ctx, a.GetOwner(), &o); err != nil {
		return err
	}
	d.time = timespec(a.GetTimestamp())
	p, err := d.resolve(a.GetPath())
	if err != nil {
		return err
	}
	mode := uint32(a.GetMode()) & 0o777
	if a.GetMakeParents() {
		dir, err := d.mkdirAll(p, mode)
		if err != nil {
			return err
		}
		return dir.Close()
	}
	return d.mkdirOne(p, mode)
}

// mkdirOne makes a directory whose parent exists.
func (d *dest) mkdirOne(p string, mode uint32) error {
	parent, name, err := d.openParent(p)
	if err != nil {
		return fmt.Errorf("mkdir %q: %w", p, notFound(path.Dir(p), err))
	}
	defer parent.Close()
	if name == "" {
		return nil
	}
	dir, err := d.mkdir(parent, name, mode)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return dir.Close()
}

// Symlink makes a symlink.
func Symlink(ctx context.Context, dst *rootfs.Root, a *pb.FileActionSymlink, o Options) (err error) {
	d := newDest(dst, &o)
	own, err := resolveOwner(ctx, a.GetOwner(), &o)
	if err != nil {
		return err
	}
	p, err := d.resolve(a.GetNewpath())
	if err != nil {
		return err
	}
	parent, name, err := d.openParent(p)
	if err != nil {
		return fmt.Errorf("symlink %q: %w", p, notFound(path.Dir(p), err))
	}
	defer func() { err = errors.Join(err, parent.Close()) }()
	if name == "" {
		return fail("symlink", p, unix.EEXIST)
	}
	if err := parent.Symlink(a.GetOldpath(), name); err != nil {
		return err
	}
	ts := timespec(a.GetTimestamp())
	return d.set.entry(parent, name, &attrs{mode: unix.S_IFLNK, own: own, atime: ts, mtime: ts})
}

// Mkfile writes a file, replacing what is there. What is there is never opened:
// it can be a device (writing would reach the host), or linked elsewhere.
func Mkfile(ctx context.Context, dst *rootfs.Root, a *pb.FileActionMkFile, o Options) (err error) {
	d := newDest(dst, &o)
	own, err := resolveOwner(ctx, a.GetOwner(), &o)
	if err != nil {
		return err
	}
	p, err := d.resolve(a.GetPath())
	if err != nil {
		return err
	}
	parent, name, err := d.openParent(p)
	if err != nil {
		return fmt.Errorf("mkfile %q: %w", p, notFound(path.Dir(p), err))
	}
	defer func() { err = errors.Join(err, parent.Close()) }()
	if name == "" {
		return fail("mkfile", p, unix.EISDIR)
	}
	ts := timespec(a.GetTimestamp())
	return d.replace(parent, name, a.GetData(), &attrs{
		mode: unix.S_IFREG | uint32(a.GetMode())&0o777, own: own, atime: ts, mtime: ts,
	})
}

// replace writes a file under a temporary name and renames it.
func (d *dest) replace(dir *rootfs.Dir, name string, data []byte, a *attrs) error {
	fd, tmp, err := createTemporary(dir)
	if err != nil {
		return err
	}
	err = writeAll(fd, data)
	if err == nil {
		err = d.set.file(fd, a)
	}
	if err = errors.Join(err, unix.Close(fd)); err == nil {
		if err = dir.Rename(tmp, dir, name); err == nil {
			return nil
		}
	}
	return errors.Join(fail("mkfile", path.Join(dir.Path(), name), cause(err)), dir.Remove(tmp))
}

func createTemporary(dir *rootfs.Dir) (fd int, name string, err error) {
	for i := range 1000 {
		name = fmt.Sprintf(".tmp-mkfile%d", i)
		fd, err = dir.Open(name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o600)
		if !errors.Is(err, fs.ErrExist) {
			return fd, name, err
		}
	}
	return fd, name, err
}

func writeAll(fd int, data []byte) error {
	for len(data) > 0 {
		n, err := unix.Write(fd, data)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
		data = data[n:]
	}
	return nil
}

// Rm removes files and directories.
func Rm(ctx context.Context, dst *rootfs.Root, a *pb.FileActionRm) error {
	d := newDest(dst, &Options{})
	paths := []string{a.GetPath()}
	if a.GetAllowWildcard() {
		var err error
		if paths, err = expand(d.tree, cleanPath(a.GetPath()), false); err != nil {
			return err
		}
	}
	for _, p := range paths {
		if err := d.remove(p, a.GetAllowNotFound()); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// remove removes p, whose parent is resolved; a symlink itself is removed.
func (d *dest) remove(p string, allowNotFound bool) error {
	clean := path.Join("/", p)
	if clean == "/" {
		return fmt.Errorf("rm %q: a path to a file or directory below the root is needed", p)
	}
	dir, name := path.Split(clean)
	resolved, err := d.resolve(dir)
	if err != nil {
		return err
	}
	parent, err := d.open(resolved)
	if errors.Is(err, fs.ErrNotExist) && allowNotFound {
		return nil
	}
	if err != nil {
		return fmt.Errorf("rm: %w", notFound(p, err))
	}
	defer parent.Close()
	if !allowNotFound {
		if _, err := parent.Lstat(name); err != nil {
			return fmt.Errorf("rm: %w", notFound(p, err))
		}
	}
	return parent.RemoveAll(name)
}
