package engine

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/image"
	"github.com/strata-build/strata/runtime/mount"
	"github.com/strata-build/strata/runtime/snapshot"
	"github.com/strata-build/strata/runtime/store"
)

// BucketMounts holds the images that are mounted, by directory. The records
// keep what the mounts are made of.
const BucketMounts = "mounts"

// ErrNotMounted says that no image is mounted there.
var ErrNotMounted = errors.New("no image is mounted there")

// Mount is an image that is mounted, read-only.
type Mount struct {
	Dir string
	// Image is the name that it was mounted by, ID the image's.
	Image string
	ID    string
	// Made says that the directory was made for it, and goes with it.
	Made bool
	// Kept is the tree that the copying snapshotter made.
	Kept string `json:",omitempty"`
	// Boot and Namespace say where the mount is: it ends with either.
	Boot, Namespace string

	passing bool // see MountRequest
}

// MountRequest is an image to be mounted.
type MountRequest struct {
	Image    image.Image
	Ref      string // as the user named it
	Manifest image.Manifest
	// Dir is an empty directory, made if it is missing; "" is one below the
	// store.
	Dir string
	// Passing mounts end with this process's namespace: no record is made of
	// them.
	Passing bool
}

// MountImage mounts an image's merged tree, read-only, without setuid programs
// and devices. The mount outlives the process, and what it needs stays in the
// store until Unmount.
func (e *Engine) MountImage(ctx context.Context, req MountRequest) (m Mount, err error) {
	err = e.withMounts(ctx, func() error {
		m, err = e.mountImage(ctx, req)
		return err
	})
	return m, err
}

// withMounts runs fn while no other process looks at the mounts: a record is
// there before its mount is, and after it.
func (e *Engine) withMounts(ctx context.Context, fn func() error) error {
	lock, err := e.Store.Lock(ctx, BucketMounts)
	if err != nil {
		return err
	}
	return errors.Join(fn(), lock.Unlock())
}

func (e *Engine) mountImage(ctx context.Context, req MountRequest) (Mount, error) {
	m := Mount{Image: req.Ref, ID: req.Image.ID.String(), Boot: e.Store.BootID(), Namespace: mountNamespace(), passing: req.Passing}
	if err := e.chooseDir(&m, req); err != nil {
		return m, err
	}
	layers, err := e.Images.Unpack(ctx, image.UnpackRequest{Manifest: req.Manifest})
	if err == nil {
		err = e.mountLayers(ctx, &m, layers)
	}
	if err != nil && m.Made {
		// Where the mount itself failed, the directory was forgotten already.
		err = errors.Join(err, ignoreMissing(os.Remove(m.Dir)))
	}
	return m, err
}

// mountLayers makes the record before the mount: a record without a mount is
// noticed, a mount without a record would lose its layers.
func (e *Engine) mountLayers(ctx context.Context, m *Mount, layers []string) error {
	tree, err := e.viewFor(ctx, m, layers)
	if err != nil {
		return err
	}
	if !m.passing {
		refs := []store.Ref{}
		for _, id := range layers {
			refs = append(refs, snapshot.Ref(id))
		}
		if m.Kept != "" {
			refs = append(refs, snapshot.KeptRef(m.Kept))
		}
		if err := e.Store.PutRecord(BucketMounts, m.Dir, m, refs...); err != nil {
			return err
		}
	}
	if err := attach(tree, m.Dir); err != nil {
		return errors.Join(fmt.Errorf("mount %s at %s: %w", m.Image, m.Dir, err), e.forget(*m))
	}
	return nil
}

// viewFor is the merged tree: an overlay of the layers themselves, or with the
// copying snapshotter a copy that is kept for the mount.
func (e *Engine) viewFor(ctx context.Context, m *Mount, layers []string) (mount.Tree, error) {
	if e.Snapshots.Name() != snapshot.DriverCopy {
		return e.Snapshots.View(ctx, "mount "+m.Dir, layers)
	}
	id := "mount-" + randomID()
	if err := e.Snapshots.Keep(ctx, id, layers); err != nil {
		return mount.Tree{}, err
	}
	m.Kept = id
	tree, err := e.Snapshots.OpenKept(ctx, id, layers)
	tree.ReadOnly = true
	return tree, err
}

func attach(tree mount.Tree, dir string) error {
	f, err := tree.Open()
	if err != nil {
		return err
	}
	// What an image holds is nobody's setuid program on this machine.
	attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV}
	if err := unix.MountSetattr(int(f.Fd()), "", unix.AT_EMPTY_PATH, attr); err != nil {
		return errors.Join(os.NewSyscallError("mount_setattr", err), f.Close())
	}
	target, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	return errors.Join(mount.Attach(f, target), target.Close(), f.Close())
}

