package mount

import (
	"errors"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// openLegacy makes the overlay with mount(2), for kernels before 6.7, and
// lifts the result out of a mount namespace that a thread has for itself.
func (t Tree) openLegacy(lower []string) (*os.File, error) {
	var m *os.File
	var err error
	OnThrowawayThread(func() { m, err = t.mountPrivately(lower) })
	return m, err
}

// OnThrowawayThread runs fn on a thread that ends with it, and takes its
// namespaces along. The process's first thread cannot end, and /proc/self
// shows its namespaces, so fn never runs there.
func OnThrowawayThread(fn func()) {
	done := make(chan struct{})
	go func() {
		runtime.LockOSThread() // not unlocked: the thread ends with the goroutine
		defer close(done)
		if unix.Gettid() == unix.Getpid() {
			OnThrowawayThread(fn) // this goroutine occupies the first thread meanwhile
			runtime.UnlockOSThread()
			return
		}
		fn()
	}()
	<-done
}

func (t Tree) mountPrivately(lower []string) (*os.File, error) {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return nil, os.NewSyscallError("unshare", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, &os.PathError{Op: "make mounts private below", Path: "/", Err: err}
	}
	// From here on a relative path is a descriptor number: the shortest name
	// that a directory can have, and one without special characters.
	if err := unix.Chdir("/proc/self/fd"); err != nil {
		return nil, &os.PathError{Op: "chdir", Path: "/proc/self/fd", Err: err}
	}
	data, held, err := t.legacyData(lower)
	defer closeAll(held)
	if err != nil {
		return nil, err
	}
	flags := uintptr(0)
	if t.ReadOnly {
		flags = unix.MS_RDONLY
	}
	// Any directory serves as the mount point, as the namespace is ours.
	target := lower[len(lower)-1]
	if err := unix.Mount("overlay", target, "overlay", flags, data); err != nil {
		return nil, &os.PathError{Op: "mount overlay of", Path: t.where(), Err: err}
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, target, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, &os.PathError{Op: "clone mount of", Path: t.where(), Err: err}
	}
	return os.NewFile(uintptr(fd), t.where()), nil
}

// legacyData returns the option string, and the descriptors that its numbers
// name. They are opened in the calling thread's namespace: the kernel wants
// layers of the namespace it mounts in.
func (t Tree) legacyData(lower []string) (string, []*os.File, error) {
	var held []*os.File
	number := func(dir string) (string, error) {
		f, err := openPath(dir)
		if err != nil {
			return "", err
		}
		held = append(held, f)
		return strconv.Itoa(int(f.Fd())), nil
	}
	var errs []error
	numbers := make([]string, len(lower))
	for i, dir := range lower {
		n, err := number(dir)
		numbers[i], errs = n, append(errs, err)
	}
	parts := []string{"lowerdir=" + strings.Join(numbers, ":")}
	if t.Upper != "" {
		upper, err1 := number(t.Upper)
		work, err2 := number(t.Work)
		parts = append(parts, "upperdir="+upper, "workdir="+work)
		errs = append(errs, err1, err2)
	}
	for _, o := range t.options() {
		switch {
		case o.newer:
		case o.value == "":
			parts = append(parts, o.name)
		default:
			parts = append(parts, o.name+"="+o.value)
		}
	}
	return strings.Join(parts, ","), held, errors.Join(errs...)
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
