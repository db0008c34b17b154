package fileop

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"sync"
	"sync/atomic"

	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/fileop/pattern"
)

// digestVersion begins every digest: change it with the encoding.
const digestVersion = "strata.selection.v1\n"

// Digest returns a digest of just what a selects in src: names, types, modes,
// owners, link targets, which files are hard links of each other, extended
// attributes and contents, but no times. What is not selected, or does not
// take part in the copy (the attributes of a directory of which only the
// contents are copied), makes no difference.
//
// The walk writes one record per selected entry. Contents that the tree does
// not know the digest of are hashed by two threads meanwhile.
func Digest(ctx context.Context, src Tree, a *pb.FileActionCopy) (digest.Digest, error) {
	filter, err := pattern.New(a.GetIncludePatterns(), a.GetExcludePatterns())
	if err != nil {
		return "", err
	}
	found, err := matches(src, a)
	if err == nil {
		err = Check(src, a)
	}
	if err != nil {
		return "", err
	}
	s := &selection{ctx: ctx, src: src, a: a, filter: filter, required: newRequiredPaths(a)}
	s.start()
	for _, match := range found {
		if err = s.match(match); err != nil {
			break
		}
	}
	if err = errors.Join(err, s.stop()); err != nil {
		return "", err
	}
	if err := s.required.check(); err != nil {
		return "", err
	}
	return s.sum(), nil
}

// selection is one walk.
type selection struct {
	ctx      context.Context
	src      Tree
	a        *pb.FileActionCopy
	filter   *pattern.Filter
	required requiredPaths
	records  []*record
	links    map[inode]int // first record of a file with several links

	jobs    chan hashJob
	workers sync.WaitGroup
	mu      sync.Mutex
	err     error
}

// record is one selected entry. The file attributes and the sum of a regular
// file may still be missing while it is hashed.
type record struct {
	head   []byte
	xattrs []Xattr
	sum    [sha256.Size]byte
}

// place is a directory of the walk.
type place struct {
	up      *place
	dir     *sharedDir
	node    Node
	rel     string // of the match
	srcPath string
	state   pattern.State
	emitted bool // its record is written
}

// sharedDir closes a directory after its last user.
type sharedDir struct {
	Dir
	users atomic.Int32
}

func share(d Dir) *sharedDir {
	s := &sharedDir{Dir: d}
	s.users.Store(1)
	return s
}

func (s *sharedDir) release() error {
	if s.users.Add(-1) > 0 {
		return nil
	}
	return s.Close()
}

// hashJob is a file to read.
type hashJob struct {
	dir  *sharedDir
	node Node
	path string
	rec  *record
}

func (s *selection) start() {
	s.jobs = make(chan hashJob, queue)
	for range writers {
		s.workers.Go(func() {
			buf := make([]byte, bufferSize)
			for j := range s.jobs {
				if err := s.hash(j, buf); err != nil {
					s.fail(fmt.Errorf("read %q: %w", j.path, err))
				}
			}
		})
	}
}

func (s *selection) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
}

func (s *selection) failed() error {
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *selection) stop() error {
	close(s.jobs)
	s.workers.Wait()
	return s.err
}

// hash completes the record of a regular file.
func (s *selection) hash(j hashJob, buf []byte) (err error) {
	defer func() { err = errors.Join(err, j.dir.release()) }()
	if s.failed() != nil {
		return nil
	}
	fd, err := j.dir.Open(&j.node)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if j.rec.xattrs, err = j.dir.Xattrs(&j.node, fd); err != nil {
		return err
	}
	h := sha256.New()
	for {
		n, err := readSome(fd, buf)
		if err != nil {
			return err
		}
		if n == 0 {
			h.Sum(j.rec.sum[:0])
			return nil
		}
		h.Write(buf[:n])
		if s.ctx.Err() != nil {
			return context.Cause(s.ctx)
		}
	}
}

// match adds one path of the source.
func (s *selection) match(match string) error {
	top, err := s.src.Root()
	if err != nil {
		return err
	}
	// An archive is unpacked through a symlink, even where a copy keeps it.
	follow := s.a.GetFollowSymlink() || s.a.GetAttemptUnpackDockerCompatibility()
	resolved, err := resolve(top, match, follow)
	if err = errors.Join(err, top.Close()); err != nil {
		return notFound(match, err)
	}
	dir, n, err := lookup(s.src, resolved)
	if err != nil {
		return err
	}
	s.links = map[inode]int{}
	name := path.Base(match)
	if n.IsDir() {
		err = dir.Close()
		if err == nil {
			err = s.matchDir(match, name, resolved, n)
		}
		return err
	}
	s.required.add(match)
	p := &place{dir: share(dir), emitted: true, srcPath: path.Dir(match)}
	return errors.Join(s.leaf(p, n, name), p.dir.release())
}