// chooseDir finds or makes the directory.
func (e *Engine) chooseDir(m *Mount, req MountRequest) error {
	if req.Dir == "" {
		below, err := e.directory("mounts")
		if err != nil {
			return err
		}
		m.Dir, m.Made = filepath.Join(below, req.Image.ID.Encoded()[:12]+"-"+randomID()), true
		return os.Mkdir(m.Dir, 0o755)
	}
	dir, err := filepath.Abs(req.Dir)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		m.Made = true
		err = os.Mkdir(dir, 0o755)
	case err == nil && len(entries) > 0:
		err = fmt.Errorf("%s is not empty: a mount would hide what it holds", dir)
	}
	if err != nil {
		return err
	}
	// The user's own path: no step of a build can change it.
	m.Dir, err = filepath.EvalSymlinks(dir) //nolint:forbidigo // see above
	return err
}

// randomID tells mounts of one image apart.
func randomID() string {
	var b [4]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

// Mounts lists the images that are mounted, by directory. What ended with a
// reboot, or was unmounted by other means, is forgotten.
func (e *Engine) Mounts(ctx context.Context) (all []Mount, err error) {
	err = e.withMounts(ctx, func() error {
		all, err = e.mounts()
		return err
	})
	return all, err
}

func (e *Engine) mounts() ([]Mount, error) {
	var all []Mount
	for entry, err := range e.Store.Records(BucketMounts) {
		if err != nil {
			return nil, fmt.Errorf("list mounts: %w", err)
		}
		var m Mount
		if err := entry.Decode(&m); err != nil {
			return nil, fmt.Errorf("list mounts: %w", err)
		}
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b Mount) int { return strings.Compare(a.Dir, b.Dir) })
	var errs []error
	all = slices.DeleteFunc(all, func(m Mount) bool {
		gone, err := e.ended(m)
		if gone && err == nil {
			err = e.forget(m)
		}
		errs = append(errs, err)
		return gone
	})
	return all, errors.Join(errs...)
}

// ended reports whether a mount is there no more. In another mount namespace
// than its own nobody can see it, and only a reboot is certain to have ended
// it.
func (e *Engine) ended(m Mount) (bool, error) {
	if m.Boot != e.Store.BootID() {
		return true, nil
	}
	if m.Namespace != mountNamespace() {
		return false, nil
	}
	mounted, err := isMountPoint(m.Dir)
	return !mounted, err
}

// forget removes what belongs to a mount, but not the mount.
func (e *Engine) forget(m Mount) error {
	errs := []error{e.Store.DeleteRecord(BucketMounts, m.Dir)}
	if m.Kept != "" {
		if err := e.Snapshots.DropKept(m.Kept); !errors.Is(err, snapshot.ErrNotFound) {
			errs = append(errs, err)
		}
	}
	if m.Made {
		errs = append(errs, ignoreMissing(os.Remove(m.Dir)))
	}
	return errors.Join(errs...)
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// Unmount ends a mount in which nobody is at work.
func (e *Engine) Unmount(ctx context.Context, m Mount) error {
	return e.withMounts(ctx, func() error { return e.unmount(m, 0) })
}

// Detach ends a mount for those who look from now on, while those who are at
// work in it go on.
func (e *Engine) Detach(ctx context.Context, m Mount) error {
	return e.withMounts(ctx, func() error { return e.unmount(m, unix.MNT_DETACH) })
}

func (e *Engine) unmount(m Mount, flags int) error {
	err := unix.Unmount(m.Dir, unix.UMOUNT_NOFOLLOW|flags)
	switch {
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("unmount %s: a process is at work in it: end that, or give --force", m.Dir)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT): // it is no mount point any more
	case err != nil:
		return &os.PathError{Op: "unmount", Path: m.Dir, Err: err}
	}
	return e.forget(m)
}

// mountNamespace identifies the mounts that this process sees.
func mountNamespace() string {
	link, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return ""
	}
	return link
}

// isMountPoint looks a directory up among the mounts. The kernel writes blanks
// and the like in octal.
func isMountPoint(dir string) (bool, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return false, fmt.Errorf("list mounts: %w", err)
	}
	defer f.Close()
	want := strings.NewReplacer(" ", `\040`, "\t", `\011`, "\n", `\012`, `\`, `\134`).Replace(dir)
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) > 4 && fields[4] == want {
			return true, nil
		}
	}
	return false, lines.Err()
}
