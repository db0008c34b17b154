package mount

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// OverlaySupported tries an overlay below dir, which must exist, and says why
// it cannot be used: it mounts one and checks that deletions and replaced
// directories are recorded in the upper directory as layers need them.
func OverlaySupported(dir string, userxattr bool) error {
	base, err := os.MkdirTemp(dir, "overlay-probe-")
	if err != nil {
		return err
	}
	return errors.Join(probe(base, userxattr), os.RemoveAll(base))
}

func probe(base string, userxattr bool) error {
	at := func(name string) string { return filepath.Join(base, name) }
	for _, d := range []string{"lower/dir", "upper", "work"} {
		if err := os.MkdirAll(at(d), 0o700); err != nil {
			return err
		}
	}
	if err := os.WriteFile(at("lower/file"), nil, 0o600); err != nil {
		return err
	}
	t := Tree{Lower: []string{at("lower")}, Upper: at("upper"), Work: at("work"), UserXattr: userxattr}
	m, err := t.Open()
	if err != nil {
		return err
	}
	defer m.Close()
	if err := change(int(m.Fd())); err != nil {
		return fmt.Errorf("write through an overlay: %w", err)
	}
	return checkRecorded(at("upper"), userxattr)
}

// change deletes a file, and replaces a directory by a new one.
func change(root int) error {
	return errors.Join(
		unix.Unlinkat(root, "file", 0),
		unix.Unlinkat(root, "dir", unix.AT_REMOVEDIR),
		unix.Mkdirat(root, "dir", 0o700),
	)
}

func checkRecorded(upper string, userxattr bool) error {
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(upper, "file"), &st); err != nil {
		return fmt.Errorf("find the whiteout: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != 0 {
		return errors.New("the whiteout is not a character device 0/0")
	}
	name := "trusted.overlay.opaque"
	if userxattr {
		name = "user.overlay.opaque"
	}
	value := make([]byte, 1)
	if _, err := unix.Lgetxattr(filepath.Join(upper, "dir"), name, value); err != nil {
		return fmt.Errorf("find the opaque mark %s: %w", name, err)
	}
	return nil
}
