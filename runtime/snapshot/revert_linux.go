package snapshot

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/mount"
	"github.com/strata-build/strata/runtime/rootfs"
)

// Revert takes directories out of an active that were written to and are as
// they were: what overlayfs has copied up of them says nothing, and would be
// in the layer. The active's tree must not be mounted any more. Directories
// that have changed after all stay.
func Revert(t mount.Tree, dirs []string) error {
	if t.Upper == "" { // a driver that compares
		return nil
	}
	for _, dir := range dirs {
		for dir = path.Join("/", dir); dir != "/"; dir = path.Dir(dir) {
			gone, err := revert(t, dir)
			if err != nil {
				return fmt.Errorf("take unchanged directory %s out of a snapshot: %w", dir, err)
			}
			if !gone {
				break
			}
		}
	}
	return nil
}

// revert removes one directory, unless it says something.
func revert(t mount.Tree, dir string) (gone bool, err error) {
	parent, _, err := openBelow(t.Upper, path.Dir(dir))
	if parent == nil || err != nil {
		return false, err
	}
	defer parent.Close()
	upper, hides, err := openBelow(t.Upper, dir)
	if upper == nil || err != nil {
		return false, err
	}
	same := false
	if !hides {
		same, err = sameBelow(t, dir, upper)
	}
	if err = errors.Join(err, upper.Close()); !same || err != nil {
		return false, err
	}
	before, err := parent.Stat()
	if err != nil {
		return false, err
	}
	err = unix.Unlinkat(parent.FD(), path.Base(dir), unix.AT_REMOVEDIR)
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, unix.UtimesNanoAt(parent.FD(), ".", []unix.Timespec{before.Atim, before.Mtim}, 0)
}

// sameBelow tells whether a directory of the upper layer has the attributes of
// the one that it hides.
func sameBelow(t mount.Tree, dir string, upper *rootfs.Dir) (bool, error) {
	for i := len(t.Lower) - 1; i >= 0; i-- {
		lower, hides, err := openBelow(t.Lower[i], dir)
		switch {
		case err != nil:
			return false, err
		case lower != nil:
			same, err := alike(upper, lower)
			return same, errors.Join(err, lower.Close())
		case hides:
			return false, nil
		}
	}
	return false, nil
}

// openBelow opens a directory of a layer: nil if the layer has none. hides
// tells that the layer has something else there, or is opaque on the way: of
// the layers below it nothing shows there.
func openBelow(layer, dir string) (d *rootfs.Dir, hides bool, err error) {
	root, err := rootfs.OpenDir(layer)
	if err != nil {
		return nil, false, err
	}
	d, err = root.Dir()
	if err = errors.Join(err, root.Close()); err != nil {
		return nil, false, err
	}
	for name := range strings.SplitSeq(strings.Trim(dir, "/"), "/") {
		if name == "" {
			break
		}
		opaque, err := isOpaque(d)
		hides = hides || opaque
		if err != nil {
			return nil, false, errors.Join(err, d.Close())
		}
		next, err := d.OpenDir(name)
		switch {
		case errors.Is(err, unix.ENOENT):
			return nil, hides, d.Close()
		case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
			return nil, true, d.Close()
		}
		if err = errors.Join(err, d.Close()); err != nil {
			return nil, false, err
		}
		d = next
	}
	return d, hides, nil
}

// isOpaque tells whether a directory of a layer hides those below it.
func isOpaque(d *rootfs.Dir) (bool, error) {
	attrs, err := d.Xattrs("")
	for _, prefix := range overlayPrefixes {
		if attrs[prefix+"opaque"] == "y" {
			return true, err
		}
	}
	return false, err
}

// overlayPrefixes begin the extended attributes in which overlayfs keeps its
// own marks.
var overlayPrefixes = [...]string{"trusted.overlay.", "user.overlay."}

// alike compares all attributes that a layer tells.
func alike(a, b *rootfs.Dir) (bool, error) {
	if opaque, err := isOpaque(a); opaque || err != nil {
		return false, err
	}
	x, errX := a.Stat()
	y, errY := b.Stat()
	if err := errors.Join(errX, errY); err != nil {
		return false, err
	}
	if x.Mode != y.Mode || x.Uid != y.Uid || x.Gid != y.Gid || x.Mtim != y.Mtim {
		return false, nil
	}
	attrsX, errX := a.Xattrs("")
	attrsY, errY := b.Xattrs("")
	for _, attrs := range []map[string]string{attrsX, attrsY} {
		maps.DeleteFunc(attrs, func(name, _ string) bool {
			return strings.HasPrefix(name, overlayPrefixes[0]) || strings.HasPrefix(name, overlayPrefixes[1])
		})
	}
	return maps.Equal(attrsX, attrsY), errors.Join(errX, errY)
}