func (s *selection) matchDir(match, name, resolved string, n Node) error {
	dir, err := openDir(s.src, resolved)
	if err != nil {
		return err
	}
	p := &place{dir: share(dir), node: n, srcPath: path.Join("/", match), emitted: true}
	if s.filter.All() {
		s.required.add(match)
	}
	if s.a.GetDirCopyContents() {
		s.records = append(s.records, &record{head: []byte("contents")})
	} else {
		err = s.directory(p, name)
	}
	if err == nil {
		err = s.walk(p)
	}
	return errors.Join(err, p.dir.release())
}

func (s *selection) walk(p *place) error {
	names, err := p.dir.Names()
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := s.entry(p, name); err != nil {
			return err
		}
	}
	return nil
}

func (s *selection) entry(p *place, name string) error {
	if err := s.failed(); err != nil {
		return err
	}
	rel := path.Join(p.rel, name)
	v, state, err := s.filter.Match(rel, p.state)
	if err != nil || !v.Selected && !v.Descend {
		return err
	}
	n, err := p.dir.Lookup(name)
	if err != nil {
		return err
	}
	if v.Selected {
		s.required.add(path.Join(p.srcPath, name))
	}
	if n.IsDir() {
		return s.sub(p, n, v, &place{up: p, node: n, rel: rel, srcPath: path.Join(p.srcPath, name), state: state})
	}
	if !v.Selected {
		return nil
	}
	if err := s.ensure(p); err != nil {
		return err
	}
	return s.leaf(p, n, rel)
}

func (s *selection) sub(p *place, n Node, v pattern.Verdict, sub *place) error {
	dir, err := p.dir.Sub(n.Name)
	if err != nil {
		return err
	}
	sub.dir = share(dir)
	if v.Selected {
		err = s.ensure(sub)
	}
	if err == nil && v.Descend {
		err = s.walk(sub)
	}
	return errors.Join(err, sub.dir.release())
}

// ensure writes the records of a directory and of those on the way to it.
func (s *selection) ensure(p *place) error {
	if p.emitted {
		return nil
	}
	if err := s.ensure(p.up); err != nil {
		return err
	}
	return s.directory(p, p.rel)
}

func (s *selection) directory(p *place, name string) error {
	xattrs, err := p.dir.Xattrs(nil, -1)
	if err != nil {
		return err
	}
	p.emitted = true
	s.records = append(s.records, &record{head: head(&p.node, name), xattrs: xattrs})
	return nil
}

// leaf writes the record of what is not a directory.
func (s *selection) leaf(p *place, n Node, name string) error {
	if n.Type() == unix.S_IFSOCK { // copied as an empty file
		n.Mode, n.Sum, n.Nlink = unix.S_IFREG|n.Mode&0o7777, &emptySum, 1
	}
	r := &record{head: head(&n, name)}
	if n.IsRegular() && n.Nlink > 1 {
		if first, ok := s.links[n.inode()]; ok {
			r.head = binary.AppendUvarint(append(r.head, "link"...), uint64(len(s.records)-first))
			s.records = append(s.records, r)
			return nil
		}
		s.links[n.inode()] = len(s.records)
	}
	s.records = append(s.records, r)
	if n.IsRegular() && n.Sum == nil {
		p.dir.users.Add(1)
		s.jobs <- hashJob{dir: p.dir, node: n, path: path.Join(p.srcPath, n.Name), rec: r}
		return nil
	}
	if n.Sum != nil {
		r.sum = *n.Sum
	}
	var err error
	r.xattrs, err = p.dir.Xattrs(&n, -1)
	return err
}

// head encodes what is known of an entry without opening it.
func head(n *Node, name string) []byte {
	b := appendString(nil, name)
	b = binary.AppendUvarint(b, uint64(n.Mode))
	b = binary.AppendUvarint(b, uint64(n.UID))
	b = binary.AppendUvarint(b, uint64(n.GID))
	if isDevice(n.Mode) {
		b = binary.AppendUvarint(b, n.Rdev)
	}
	return appendString(b, n.Link)
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// sum hashes the records.
func (s *selection) sum() digest.Digest {
	h := sha256.New()
	io.WriteString(h, digestVersion)
	var b []byte
	for _, r := range s.records {
		b = appendString(b[:0], string(r.head))
		b = binary.AppendUvarint(b, uint64(len(r.xattrs)))
		for _, x := range r.xattrs {
			b = appendString(appendString(b, x.Name), x.Value)
		}
		h.Write(append(b, r.sum[:]...))
	}
	return digest.NewDigest(digest.SHA256, h)
}
