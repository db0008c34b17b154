package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// Owner holds a kind of objects that records refer to and that Collect
// removes. The snapshotter is one, for "layer:".
type Owner interface {
	// Prefix begins the objects' refs, with the colon: "layer:".
	Prefix() string
	// IDs lists the objects.
	IDs(ctx context.Context) iter.Seq2[string, error]
	// Size returns an object's size on disk, or ErrNotFound. It should
	// remember it.
	Size(ctx context.Context, id string) (int64, error)
	// Remove removes an object, or fails with ErrNotFound. It is called while
	// Acquire waits, so it must not call that, and should leave the deletion
	// of files for later.
	Remove(ctx context.Context, id string) error
}

// Item is a thing in the store: a record, a blob, an unfinished download, or
// an owner's object.
type Item struct {
	Ref Ref
	// Type is the bucket of a record; "blob", "download", or an owner's
	// prefix without the colon.
	Type string
	// Size is in bytes, of this thing alone.
	Size int64
	// Created is known of records and blobs.
	Created time.Time
	// LastUsed is, for what is not a record, the latest of the records that
	// need it; zero if none does.
	LastUsed time.Time
	// InUse says that a root or a lease needs it.
	InUse bool
}

const (
	typeBlob     = "blob"
	typeDownload = "download"

	downloadPrefix = "download:"
)

// thing is a node of the graph that a collection works on.
type thing struct {
	Item
	key  string // of a record; the id of another thing
	refs []Ref
	// role says what keeps the thing.
	role role
	// owner is set for an owner's object.
	owner Owner
	// path is the file, of what is one file.
	path string
	// sized says that Size is known.
	sized bool
	mark  mark
}

// role says what keeps a thing from collection.
type role int

const (
	// kept by what refers to it alone.
	byReference role = iota
	// kept always.
	always
	// kept for its own sake, as long as there is room.
	whileRoom
	// kept while its first ref is, and for nothing else.
	byFirstRef
)

// mark is how far a thing got in a collection.
type mark int

const (
	unmarked mark = iota
	// tentative: kept if all that goes with it finds room.
	tentative
	live
)

// graph is all there is in the store.
type graph struct {
	s      *Store
	now    time.Time
	things map[Ref]*thing
	// damaged are files in a bucket that do not count.
	damaged []*thing
	// attached are the things that live as long as the key does.
	attached map[Ref][]*thing
	// known are the prefixes whose things were all loaded.
	known map[string]bool
	// leased are refs that a living process needs, there or not yet.
	leased map[Ref]bool
	// added collects what the last tentative marking reached.
	added []*thing
}

// load reads the whole store.
func (s *Store) load(ctx context.Context, p Policy, owners []Owner) (*graph, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	g := &graph{
		s: s, now: time.Now(),
		things:   make(map[Ref]*thing),
		attached: make(map[Ref][]*thing),
		leased:   make(map[Ref]bool),
		known:    map[string]bool{blobPrefix: true, recordPrefix: true},
	}
	if err := errors.Join(g.loadRecords(ctx, p), g.loadBlobs(ctx), g.loadDownloads()); err != nil {
		return nil, err
	}
	for _, o := range owners {
		if err := g.loadOwner(ctx, o); err != nil {
			return nil, err
		}
	}
	return g, nil
}

func (g *graph) loadRecords(ctx context.Context, p Policy) error {
	buckets, err := g.s.Buckets()
	if err != nil {
		return err
	}
	for _, bucket := range buckets {
		for f, err := range g.s.recordFiles(bucket) {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				return fmt.Errorf("read records of %s: %w", bucket, err)
			}
			g.addRecord(f, p.role(bucket))
		}
	}
	return nil
}

func (g *graph) addRecord(f recordFile, r role) {
	t := &thing{
		Item: Item{
			Ref: RecordRef(f.Bucket, f.Key), Type: f.Bucket, Size: f.Size,
			Created: f.Created, LastUsed: f.LastUsed,
		},
		key: f.Key, refs: f.Refs, role: r, path: f.path, sized: true,
	}
	if !f.good {
		g.damaged = append(g.damaged, t)
		return
	}
	g.things[t.Ref] = t
	if r == byFirstRef && len(f.Refs) > 0 {
		g.attached[f.Refs[0]] = append(g.attached[f.Refs[0]], t)
	}
}

func (g *graph) loadBlobs(ctx context.Context) error {
	return g.loadFiles(dirBlobs, func(name, path string, fi os.FileInfo) error {
		d := digest.NewDigestFromEncoded(digest.SHA256, name)
		if d.Validate() != nil {
			return nil
		}
		g.things[BlobRef(d)] = &thing{
			Item: Item{Ref: BlobRef(d), Type: typeBlob, Size: fi.Size(), Created: fi.ModTime()},
			key:  d.String(), path: path, sized: true,
		}
		return ctx.Err()
	})
}

