package executor

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"sync"

	"github.com/strata-build/strata/runtime/mount"
	"golang.org/x/sys/unix"
)

// What the launcher's mount namespace holds.
const (
	launcherRoot  = "root"  // where a step's root is attached before it is pivoted to
	launcherEmpty = "empty" // what masks a directory
	launcherNull  = "null"  // what masks a file: the null device
	launcherProc  = "proc"
	launcherSys   = "sys"
)

// launcher is the thread that all children are cloned from. It has a mount
// namespace of its own with nothing in it but one read-only tmpfs: cloning a
// mount namespace copies every mount of the parent, of which a host has
// dozens to thousands.
//
// The thread lives as long as the executor. The kernel takes it, not the
// process, for the parent of a child: when it ended, PR_SET_PDEATHSIG would
// kill the child.
type launcher struct {
	jobs chan func()
	quit chan struct{} // closed by close
	done chan struct{} // closed when the thread has ended
	once sync.Once
}

// errClosed is returned for starts after Close.
var errClosed = errors.New("the executor is closed")

// newLauncher starts the thread. visible keeps /proc and /sys in the
// namespace: in a user namespace the kernel allows a new proc or sysfs only to
// who can see all of an old one already.
func newLauncher(visible bool) (*launcher, error) {
	l := &launcher{jobs: make(chan func()), quit: make(chan struct{}), done: make(chan struct{})}
	ready := make(chan error)
	go l.run(visible, ready)
	if err := <-ready; err != nil {
		return nil, err
	}
	return l, nil
}

// run is the thread's life. It is not the main thread, whose namespaces others
// take for those of the process (see userns.Join): that one is held until
// another one does the work.
func (l *launcher) run(visible bool, ready chan<- error) {
	// Not unlocked on its way out: the thread ends with the goroutine, since
	// nobody else can use it any more.
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		other := make(chan error)
		go l.run(visible, other)
		ready <- <-other
		runtime.UnlockOSThread()
		return
	}
	defer close(l.done)
	err := enterMinimalNamespace(visible)
	ready <- err
	if err == nil {
		l.work()
	}
}

func (l *launcher) work() {
	for {
		select {
		case job := <-l.jobs:
			job()
		case <-l.quit:
			return
		}
	}
}

// do runs f on the thread and waits for it.
func (l *launcher) do(f func()) error {
	finished := make(chan struct{})
	job := func() {
		defer close(finished)
		f()
	}
	select {
	case l.jobs <- job:
		<-finished
		return nil
	case <-l.quit:
		return errClosed
	}
}

// closed tells whether close was called.
func (l *launcher) closed() bool {
	select {
	case <-l.quit:
		return true
	default:
		return false
	}
}

func (l *launcher) close() {
	l.once.Do(func() { close(l.quit) })
	<-l.done
}

func enterMinimalNamespace(visible bool) error {
	// CLONE_FS too: threads share their root and working directory.
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		return fmt.Errorf("create a mount namespace: %w", err)
	}
	// pivot_root refuses shared mounts, and nothing of ours may reach the host.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	root, err := mount.Tmpfs(mount.TmpfsOptions{Size: 1 << 20, Mode: 0o755, NoSuid: true, NoDev: true, NoExec: true})
	if err != nil {
		return err
	}
	defer root.Close()
	for _, dir := range []string{launcherRoot, launcherEmpty, launcherProc, launcherSys} {
		if err := unix.Mkdirat(int(root.Fd()), dir, 0o755); err != nil {
			return fmt.Errorf("create a directory in a new tmpfs: %w", err)
		}
	}
	f, err := unix.Openat(int(root.Fd()), launcherNull, unix.O_WRONLY|unix.O_CREAT|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return fmt.Errorf("create a file in a new tmpfs: %w", err)
	}
	_ = unix.Close(f)
	if err := attachHost(root, visible); err != nil {
		return err
	}
	return pivotTo(root)
}

// attachHost attaches root somewhere, and things of the host in it.
func attachHost(root *os.File, visible bool) error {
	hosts := map[string]*os.File{}
	defer func() { closeAll(slices.Collect(maps.Values(hosts))) }()
	// Opened here: a mount can be cloned only in the namespace that it is in.
	null, err := openDevice("/dev/null", unix.Mkdev(1, 3))
	if err != nil {
		return err
	}
	defer null.Close()
	if hosts[launcherNull], err = mount.Bind(null, mount.BindOptions{}); err != nil {
		return err
	}
	if visible {
		for _, name := range []string{launcherProc, launcherSys} {
			if hosts[name], err = bindPath("/" + name); err != nil {
				return err
			}
		}
	}
	if err := unix.MoveMount(int(root.Fd()), "", unix.AT_FDCWD, "/", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("attach a tmpfs: %w", err)
	}
	for name, f := range hosts {
		if err := unix.MoveMount(int(f.Fd()), "", int(root.Fd()), name, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return fmt.Errorf("attach %s: %w", f.Name(), err)
		}
	}
	return nil
}

// bindPath returns a detached, recursive clone of the mount at a host path.
func bindPath(path string) (*os.File, error) {
	f, err := os.OpenFile(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return mount.Bind(f, mount.BindOptions{Recursive: true})
}

func pivotTo(root *os.File) error {
	if err := unix.Fchdir(int(root.Fd())); err != nil {
		return fmt.Errorf("enter a tmpfs: %w", err)
	}
	if err := unix.PivotRoot(".", "."); errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("leave the host's root: %w; the machine's root is its initial RAM disk, "+
			"which the kernel does not let anybody leave: run Strata from a mounted root file system", err)
	} else if err != nil {
		return fmt.Errorf("leave the host's root: %w", err)
	}
	// The old root lies on the new one now, and "." is below both.
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("detach the host's root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("enter a tmpfs: %w", err)
	}
	// Last: what masks a directory of a step must stay empty.
	attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(unix.AT_FDCWD, "/", 0, attr); err != nil {
		return fmt.Errorf("make a tmpfs read-only: %w", err)
	}
	return nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		if f == nil {
			continue
		}
		// Nothing was written through them.
		_ = f.Close()
	}
}
