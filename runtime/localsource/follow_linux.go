package localsource

import (
	"errors"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/rootfs"
)

// followPaths returns the paths that are needed to reach paths: they
// themselves, and every symlink on the way with what it points to. It returns
// nil when that is everything. A component can have wildcards.
func followPaths(top *rootfs.Dir, paths []string) ([]string, error) {
	f := follower{top: top, seen: map[string]bool{}}
	for _, p := range paths {
		if err := f.add(p); err != nil {
			return nil, err
		}
	}
	var out []string
	for p := range f.seen {
		out = append(out, p)
	}
	slices.Sort(out)
	return withoutNested(out), nil
}

type follower struct {
	top  *rootfs.Dir
	seen map[string]bool
}

// add walks the components of p up to the first symlink, and goes on with
// where that leads.
func (f *follower) add(p string) error {
	rest := strings.TrimPrefix(path.Join("/", p), "/")
	current := "."
	for {
		name, after, _ := strings.Cut(rest, "/")
		current, rest = path.Join(current, name), after
		targets, err := f.targets(current)
		if err != nil {
			return err
		}
		if rest != "" && targets == nil {
			continue
		}
		if f.seen[current] {
			return nil
		}
		f.seen[current] = true
		for _, target := range targets {
			if err := f.add(path.Join(target, rest)); err != nil {
				return err
			}
		}
		return nil
	}
}

// targets returns where p leads, when it is a symlink, or a pattern that
// matches some; nil otherwise.
func (f *follower) targets(p string) ([]string, error) {
	if p == "." {
		return nil, nil
	}
	dir, err := f.open(path.Dir(p))
	if absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if dir != f.top {
		defer dir.Close()
	}
	names := []string{path.Base(p)}
	if hasWildcard(names[0]) {
		if names, err = glob(dir, names[0]); err != nil {
			return nil, err
		}
	}
	var out []string
	for _, name := range names {
		link, err := dir.Readlink(name)
		if absent(err) || errors.Is(err, unix.EINVAL) { // EINVAL: not a symlink
			continue
		}
		if err != nil {
			return nil, err
		}
		if !path.IsAbs(link) {
			link = path.Join("/", path.Dir(p), link)
		}
		out = append(out, path.Clean(link))
	}
	return out, nil
}

func glob(dir *rootfs.Dir, pattern string) ([]string, error) {
	entries, err := dir.ReadDir()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if ok, err := filepath.Match(pattern, e.Name); err == nil && ok {
			names = append(names, e.Name)
		}
	}
	return names, nil
}

// open opens a directory that is reached without symlinks.
func (f *follower) open(p string) (*rootfs.Dir, error) {
	dir := f.top
	for _, name := range strings.Split(p, "/") {
		if name == "." {
			continue
		}
		sub, err := dir.OpenDir(name)
		if dir != f.top {
			err = errors.Join(err, dir.Close())
		}
		if err != nil {
			return nil, err
		}
		dir = sub
	}
	return dir, nil
}

func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}

func hasWildcard(s string) bool {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '*', '?', '[':
			return true
		case '\\':
			i++
		}
	}
	return false
}
