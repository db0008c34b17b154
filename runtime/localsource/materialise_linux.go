package localsource

import (
	"context"
	"errors"
	"path"
	"strings"

	"github.com/moby/buildkit/solver/pb"
	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/fileop"
	"github.com/strata-build/strata/runtime/rootfs"
)

// Previous is an earlier materialisation, whose unchanged files are linked
// instead of copied. It must be in the same file system and never change.
type Previous struct {
	Manifest *Manifest
	Root     *rootfs.Root
}

// MaterialiseOptions say how Materialise writes.
type MaterialiseOptions struct {
	Previous *Previous
	// Copy has the options of the copy itself.
	Copy fileop.Options
}

// Materialise copies the selection into the empty directory dst.
func Materialise(ctx context.Context, m *Manifest, dst *rootfs.Root, o MaterialiseOptions) (err error) {
	t, err := m.Tree()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	all := &pb.FileActionCopy{
		Src: "/", Dest: "/", Mode: -1, Timestamp: -1, DirCopyContents: true, CreateDestPath: true,
	}
	if o.Previous == nil {
		return fileop.Copy(ctx, dst, t, all, o.Copy)
	}
	linked := newLinked(t, o.Previous)
	return errors.Join(fileop.Copy(ctx, dst, linked, all, o.Copy), linked.leave())
}

// linked is a tree whose unchanged files are hard links to those of an earlier
// materialisation.
type linked struct {
	*Tree
	root *rootfs.Root
	old  map[string]*Entry
	// dir is the earlier directory that was used last.
	dir     *rootfs.Dir
	dirPath string
}

var _ fileop.Linker = (*linked)(nil)

func newLinked(t *Tree, p *Previous) *linked {
	l := &linked{Tree: t, root: p.Root, old: make(map[string]*Entry, len(p.Manifest.entries))}
	hard := map[string]bool{}
	for i := range p.Manifest.entries {
		e := &p.Manifest.entries[i]
		if !e.IsRegular() {
			continue
		}
		if e.Link != "" {
			hard[e.Link] = true
			continue
		}
		l.old[e.Path] = e
	}
	for p := range hard { // a link to it would join files that may be apart now
		delete(l.old, p)
	}
	return l
}

// Link implements fileop.Linker. Hard links share everything, so that all
// attributes must be the same.
func (l *linked) Link(dst *rootfs.Dir, name, p string, n *fileop.Node) (bool, error) {
	p = strings.TrimPrefix(p, "/")
	old, ok := l.old[p]
	if !ok || n.Nlink > 1 || n.Sum == nil || *n.Sum != old.Sum || n.Mode != old.Mode || n.Mtime.Nano() != old.Mtime {
		return false, nil
	}
	e := &l.m.entries[n.Ino]
	if !sameXattrs(e.Xattrs, old.Xattrs) {
		return false, nil
	}
	dir, err := l.enter(path.Dir(p))
	if err != nil {
		return false, err
	}
	err = dst.Link(dir, name, name)
	switch {
	case errors.Is(err, unix.EMLINK), errors.Is(err, unix.EXDEV), errors.Is(err, unix.EPERM):
		return false, nil // it can still be copied
	case err != nil:
		return false, err
	}
	return true, nil
}

func (l *linked) enter(p string) (*rootfs.Dir, error) {
	if l.dir != nil && l.dirPath == p {
		return l.dir, nil
	}
	if err := l.leave(); err != nil {
		return nil, err
	}
	dir, err := l.root.OpenDir(p)
	if err != nil {
		return nil, err
	}
	l.dir, l.dirPath = dir, p
	return dir, nil
}

func (l *linked) leave() error {
	if l.dir == nil {
		return nil
	}
	dir := l.dir
	l.dir = nil
	return dir.Close()
}