// loadDownloads adds what is left of downloads: of use to a retry only, so
// they go like cache records do.
func (g *graph) loadDownloads() error {
	return g.loadFiles(dirIngest, func(name, path string, fi os.FileInfo) error {
		ref := Ref(downloadPrefix + name)
		g.things[ref] = &thing{
			Item: Item{Ref: ref, Type: typeDownload, Size: fi.Size(), LastUsed: fi.ModTime()},
			key:  name, role: whileRoom, path: path, sized: true,
		}
		return nil
	})
}

func (g *graph) loadFiles(dir string, add func(name, path string, fi os.FileInfo) error) error {
	entries, err := os.ReadDir(g.s.path(dir))
	if err != nil {
		return err
	}
	for _, e := range entries {
		fi, err := e.Info()
		if errors.Is(err, os.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return err
		}
		if err := add(e.Name(), g.s.path(dir, e.Name()), fi); err != nil {
			return err
		}
	}
	return nil
}

func (g *graph) loadOwner(ctx context.Context, o Owner) error {
	g.known[o.Prefix()] = true
	for id, err := range o.IDs(ctx) {
		if err != nil {
			return fmt.Errorf("list %s objects: %w", o.Prefix(), err)
		}
		ref := Ref(o.Prefix() + id)
		g.things[ref] = &thing{
			Item: Item{Ref: ref, Type: strings.TrimSuffix(o.Prefix(), ":")},
			key:  id, owner: o,
		}
	}
	return nil
}

// size finds out a thing's size, once.
func (g *graph) size(ctx context.Context, t *thing) error {
	if t.sized {
		return nil
	}
	size, err := t.owner.Size(ctx, t.key)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("size of %s: %w", t.Ref, err)
	}
	t.Size, t.sized = size, true
	return nil
}

func (g *graph) sizeAll(ctx context.Context) error {
	for _, t := range g.things {
		if err := g.size(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

// reach marks a thing, what it refers to, and what is attached to either,
// and collects in g.added what was not marked before.
func (g *graph) reach(ref Ref, m mark) {
	todo := []Ref{ref}
	for len(todo) > 0 {
		ref := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		t := g.things[ref]
		if t == nil || t.mark != unmarked {
			continue
		}
		t.mark = m
		g.added = append(g.added, t)
		todo = append(todo, t.refs...)
		for _, a := range g.attached[ref] {
			todo = append(todo, a.Ref)
		}
	}
}

// keep marks for good.
func (g *graph) keep(ref Ref) {
	g.added = g.added[:0]
	g.reach(ref, live)
}

// keepIf marks a thing and all that goes with it if its size, which room
// decides on, is granted.
func (g *graph) keepIf(ref Ref, room func(size int64) bool) bool {
	g.added = g.added[:0]
	g.reach(ref, tentative)
	var size int64
	for _, t := range g.added {
		size += t.Size
	}
	verdict := unmarked
	if room(size) {
		verdict = live
	}
	for _, t := range g.added {
		t.mark = verdict
	}
	return verdict == live
}

// keepRoots marks what stays whatever the policy's limits.
func (g *graph) keepRoots(leased []Ref) {
	for _, t := range g.things {
		if t.role == always || g.attachedToUnknown(t) {
			g.keep(t.Ref)
		}
	}
	for _, ref := range leased {
		g.leased[ref] = true
		g.keep(ref)
	}
}

// attachedToUnknown reports whether a record is attached to an object of an
// owner that takes no part: whether the object lives cannot be known.
func (g *graph) attachedToUnknown(t *thing) bool {
	return t.role == byFirstRef && len(t.refs) > 0 && !g.known[t.refs[0].prefix()]
}

// broken reports whether a record refers to something that is gone.
func (g *graph) broken(t *thing) bool {
	return slices.ContainsFunc(t.refs, func(r Ref) bool {
		return g.things[r] == nil && g.known[r.prefix()] && !g.leased[r]
	})
}

// cached returns what is kept while there is room and not marked yet, the
// latest used first.
func (g *graph) cached() []*thing {
	var list []*thing
	for _, t := range g.things {
		if t.role == whileRoom && t.mark == unmarked {
			list = append(list, t)
		}
	}
	slices.SortFunc(list, func(a, b *thing) int {
		if c := b.LastUsed.Compare(a.LastUsed); c != 0 {
			return c
		}
		return strings.Compare(string(a.Ref), string(b.Ref))
	})
	return list
}

// liveSize is the size of everything that is marked.
func (g *graph) liveSize() int64 {
	var sum int64
	for _, t := range g.things {
		if t.mark == live {
			sum += t.Size
		}
	}
	return sum
}
