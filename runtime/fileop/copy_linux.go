package fileop

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/moby/buildkit/solver/pb"
	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/fileop/pattern"
	"github.com/strata-build/strata/runtime/rootfs"
)

// Copy copies what a selects in src onto dst.
func Copy(ctx context.Context, dst *rootfs.Root, src Tree, a *pb.FileActionCopy, o Options) (err error) {
	c, err := newCopier(ctx, dst, src, a, &o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	if err := c.checkParent(); err != nil {
		return err
	}
	found, err := matches(src, a)
	if err != nil {
		return err
	}
	for _, match := range found {
		if err := c.match(match); err != nil {
			return err
		}
	}
	if err := c.pool.wait(); err != nil {
		return err
	}
	return c.required.check()
}

// copier is one copy.
type copier struct {
	*dest
	ctx    context.Context
	a      *pb.FileActionCopy
	src    Tree
	mode   modeChange
	filter *pattern.Filter
	pool   *pool
	linker Linker // nil when files must be copied

	required requiredPaths
	// target is the destination, resolved when the first match is copied.
	target string
	// base and parent are the open directories of the last match that was not
	// a directory: those of the next one are mostly the same.
	base   sourceDir
	parent *level
	// names that matches have made in the destination directory: a second
	// match of the same name must come after the first.
	names map[string]bool
	// links are the regular files with several links, of the current match.
	links map[inode]hardLink
}

// sourceDir is an open directory of the source and its resolved path.
type sourceDir struct {
	path string
	dir  Dir
}

func (s sourceDir) close() error {
	if s.dir == nil {
		return nil
	}
	return s.dir.Close()
}

func newCopier(ctx context.Context, dst *rootfs.Root, src Tree, a *pb.FileActionCopy, o *Options) (*copier, error) {
	c := &copier{
		dest: newDest(dst, o), ctx: ctx, a: a, src: src,
		names:    map[string]bool{},
		required: newRequiredPaths(a),
	}
	var err error
	if c.own, err = resolveOwner(ctx, a.GetOwner(), o); err != nil {
		return nil, err
	}
	if c.mode, err = newModeChange(a.GetMode(), a.GetModeStr()); err != nil {
		return nil, err
	}
	if c.filter, err = pattern.New(a.GetIncludePatterns(), a.GetExcludePatterns()); err != nil {
		return nil, err
	}
	c.time = timespec(a.GetTimestamp())
	if c.own == nil && c.time == nil && c.mode == (modeChange{}) {
		c.linker, _ = src.(Linker)
	}
	c.pool = newPool(ctx, c, o.Progress)
	return c, nil
}

// close waits for the writers, whether the copy failed or not.
func (c *copier) close() error {
	errs := []error{c.leave(), c.pool.close(), c.finish()}
	return errors.Join(errs...)
}

// checkParent refuses a destination whose parent directory does not exist,
// where the copy is not to make it.
func (c *copier) checkParent() error {
	if c.a.GetCreateDestPath() {
		return nil
	}
	p, err := c.resolve(c.a.GetDest())
	if err != nil {
		return err
	}
	n, err := c.stat(path.Dir(p))
	if err == nil && n == nil {
		err = fmt.Errorf("copy to %q: its parent directory: %w", c.a.GetDest(), ErrNotFound)
	}
	return err
}

// matches are the paths that the source of a copy stands for.
func matches(src Tree, a *pb.FileActionCopy) ([]string, error) {
	srcPath := cleanPath(a.GetSrc())
	if !a.GetAllowWildcard() {
		return []string{srcPath}, nil
	}
	m, err := expand(src, srcPath, a.GetFollowSymlink())
	if err != nil {
		return nil, err
	}
	if len(m) == 0 && !a.GetAllowEmptyWildcard() {
		return nil, fmt.Errorf("%q matches nothing: %w", srcPath, ErrNotFound)
	}
	return m, nil
}

// match copies one path of the source.
func (c *copier) match(match string) error {
	if c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	if c.a.GetAttemptUnpackDockerCompatibility() {
		if done, err := c.unpack(match); done || err != nil {
			return err
		}
	}
	if c.target == "" {
		if err := c.prepareDest(); err != nil {
			return err
		}
	}
	followed, n, err := c.enter(match, c.a.GetFollowSymlink())
	if err != nil {
		return err
	}
	c.links = map[inode]hardLink{}
	if n.IsDir() {
		return c.matchDir(match, followed, n)
	}
	return c.matchFile(match, n)
}

// enter resolves a path of the source (the last component too when follow is
// set), opens the directory that holds it, and describes it.
func (c *copier) enter(p string, follow bool) (string, Node, error) {
	if clean := path.Join("/", p); c.base.dir != nil && path.Dir(clean) == c.base.path && clean != "/" {
		n, err := c.base.dir.Lookup(path.Base(clean)) // beside the last match
		if err != nil || !follow || !n.IsLink() {
			return clean, n, notFound(clean, err)
		}
	}
	top, err := c.src.Root()
	if err != nil {
		return "", Node{}, err
	}
	resolved, err := resolve(top, p, follow)
	if err = errors.Join(err, top.Close()); err != nil {
		return "", Node{}, notFound(p, err)
	}
	dir, n, err := lookup(c.src, resolved)
	if err != nil {
		return "", n, err
	}
	err = c.base.close()
	c.base = sourceDir{path.Dir(resolved), dir}
	return resolved, n, err
}

// leave gives the directories up that were kept open between matches.
func (c *copier) leave() error {
	err := c.base.close()
	c.base = sourceDir{}
	return errors.Join(err, c.leaveTarget())
}

func (c *copier) leaveTarget() error {
	if c.parent == nil {
		return nil
	}
	l := c.parent
	c.parent = nil
	return l.release()
}

// prepareDest makes the directory of the destination, and resolves it. As cp
// does, 'a/' and 'a/.' name a directory, and 'a' what it shall become.
func (c *copier) prepareDest() error {
	dst := cleanPath(c.a.GetDest())
	ensure := dst
	if dir, name := path.Split(dst); name != "" && name != "." {
		ensure = dir
	}
	p, err := c.resolve(ensure)
	if err != nil {
		return err
	}
	dir, err := c.mkdirAll(p, c.mode.parents())
	if err != nil {
		return err
	}
	if err := dir.Close(); err != nil {
		return err
	}
	c.target, err = c.resolve(path.Clean(dst))
	return err
}

// matchFile copies what is not a directory: into the destination when that is
// a directory, else as the destination.
func (c *copier) matchFile(match string, n Node) error {
	if c.parent == nil || c.parent.srcDir != c.base.path {
		if err := c.enterTarget(match); err != nil {
			return err
		}
	}
	name := path.Base(match)
	if c.parent.path != c.target {
		name = path.Base(c.target)
		defer func() { c.target = "" }() // it may be a symlink now: the next match follows it
	}
	if name == "/" || name == "." {
		return fmt.Errorf("copy %q: cannot replace the directory %q by a file", match, c.target)
	}
	if c.names[name] {
		if err := c.pool.wait(); err != nil {
			return err
		}
	}
	c.names[name] = true
	c.required.add(match)
	return c.leaf(c.parent, n, name)
}

// enterTarget opens the directory that files are copied into: the destination
// itself, or its parent.
func (c *copier) enterTarget(match string) error {
	if err := c.leaveTarget(); err != nil {
		return err
	}
	into := c.target
	st, err := c.stat(c.target)
	if err != nil {
		return err
	}
	if st == nil || !st.IsDir() {
		into = path.Dir(c.target)
	}
	dst, err := c.mkdirAll(into, c.mode.parents())
	if err != nil {
		return err
	}
	src, err := openDir(c.src, c.base.path)
	if err != nil {
		return errors.Join(err, dst.Close())
	}
	c.parent = newLevel(&level{c: c, src: src, srcDir: c.base.path, srcPath: path.Dir(match), dst: dst, path: into})
	return nil
}

// matchDir copies a directory: its contents into the destination, or itself
// into (or as) the destination.
func (c *copier) matchDir(match, followed string, n Node) error {
	if err := errors.Join(c.leaveTarget(), c.pool.wait()); err != nil {
		return err
	}
	target, err := c.dirTarget(match)
	if err != nil {
		return err
	}
	src, err := openDir(c.src, followed)
	if err != nil {
		return err
	}
	l := newLevel(&level{c: c, src: src, srcPath: path.Join("/", match), node: n, path: target})
	if err = c.openTop(l, target); err == nil {
		if c.filter.All() {
			c.required.add(match)
		}
		err = c.walk(l)
	}
	err = errors.Join(err, l.release())
	if failed := c.pool.wait(); !errors.Is(err, failed) {
		err = errors.Join(err, failed)
	}
	return err
}

// dirTarget returns the resolved path that a directory becomes, and makes its
// parents.
func (c *copier) dirTarget(match string) (string, error) {
	st, err := c.stat(c.target)
	if err != nil {
		return "", err
	}
	target, ensure := c.target, path.Dir(c.target)
	switch contents := c.a.GetDirCopyContents(); {
	case !contents && st != nil:
		target = path.Join(target, path.Base(match))
		ensure = path.Dir(target)
	case contents && st == nil:
		ensure = target
	}
	dir, err := c.mkdirAll(ensure, c.mode.parents())
	if err != nil {
		return "", err
	}
	return target, dir.Close()
}

// openTop opens or makes the directory that a matched directory becomes. One
// that exists keeps its attributes, except for its times.
func (c *copier) openTop(l *level, target string) error {
	if target == "/" {
		dst, err := c.root.Dir()
		l.dst, l.finish = dst, finishTimes
		return err
	}
	parent, name, err := c.openParent(target)
	if err != nil {
		return err
	}
	made, err := l.mkdir(parent, name, c.a.GetAlwaysReplaceExistingDestPaths())
	l.finish = finishTimes
	if made {
		l.finish = finishAll
	}
	return errors.Join(err, parent.Close())
}

// requiredPaths are those of which something must be selected.
type requiredPaths struct {
	paths []string
	seen  []bool
}

// newRequiredPaths reads them from an action; as in BuildKit they count only
// where there is something to select by.
func newRequiredPaths(a *pb.FileActionCopy) requiredPaths {
	selective := a.GetAllowWildcard() && hasWildcard(a.GetSrc()) ||
		len(a.GetIncludePatterns()) > 0 || len(a.GetExcludePatterns()) > 0
	if !selective {
		return requiredPaths{}
	}
	return requiredPaths{a.GetRequiredPaths(), make([]bool, len(a.GetRequiredPaths()))}
}

// add takes note of a selected path of the source.
func (r requiredPaths) add(p string) {
	for i, required := range r.paths {
		if !r.seen[i] && strings.HasPrefix(path.Join("/", p), required) {
			r.seen[i] = true
		}
	}
}

func (r requiredPaths) check() error {
	for i, seen := range r.seen {
		if !seen {
			return fmt.Errorf("%q: %w", r.paths[i], ErrNotFound)
		}
	}
	return nil
}

// times returns what a copy of n gets.
func (c *copier) times(n *Node) (atime, mtime *unix.Timespec) {
	if c.time != nil {
		return c.time, c.time
	}
	return &n.Atime, &n.Mtime
}

// attrs returns what a copy of n gets.
func (c *copier) attrs(n *Node, xattrs []Xattr) attrs {
	own := c.own
	if own == nil {
		own = &owner{n.UID, n.GID}
	}
	a := attrs{mode: n.Type() | c.mode.apply(n.Mode), own: own, rdev: n.Rdev, xattrs: xattrs}
	a.atime, a.mtime = c.times(n)
	return a
}
