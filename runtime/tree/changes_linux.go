package tree

import (
	"context"
	"errors"
	"iter"

	"golang.org/x/sys/unix"
)

// ChangeKind says what happened to a path.
type ChangeKind byte

// The kinds of changes, by the letters of `docker diff`.
const (
	Added    ChangeKind = 'A'
	Modified ChangeKind = 'C'
	Deleted  ChangeKind = 'D'
)

// Change is one path that a layer adds, modifies or deletes.
type Change struct {
	Kind ChangeKind
	// Path is absolute.
	Path string
	// Mode and Size are those in the layer, with the type bits; of a deletion,
	// those of what was deleted, 0 where that is not known.
	Mode uint32
	Size int64
}

// errStop ends a walk that nobody listens to any more.
var errStop = errors.New("stop")

// Changes lists what the layer directory dir changes on the merged view of the
// layer directories lower (bottom first), in walk order, without mounting. A
// directory that the layer shares with those below is modified, whatever may
// be different in it, as in docker; of a deleted directory, only itself is
// named. What goes away meanwhile, as in a container that runs, is left out.
// Where lower is nil, nothing is known about what is below: all files
// are added, and each whiteout is a deletion.
func Changes(ctx context.Context, dir string, lower []string, f Format) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		below, err := openLevel(lower)
		l := lister{yield: yield, format: f, blind: lower == nil, below: []shadow{{level: below}}}
		defer l.close()
		if err == nil {
			err = Walk(ctx, WalkRequest{Layers: []string{dir}, Format: f, Raw: true, Changing: true}, &l)
		}
		if err != nil && !errors.Is(err, errStop) {
			yield(Change{}, err)
		}
	}
}

// lister is a Visitor. below are the directories of the view that the visited
// directories are merged with, the root first.
type lister struct {
	yield  func(Change, error) bool
	format Format
	blind  bool
	below  []shadow
}

// shadow is what the view below has where the layer has a directory. With
// opaque, nothing of it shows through.
type shadow struct {
	level
	opaque bool
}

func (l *lister) close() {
	for _, s := range l.below {
		s.close()
	}
}

func (l *lister) Enter(e *Entry) error {
	if e.Dir == nil {
		return nil
	}
	in := l.below[len(l.below)-1]
	n, old, found, err := in.find(e.Name)
	if err != nil {
		return err
	}
	if IsWhiteout(&e.Stat) {
		if !found && !l.blind {
			return nil
		}
		return l.report(Deleted, e.Path, &old)
	}
	kind := Added
	if found {
		kind = Modified
	}
	if err := l.report(kind, e.Path, l.intended(e)); err != nil || !e.IsDir() {
		return err
	}
	var below level
	if found && old.Mode&unix.S_IFMT == unix.S_IFDIR {
		if below, err = in.descend(n, l.format); err != nil {
			below.close()
			return err
		}
	}
	return l.descend(e, below)
}

// descend goes into a directory. What an opaque one has no more was deleted.
func (l *lister) descend(e *Entry, below level) error {
	opaque := e.Opaque || l.below[len(l.below)-1].opaque
	l.below = append(l.below, shadow{below, opaque})
	if !opaque {
		return nil
	}
	names, err := below.names()
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := l.hidden(e, below, n); err != nil {
			return err
		}
	}
	return nil
}

// hidden reports a name that an opaque directory hides.
func (l *lister) hidden(e *Entry, below level, n levelName) error {
	if _, err := e.Self.Lstat(n.name); !errors.Is(err, unix.ENOENT) {
		return err // it is there again
	}
	_, old, found, err := below.find(n.name)
	if err != nil || !found {
		return err
	}
	return l.report(Deleted, join(e.Path, n.name), &old)
}

// Leave goes back to the parent.
func (l *lister) Leave(e *Entry) error {
	if e.Dir == nil {
		return nil
	}
	last := len(l.below) - 1
	l.below[last].close()
	l.below = l.below[:last]
	return nil
}

// intended are an entry's attributes after its override. A damaged one is for
// whoever uses the layer to find.
func (l *lister) intended(e *Entry) *unix.Stat_t {
	st := e.Stat
	if !l.format.Overrides() || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > 0 {
		return &st
	}
	attrs, err := e.Xattrs()
	if err != nil {
		return &st
	}
	if o, err := ParseOverride(attrs[OverrideXattr]); err == nil {
		o.Apply(&st)
	}
	return &st
}

func (l *lister) report(kind ChangeKind, p string, st *unix.Stat_t) error {
	c := Change{Kind: kind, Path: "/" + p, Mode: st.Mode}
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		c.Size = st.Size
	}
	if !l.yield(c, nil) {
		return errStop
	}
	return nil
}
