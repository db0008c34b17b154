package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/internal/undo"
	"github.com/strata-build/strata/runtime/mount"
	"github.com/strata-build/strata/runtime/rootfs"
)

// files is the file system of a container with its volumes and binds. Nobody
// starts the container while that of a stopped one is open.
type files struct {
	*rootfs.Root
	undo undo.Stack
}

// close releases the file system.
func (f *files) close() error { return f.undo.Close() }

// files opens the file system of a container: as its first process sees it, or
// as it would if it was started, but for what is in memory only. It waits for
// others that have that of a stopped one open.
func (s *Set) files(ctx context.Context, id string) (*files, error) {
	for {
		rec, err := s.Get(id)
		if err != nil {
			return nil, err
		}
		switch rec.State.Status {
		case Running:
			f, err := s.runningFiles(&rec)
			if !errors.Is(err, ErrNotRunning) {
				return f, err
			}
		case Restarting:
			return nil, fmt.Errorf("%s is about to be started again: stop it first, or try again", rec.Name)
		}
		f := &files{}
		if err = s.stoppedFiles(ctx, id, f); err == nil {
			return f, nil
		}
		if err = errors.Join(err, f.close()); !errors.Is(err, ErrRunning) {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
}

// runningFiles is what the first process sees; ErrNotRunning when it has just
// ended.
func (s *Set) runningFiles(rec *Record) (*files, error) {
	root, err := processRoot(rec)
	if errors.Is(err, os.ErrProcessDone) || errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotRunning
	}
	if err != nil {
		return nil, err
	}
	return &files{root, undo.Stack{root.Close}}, nil
}

// stoppedFiles mounts what the container stands on; ErrRunning when somebody
// has it in use.
func (s *Set) stoppedFiles(ctx context.Context, id string, f *files) error {
	lock, err := s.takeOver(ctx, id)
	if err != nil {
		return err
	}
	// It may have been started, changed or removed while the lock was free.
	rec, err := s.load(id)
	if errors.Is(err, ErrNotFound) {
		return errors.Join(err, lock.Remove())
	}
	f.undo.Add(lock.Unlock)
	if err != nil {
		return err
	}
	layers, err := s.layers(ctx, &rec)
	if err != nil {
		return err
	}
	tree, err := s.e.Snapshots.OpenKept(ctx, rec.ID, layers)
	if err != nil {
		return err
	}
	m, err := tree.Open()
	if err != nil {
		return fmt.Errorf("mount the root file system: %w", err)
	}
	f.undo.Add(m.Close)
	v, err := s.view(ctx, &rec, m)
	if err != nil {
		return err
	}
	f.undo.Add(v.close)
	f.Root, err = rootfs.Open(v.root)
	if err == nil {
		f.undo.Add(f.Root.Close)
	}
	return err
}

// view is a mount namespace of a thread of its own, in which a container's
// mounts stand in its tree. The kernel finds them from every descriptor of the
// tree, in whichever thread, as long as the namespace lives.
type view struct {
	root  *os.File
	end   chan struct{}
	ended chan error
}

func (s *Set) view(ctx context.Context, rec *Record, tree *os.File) (*view, error) {
	v := &view{root: tree, end: make(chan struct{}), ended: make(chan error, 1)}
	ready := make(chan error)
	go mount.OnThrowawayThread(func() {
		at, err := s.dir(rec.ID)
		if err == nil {
			err = enterView(tree, at)
		}
		if err != nil {
			ready <- err
			v.ended <- nil
			return
		}
		ready <- v.attach(ctx, s, rec)
		<-v.end
		v.ended <- os.NewSyscallError("umount", unix.Unmount(at, unix.MNT_DETACH))
	})
	if err := <-ready; err != nil {
		return nil, errors.Join(err, v.close())
	}
	return v, nil
}

func (v *view) close() error {
	close(v.end)
	return <-v.ended
}

// enterView gives this thread a mount namespace with the tree at a directory.
func enterView(tree *os.File, at string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return &os.PathError{Op: "make mounts private", Path: "/", Err: err}
	}
	target, err := os.OpenFile(at, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	return errors.Join(mount.Attach(tree, target), target.Close())
}

// attach mounts what is mounted into the container.
func (v *view) attach(ctx context.Context, s *Set, rec *Record) error {
	root, err := rootfs.Open(v.root)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, m := range rec.Config.Mounts {
		if m.Type == MountTmpfs {
			continue // it is empty whenever the container starts
		}
		if err := s.attach(ctx, m, root); err != nil {
			return fmt.Errorf("mount at %s: %w", m.Target, err)
		}
	}
	if !rec.Config.ReadOnly {
		return nil
	}
	return os.NewSyscallError("mount_setattr", unix.MountSetattr(int(v.root.Fd()), "", unix.AT_EMPTY_PATH,
		&unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}))
}

func (s *Set) attach(ctx context.Context, m Mount, root *rootfs.Root) error {
	if m.Type == MountVolume {
		if err := s.fill(ctx, m, root); err != nil {
			return err
		}
		dir, err := s.VolumeDir(m.Source)
		if err != nil {
			return err
		}
		m.Source, m.Create = dir, false
	}
	source, err := bind(m)
	if err != nil {
		return err
	}
	defer source.Close()
	if m.ReadOnly {
		attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		if err := unix.MountSetattr(int(source.Fd()), "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, attr); err != nil {
			return os.NewSyscallError("mount_setattr", err)
		}
	}
	target, err := mountPoint(root, clean(m.Target), source)
	if err != nil {
		return err
	}
	return errors.Join(mount.Attach(source, target), target.Close())
}

// mountPoint opens what the source is mounted on, which is made where it is
// missing.
func mountPoint(root *rootfs.Root, target string, source *os.File) (*os.File, error) {
	st, err := source.Stat()
	if err != nil {
		return nil, err
	}
	point, err := root.OpenPath(target, 0)
	if !errors.Is(err, fs.ErrNotExist) {
		return point, err
	}
	if st.IsDir() {
		err = root.MkdirAll(target, rootfs.MkdirOptions{Mode: 0o755})
	} else {
		err = makeFile(root, target)
	}
	if err != nil {
		return nil, fmt.Errorf("make mount point: %w", err)
	}
	return root.OpenPath(target, 0)
}

func makeFile(root *rootfs.Root, name string) error {
	if err := root.MkdirAll(path.Dir(name), rootfs.MkdirOptions{Mode: 0o755}); err != nil {
		return err
	}
	f, err := root.OpenFile(name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}
