package gitsource

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/rootfs"
)

// checkout writes the files of the commit to dir.
func (m *mirror) checkout(ctx context.Context, dir string) error {
	sub := strings.Trim(path.Join("/", m.s.Subdir), "/")
	var err error
	switch {
	case sub != "":
		err = m.checkoutSub(ctx, dir, sub)
	case m.s.KeepGitDir:
		err = m.checkoutClone(ctx, dir)
	default:
		err = m.checkoutFiles(ctx, dir)
	}
	if err != nil || !m.s.CommitMTime {
		return err
	}
	return m.setTimes(ctx, dir)
}

// checkoutFiles writes the files alone.
func (m *mirror) checkoutFiles(ctx context.Context, dir string) error {
	index, err := os.CreateTemp(m.path, "index-")
	if err != nil {
		return err
	}
	defer os.Remove(index.Name())
	// git wants to make the file itself.
	if err := errors.Join(index.Close(), os.Remove(index.Name())); err != nil {
		return err
	}
	g := *m.git
	g.tree, g.index = dir, index.Name()
	if _, err := g.run(ctx, "read-tree", "--reset", "-u", m.commit); err != nil {
		return &damagedError{err}
	}
	if err := m.submodules(ctx, &g); err != nil {
		return err
	}
	return inRoot(dir, removeGitFiles)
}

// checkoutClone makes a shallow clone of the mirror, with its .git directory.
func (m *mirror) checkoutClone(ctx context.Context, dir string) error {
	g := *m.git
	g.tree, g.dir = dir, filepath.Join(dir, ".git")
	args := []string{"init", "--quiet"}
	if len(m.commit) == 64 {
		args = append(args, "--object-format=sha256")
	}
	if _, err := g.run(ctx, args...); err != nil {
		return err
	}
	local := g
	local.local = true
	// By the file protocol: git copies no files of a path that it is given.
	what := m.r.Commit
	if strings.HasPrefix(m.r.Ref, "refs/") {
		what += ":" + m.r.Ref
	}
	from := url.URL{Scheme: "file", Path: m.path}
	fetch := []string{"fetch", "--quiet", "--update-head-ok", "--depth=1", "--no-tags", "--", from.String(), what}
	if _, err := local.run(ctx, fetch...); err != nil {
		return &damagedError{err}
	}
	for _, args := range [][]string{
		{"checkout", "--quiet", "--detach", m.commit, "--"},
		{"config", "--", "remote.origin.url", m.a.remote},
		{"config", "--", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"},
	} {
		if _, err := g.run(ctx, args...); err != nil {
			return err
		}
	}
	err := os.Remove(filepath.Join(dir, ".git", "FETCH_HEAD"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return m.submodules(ctx, &g)
}

// submodules fetches and checks out the submodules, if there are any.
func (m *mirror) submodules(ctx context.Context, g *git) error {
	if m.s.SkipSubmodules {
		return nil
	}
	if fi, err := os.Lstat(filepath.Join(g.tree, ".gitmodules")); err != nil || !fi.Mode().IsRegular() {
		return nil
	}
	network := *g
	network.local = false // nothing of this machine, whatever the tests permit
	for _, args := range [][]string{
		{"submodule", "--quiet", "init"}, {"submodule", "--quiet", "sync", "--recursive"},
		{"submodule", "--quiet", "update", "--init", "--recursive", "--force", "--depth=1"},
	} {
		if _, err := network.run(ctx, args...); err != nil {
			return fmt.Errorf("submodules: %w", err)
		}
	}
	return nil
}

func inRoot(dir string, f func(*rootfs.Dir) error) error {
	root, err := rootfs.OpenDir(dir)
	if err != nil {
		return err
	}
	top, err := root.Dir()
	if err = errors.Join(err, root.Close()); err != nil {
		return err
	}
	return errors.Join(f(top), top.Close())
}

// removeGitFiles removes the files that tell where in the mirror the
// repository of a submodule is: they name a path of this machine.
func removeGitFiles(d *rootfs.Dir) error {
	entries, err := d.ReadDir()
	if err != nil {
		return err
	}
	for _, e := range entries {
		switch {
		case e.Name == ".git" && e.Type == unix.S_IFREG:
			err = removeGitFile(d)
		case e.Type == unix.S_IFDIR:
			err = inDir(d, e.Name, removeGitFiles)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func removeGitFile(d *rootfs.Dir) error {
	f, err := d.OpenFile(".git", unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	begin := make([]byte, 8)
	n, _ := f.Read(begin)
	if err := f.Close(); err != nil {
		return err
	}
	if !bytes.Equal(begin[:n], []byte("gitdir: ")) {
		return nil
	}
	return d.Remove(".git")
}

func inDir(d *rootfs.Dir, name string, f func(*rootfs.Dir) error) error {
	sub, err := d.OpenDir(name)
	if err != nil {
		return err
	}
	return errors.Join(f(sub), sub.Close())
}

// checkoutSub checks out everything beside, since submodules and attributes of
// the whole repository count, and moves what is in the sub-directory up.
func (m *mirror) checkoutSub(ctx context.Context, dir, sub string) error {
	tmp, err := os.MkdirTemp(dir, ".strata-checkout-")
	if err != nil {
		return err
	}
	if err := m.checkoutFiles(ctx, tmp); err != nil {
		return err
	}
	return inRoot(dir, func(top *rootfs.Dir) error {
		name := filepath.Base(tmp)
		from, err := openSub(top, name, sub)
		if err != nil {
			return err
		}
		if err := errors.Join(moveUp(from, top), from.Close()); err != nil {
			return err
		}
		return top.RemoveAll(name)
	})
}

// openSub opens the sub-directory, of which no component may be a symlink.
func openSub(top *rootfs.Dir, name, sub string) (*rootfs.Dir, error) {
	dir, err := top.OpenDir(name)
	if err != nil {
		return nil, err
	}
	for part := range strings.SplitSeq(sub, "/") {
		next, err := dir.OpenDir(part)
		if closed := dir.Close(); err == nil {
			err = closed
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("the repository has no directory %q", sub)
		case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
			return nil, fmt.Errorf("the sub-directory %q: %q is not a directory, but a file or symlink", sub, part)
		case err != nil:
			return nil, err
		}
		dir = next
	}
	return dir, nil
}

func moveUp(from, to *rootfs.Dir) error {
	entries, err := from.ReadDir()
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := from.Rename(e.Name, to, e.Name); err != nil {
			return err
		}
	}
	return nil
}

// setTimes gives everything the time of the commit, directories last.
func (m *mirror) setTimes(ctx context.Context, dir string) error {
	out, err := m.run(ctx, "log", "-1", "--format=%ct", "--end-of-options", m.commit, "--")
	if err != nil {
		return err
	}
	sec, err := strconv.ParseInt(strings.TrimSpace(out), 10, 64)
	if err != nil {
		return fmt.Errorf("time of the commit: %w", err)
	}
	ts := unix.Timespec{Sec: sec}
	return inRoot(dir, func(top *rootfs.Dir) error {
		if err := setTimes(top, ts); err != nil {
			return err
		}
		return unix.UtimesNanoAt(unix.AT_FDCWD, dir, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
	})
}

func setTimes(d *rootfs.Dir, ts unix.Timespec) error {
	entries, err := d.ReadDir()
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Type == unix.S_IFDIR {
			err = inDir(d, e.Name, func(sub *rootfs.Dir) error { return setTimes(sub, ts) })
		}
		if err = errors.Join(err, d.Utimes(e.Name, ts, ts)); err != nil {
			return err
		}
	}
	return nil
}
