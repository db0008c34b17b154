package inventory

import (
	"bytes"
	"io/fs"
	"path"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/rootfs"
)

// candidate is a file that may tell of packages, as the library asks about it.
type candidate struct {
	path string
	stat func() (fs.FileInfo, error)
}

// Path implements filesystem.FileAPI.
func (c candidate) Path() string { return c.path }

// Stat implements filesystem.FileAPI.
func (c candidate) Stat() (fs.FileInfo, error) { return c.stat() }

// osFiles is the file system that the library reads os-release from, inside
// the root, and nothing that is large or no file.
type osFiles struct{ root *rootfs.Root }

// osFileLimit bounds such a file.
const osFileLimit = 1 << 20

// Open implements fs.FS.
func (o osFiles) Open(name string) (fs.File, error) {
	data, err := o.root.ReadFile(name, osFileLimit)
	if err != nil {
		return nil, err
	}
	return memoryFile{bytes.NewReader(data), fileInfo{name: path.Base(name), size: int64(len(data)), mode: 0o444}}, nil
}

// Stat implements fs.StatFS.
func (o osFiles) Stat(name string) (fs.FileInfo, error) {
	st, err := o.root.Stat(name)
	if err != nil {
		return nil, err
	}
	return infoOf(path.Base(name), &st), nil
}

// ReadDir implements fs.ReadDirFS. Nothing that is read here lists.
func (o osFiles) ReadDir(name string) ([]fs.DirEntry, error) {
	return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrInvalid}
}

// memoryFile is a file that was read already.
type memoryFile struct {
	*bytes.Reader
	info fileInfo
}

// Stat implements fs.File.
func (m memoryFile) Stat() (fs.FileInfo, error) { return m.info, nil }

// Close implements fs.File.
func (m memoryFile) Close() error { return nil }

// fileInfo is an fs.FileInfo of what the root says.
type fileInfo struct {
	name string
	size int64
	mode fs.FileMode
}

func infoOf(name string, st *unix.Stat_t) fileInfo {
	mode := fs.FileMode(st.Mode & 0o777)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		mode |= fs.ModeDir
	default:
		mode |= fs.ModeIrregular
	}
	return fileInfo{name: name, size: st.Size, mode: mode}
}

// Name implements fs.FileInfo.
func (f fileInfo) Name() string { return f.name }

// Size implements fs.FileInfo.
func (f fileInfo) Size() int64 { return f.size }

// Mode implements fs.FileInfo.
func (f fileInfo) Mode() fs.FileMode { return f.mode }

// ModTime implements fs.FileInfo; no package depends on it.
func (f fileInfo) ModTime() time.Time { return time.Time{} }

// IsDir implements fs.FileInfo.
func (f fileInfo) IsDir() bool { return f.mode.IsDir() }

// Sys implements fs.FileInfo.
func (f fileInfo) Sys() any { return nil }
