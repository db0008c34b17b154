package snapshottest

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// picture is what a tree shows: a line of text per path.
type picture map[string]string

// describe looks at a tree with ordinary path calls. Directories' times are
// left out, as a layer need not carry them for a directory that it merely
// passes through.
func (s *suite) describe(root string) picture {
	s.t.Helper()
	p := make(picture)
	err := filepath.WalkDir(root+"/.", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		line, err := describeFile(path)
		p[strings.TrimPrefix(path, root+"/")] = line
		return err
	})
	s.must(err)
	return p
}

func describeFile(path string) (string, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return "", &os.PathError{Op: "stat", Path: path, Err: err}
	}
	line := fmt.Sprintf("mode=%o owner=%d:%d", st.Mode, st.Uid, st.Gid)
	xattrs, err := describeXattrs(path)
	if err != nil {
		return "", err
	}
	line += xattrs
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		content, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		line += fmt.Sprintf(" content=%q", content)
	case unix.S_IFLNK:
		target, err := os.Readlink(path)
		if err != nil {
			return "", err
		}
		line += fmt.Sprintf(" target=%q", target)
	case unix.S_IFCHR, unix.S_IFBLK:
		line += fmt.Sprintf(" device=%d", st.Rdev)
	case unix.S_IFDIR:
		return line, nil
	}
	return line + fmt.Sprintf(" mtime=%d.%d", st.Mtim.Sec, st.Mtim.Nsec), nil
}

func describeXattrs(path string) (string, error) {
	list := make([]byte, 4096)
	n, err := unix.Llistxattr(path, list)
	if err != nil {
		return "", &os.PathError{Op: "list attributes", Path: path, Err: err}
	}
	var lines []string
	for name := range bytes.SplitSeq(list[:n], []byte{0}) {
		if !bytes.HasPrefix(name, []byte("user.")) || bytes.HasPrefix(name, []byte("user.overlay.")) {
			continue
		}
		value := make([]byte, 256)
		n, err := unix.Lgetxattr(path, string(name), value)
		if err != nil {
			return "", &os.PathError{Op: "get attribute", Path: path, Err: err}
		}
		lines = append(lines, fmt.Sprintf(" %s=%q", name, value[:n]))
	}
	slices.Sort(lines)
	return strings.Join(lines, ""), nil
}

// same fails the test where two pictures differ.
func (s *suite) same(what string, got, want picture) {
	s.t.Helper()
	paths := slices.Collect(maps.Keys(got))
	paths = slices.AppendSeq(paths, maps.Keys(want))
	slices.Sort(paths)
	for _, path := range slices.Compact(paths) {
		if got[path] != want[path] {
			s.t.Errorf("%s: %s\n   is %s\n want %s", what, path, got[path], want[path])
		}
	}
}

// names lists the paths of a picture, without the root.
func (p picture) names() string {
	names := slices.Sorted(maps.Keys(p))
	names = slices.DeleteFunc(names, func(n string) bool { return n == "." })
	return strings.Join(names, " ")
}

func (s *suite) write(path, content string) {
	s.t.Helper()
	s.must(os.WriteFile(path, []byte(content), 0o644))
}

func (s *suite) read(path string) string {
	s.t.Helper()
	b, err := os.ReadFile(path)
	s.must(err)
	return string(b)
}

func (s *suite) mkdir(path string) {
	s.t.Helper()
	s.must(os.MkdirAll(path, 0o755))
}
