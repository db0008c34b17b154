package mount

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// FileOptions describe a file of its own file system.
type FileOptions struct {
	Data     []byte
	Mode     os.FileMode // permissions
	UID, GID int
}

// File makes a file on a tmpfs of its own and returns a detached mount of it:
// for what a step sees as a file but no image holds, such as a secret.
func File(o FileOptions) (*os.File, error) {
	dir, err := Tmpfs(TmpfsOptions{Mode: 0o755, NoSuid: true, NoDev: true, NoExec: true})
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	f, err := writeFile(dir, o)
	if err != nil {
		return nil, fmt.Errorf("write file for mounting: %w", err)
	}
	defer f.Close()
	return Bind(f, BindOptions{})
}

func writeFile(dir *os.File, o FileOptions) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), "file", unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, os.NewSyscallError("openat", err)
	}
	f := os.NewFile(uintptr(fd), "file")
	if _, err := f.Write(o.Data); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	// Only now, with the exact mode: the umask does not count.
	if err := errors.Join(f.Chown(o.UID, o.GID), f.Chmod(o.Mode.Perm())); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
