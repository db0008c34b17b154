package tree

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/rootfs"
)

// CompareRequest names the two trees of Compare.
type CompareRequest struct {
	// Lower and Upper are plain trees, or merged views.
	Lower, Upper *rootfs.Root
	// Dst is the empty directory that receives the difference.
	Dst string
	// Baseline, when set, is the change time of a file that was made, in
	// Upper's file system, after Upper was copied from Lower and before
	// anybody changed it. What has an older change time is then known to be
	// unchanged, and its content is not read.
	Baseline time.Time
}

// Compare writes what turns Lower into Upper to Dst, as a layer directory:
// whiteouts for what is missing in Upper, and what is new or different in it
// with all its parents.
//
// Two files are the same when type, mode, owner, size, modification time (not
// of directories), extended attributes, device number, link target and content
// are. The content is read only where all else agrees, and nothing says that
// the two are one file: the same inode of the same file system; or seen through
// two overlays, the same inode number and change time; or the baseline.
//
// A file with several names in Upper keeps them: where one name is in the
// difference, all are.
func Compare(ctx context.Context, req CompareRequest) (err error) {
	dst, err := rootfs.OpenDir(req.Dst)
	if err != nil {
		return err
	}
	defer dst.Close()
	lower, err := req.Lower.OpenDir("/")
	if err != nil {
		return err
	}
	defer lower.Close()
	upper, err := req.Upper.OpenDir("/")
	if err != nil {
		return err
	}
	defer upper.Close()
	c := comparer{
		ctx: ctx, req: req, dst: dst,
		graft: newGraft(ctx, dst, copyOptions{}),
		same:  map[inode][]string{},
	}
	defer c.graft.abandon()
	root := Entry{Self: upper}
	if root.Stat, err = upper.Stat(); err != nil {
		return err
	}
	c.path = []*Entry{&root}
	if c.overlays, err = bothOverlay(lower, upper); err != nil {
		return err
	}
	if err := c.directory(lower, !req.Baseline.IsZero()); err != nil {
		return err
	}
	return c.missingLinks()
}

// comparer walks both trees at once. The difference is grafted onto dst; the
// directories that lead to where the walk is are entered there only when there
// is something to write, and left when the walk leaves them.
type comparer struct {
	ctx   context.Context
	req   CompareRequest
	dst   *rootfs.Root
	graft *graft
	// overlays is set when both trees are overlay mounts.
	overlays bool
	// path are the upper directories that the walk is in. The first
	// len(graft.dirs) of them are entered in dst.
	path []*Entry
	// same are the names of unchanged files that have several.
	same map[inode][]string
}

// older reports whether a file was last changed before the baseline.
func (c *comparer) older(st *unix.Stat_t) bool {
	b := c.req.Baseline
	return st.Ctim.Sec < b.Unix() || st.Ctim.Sec == b.Unix() && st.Ctim.Nsec < int64(b.Nanosecond())
}

// bothOverlay reports whether both directories are in overlay mounts.
func bothOverlay(a, b *rootfs.Dir) (bool, error) {
	for _, d := range []*rootfs.Dir{a, b} {
		var fs unix.Statfs_t
		if err := unix.Fstatfs(d.FD(), &fs); err != nil {
			return false, fmt.Errorf("look at the file system of %s: %w", d.Path(), err)
		}
		if fs.Type != unix.OVERLAYFS_SUPER_MAGIC {
			return false, nil
		}
	}
	return true, nil
}

// directory compares the directory at the end of the path with lower. It is in
// place when it is known to be the very copy of lower, whatever happened to its
// contents since: then a file in it that is older than the baseline is a copy
// as well, since a rename counts as a change of the file that is renamed.
func (c *comparer) directory(lower *rootfs.Dir, inPlace bool) error {
	if len(c.path) > maxDepth {
		return fmt.Errorf("compare %s: %w", lower.Path(), ErrTooDeep)
	}
	if err := c.ctx.Err(); err != nil {
		return err
	}
	upper := c.path[len(c.path)-1]
	olds, err := lower.ReadDir()
	if err != nil {
		return err
	}
	news, err := upper.Self.ReadDir()
	if err != nil {
		return err
	}
	for len(olds) > 0 || len(news) > 0 {
		var err error
		switch order(olds, news) {
		case -1:
			err = c.whiteout(olds[0].Name)
			olds = olds[1:]
		case 1:
			err = c.added(news[0].Name)
			news = news[1:]
		default:
			err = c.both(lower, news[0].Name, inPlace)
			olds, news = olds[1:], news[1:]
		}
		if err != nil {
			return err
		}
	}
	return c.leave()
}

// order tells which list has the lesser first name; 0 when both have it.
func order(olds, news []rootfs.DirEntry) int {
	switch {
	case len(olds) == 0:
		return 1
	case len(news) == 0:
		return -1
	default:
		return strings.Compare(olds[0].Name, news[0].Name)
	}
}

// enter enters the directories of the path in dst.
func (c *comparer) enter() error {
	for len(c.graft.dirs) < len(c.path) {
		if err := c.graft.Enter(c.path[len(c.graft.dirs)]); err != nil {
			return err
		}
	}
	return nil
}

// leave takes the last directory off the path. The root is always entered, for
// its attributes.
func (c *comparer) leave() error {
	if len(c.path) == 1 {
		if err := c.enter(); err != nil {
			return err
		}
	}
	last := c.path[len(c.path)-1]
	c.path = c.path[:len(c.path)-1]
	if len(c.graft.dirs) > len(c.path) {
		return c.graft.Leave(last)
	}
	return nil
}

