package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// limit writes a limit that somebody asked for.
func limit(dir, file, value string) error {
	err := write(dir, file, value)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist), refused(err):
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return fmt.Errorf("set control group limit to %q: %w", value, err)
}

// refused tells an error that a user without delegation gets.
func refused(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS)
}

func write(dir, file, value string) error {
	f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

func read(dir, file string) (string, error) {
	text, err := os.ReadFile(filepath.Join(dir, file))
	return strings.TrimSpace(string(text)), err
}

// readUint reads a file that holds one number; "max" is the greatest. A file
// that is not there (no such controller) is 0.
func readUint(dir, file string) (uint64, error) {
	text, err := read(dir, file)
	if err != nil {
		return 0, ignoreGone(err)
	}
	if text == "max" {
		return math.MaxUint64, nil
	}
	return strconv.ParseUint(text, 10, 64)
}

// readKey reads a number from a file of lines "KEY NUMBER".
func readKey(dir, file, key string) (uint64, error) {
	text, err := read(dir, file)
	if err != nil {
		return 0, ignoreGone(err)
	}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name == key {
			return strconv.ParseUint(value, 10, 64)
		}
	}
	return 0, nil
}

func isCgroup(dir string) bool {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return false
	}
	return st.Type == unix.CGROUP_SUPER_MAGIC || st.Type == unix.CGROUP2_SUPER_MAGIC
}

// reader collects figures and keeps the first error.
type reader struct{ err error }

func (r *reader) take(n uint64, err error) uint64 {
	if r.err == nil && err != nil {
		r.err = fmt.Errorf("read figures of control group: %w", err)
	}
	return n
}
