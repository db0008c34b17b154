package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteFile writes beside the destination and renames. A link stays, and what it
// leads to is replaced; devices and pipes, such as /dev/stdout, are written to.
func WriteFile(name string, data []byte) error {
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return replaceFile(name, data, 0o644)
	case err != nil:
		return writeError(name, err)
	case info.IsDir():
		return fmt.Errorf("write %s: it is a directory", name)
	case !info.Mode().IsRegular():
		return writeError(name, os.WriteFile(name, data, 0))
	}
	real, err := filepath.EvalSymlinks(name)
	if err != nil {
		return writeError(name, err)
	}
	return replaceFile(real, data, info.Mode().Perm())
}

func replaceFile(name string, data []byte, mode fs.FileMode) error {
	tmp := fmt.Sprintf("%s.%d.tmp", name, os.Getpid())
	if err := os.WriteFile(tmp, data, mode); err != nil {
		return writeError(name, err)
	}
	if err := os.Rename(tmp, name); err != nil {
		return errors.Join(writeError(name, err), os.Remove(tmp))
	}
	return nil
}

// writeError names the file that was asked for, and not the temporary one.
func writeError(name string, err error) error {
	var path *fs.PathError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("write %s: the directory %s does not exist", name, filepath.Dir(name))
	case errors.As(err, &path):
		return fmt.Errorf("write %s: %w", name, path.Err)
	}
	return fmt.Errorf("write %s: %w", name, err)
}