func (c *comparer) whiteout(name string) error {
	if err := c.enter(); err != nil {
		return err
	}
	return Whiteout(c.graft.dirs[len(c.graft.dirs)-1], name)
}

// Whiteout makes a whiteout in a layer's directory, which the kernel lets also
// an ordinary user do. ErrExist when the name is taken.
func Whiteout(d *rootfs.Dir, name string) error {
	if err := unix.Mknodat(d.FD(), name, unix.S_IFCHR, 0); err != nil {
		return fmt.Errorf("make whiteout of %s in %s: %w", name, d.Path(), err)
	}
	return nil
}

// entry looks at a name of the current upper directory.
func (c *comparer) entry(name string) (*Entry, error) {
	in := c.path[len(c.path)-1]
	e := &Entry{Path: join(in.Path, name), Dir: in.Self, Name: name}
	var err error
	if e.Stat, err = in.Self.Lstat(name); err != nil {
		return nil, err
	}
	if e.Stat.Mode&unix.S_IFMT == unix.S_IFDIR {
		e.Self, err = in.Self.OpenDir(name)
	}
	return e, err
}

// added copies a name that is new in the upper tree, with all below.
func (c *comparer) added(name string) error {
	e, err := c.entry(name)
	if err != nil {
		return err
	}
	return c.take(e)
}

func (c *comparer) take(e *Entry) error {
	if e.IsDir() {
		defer e.Self.Close()
	}
	if IsWhiteout(&e.Stat) {
		return nil // a device that no layer can hold
	}
	if err := c.enter(); err != nil {
		return err
	}
	if !e.IsDir() {
		return c.graft.Enter(e)
	}
	w := walker{ctx: c.ctx, v: dropWhiteouts{c.graft}, raw: true}
	return w.directory(e, level{{dir: e.Self}}, len(c.path))
}

// dropWhiteouts is a graft that leaves out the devices that would hide files.
type dropWhiteouts struct{ *graft }

func (v dropWhiteouts) Enter(e *Entry) error {
	if IsWhiteout(&e.Stat) {
		return nil
	}
	return v.graft.Enter(e)
}

// both compares a name that both trees have.
func (c *comparer) both(lower *rootfs.Dir, name string, inPlace bool) error {
	old, err := lower.Lstat(name)
	if err != nil {
		return err
	}
	e, err := c.entry(name)
	if err != nil {
		return err
	}
	s := sameness{
		ctx: c.ctx, lower: lower, old: &old, e: e,
		trusted:  inPlace && c.older(&e.Stat),
		overlays: c.overlays,
	}
	if e.IsDir() && old.Mode&unix.S_IFMT == unix.S_IFDIR {
		defer e.Self.Close()
		// Nothing moved within a parent that did not change, and nothing moved
		// that did not change itself.
		inPlace = inPlace && (s.trusted || c.older(&c.path[len(c.path)-1].Stat))
		return c.bothDirs(s, inPlace)
	}
	same, err := s.file()
	if err != nil {
		return fmt.Errorf("compare %s: %w", e.Path, err)
	}
	if !same {
		return c.take(e)
	}
	if e.Stat.Nlink > 1 {
		c.same[inodeOf(&e.Stat)] = append(c.same[inodeOf(&e.Stat)], e.Path)
	}
	return nil
}

func (c *comparer) bothDirs(s sameness, inPlace bool) error {
	e := s.e
	if inodeOf(s.old) == inodeOf(&e.Stat) {
		return nil
	}
	below, err := s.lower.OpenDir(e.Name)
	if err != nil {
		return err
	}
	defer below.Close()
	same, err := s.attributes()
	if err != nil {
		return fmt.Errorf("compare %s: %w", e.Path, err)
	}
	c.path = append(c.path, e)
	if !same {
		if err := c.enter(); err != nil {
			return err
		}
	}
	return c.directory(below, inPlace)
}

// missingLinks adds the unchanged names of files whose other names are in the
// difference, so that they stay one file.
func (c *comparer) missingLinks() error {
	for id, first := range c.graft.links {
		for _, p := range c.same[id] {
			if err := c.lateLink(first, p); err != nil {
				return fmt.Errorf("link %s: %w", p, err)
			}
		}
	}
	return nil
}

// lateLink makes dst's p a link to first, and the parents that are not there.
func (c *comparer) lateLink(first, p string) error {
	late := newGraft(c.ctx, c.dst, copyOptions{})
	late.links = c.graft.links
	defer late.abandon()
	at := &Entry{}
	names := strings.Split(p, "/")
	var err error
	if at.Self, err = c.req.Upper.OpenDir("/"); err != nil {
		return err
	}
	chain := []*Entry{at}
	defer func() {
		for _, e := range chain {
			e.Self.Close()
		}
	}()
	for i := range names {
		at := chain[i]
		if at.Stat, err = at.Self.Stat(); err != nil {
			return err
		}
		if err := late.Enter(at); err != nil {
			return err
		}
		if i == len(names)-1 {
			break
		}
		next := &Entry{Name: names[i]}
		if next.Self, err = at.Self.OpenDir(names[i]); err != nil {
			return err
		}
		chain = append(chain, next)
	}
	if err := late.link(first, late.dirs[len(late.dirs)-1], names[len(names)-1]); err != nil {
		return err
	}
	for i := range chain {
		err = errors.Join(err, late.Leave(chain[len(chain)-1-i]))
	}
	return err
}
