package localsource

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/fileop/pattern"
	"github.com/strata-build/strata/runtime/rootfs"
)

const (
	// threads is how many directories or files are looked at at a time.
	threads = 2
	// chunk is how many files of a large directory one thread takes.
	chunk = 256
	// bufferSize is what is read at a time.
	bufferSize = 256 << 10
)

// walk is one scan. Its threads take tasks from a stack, so that they stay
// close to what they have just read.
type walk struct {
	ctx      context.Context
	filter   *pattern.Filter
	started  time.Time
	cache    *statCache
	top      *dirNode
	progress func(Stats)

	mu       sync.Mutex
	more     sync.Cond
	tasks    []task
	busy     int
	err      error
	stats    Stats
	reported int64
}

// task is to list a directory, or to look at some of its files.
type task struct {
	dir   *dirNode
	files []*file // nil: list the directory
}

// dirNode is a directory of the scan.
type dirNode struct {
	entry Entry
	up    *dirNode
	state pattern.State
	// selected is set when the directory itself is; it is also in the manifest
	// when something below it is.
	selected bool
	// gone is set when it vanished during the walk.
	gone bool

	handle *rootfs.Dir
	users  atomic.Int32 // of handle

	files []*file
	dirs  []*dirNode
	// ignored are the sub-directories that were not looked into, and kept the
	// cache records of files that were not looked at.
	ignored []string
	kept    []record
	known   []record
}

func (d *dirNode) path(name string) string {
	if d.entry.Path == "" {
		return name
	}
	return d.entry.Path + "/" + name
}

// release drops a user of the handle.
func (d *dirNode) release() error {
	if d.users.Add(-1) > 0 {
		return nil
	}
	return d.handle.Close()
}

// file is anything but a directory.
type file struct {
	name  string
	entry Entry
	stat  stamp
	inode inode // of a file with several links
	// fresh is set when the file was hashed, not known.
	fresh bool
	gone  bool
}

type inode struct{ dev, ino uint64 }

// run walks the directory whose handle is top.
func (w *walk) run(top *rootfs.Dir) error {
	w.more.L = &w.mu
	w.top = &dirNode{handle: top, selected: true}
	w.top.users.Store(1)
	w.tasks = []task{{dir: w.top}}
	var threadsDone sync.WaitGroup
	for range threads {
		t := &thread{walk: w, filter: w.filter.Clone(), buf: make([]byte, bufferSize), hash: sha256.New()}
		threadsDone.Go(t.run)
	}
	threadsDone.Wait()
	if w.progress != nil && w.err == nil {
		w.progress(w.stats)
	}
	return w.err
}

// push adds tasks; what is pushed last is done first.
func (w *walk) push(tasks ...task) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tasks = append(w.tasks, tasks...)
	w.more.Broadcast()
}

// next returns a task, or false when there will be none. The last task is done.
func (w *walk) next(err error, first bool) (task, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !first {
		w.busy--
	}
	if err == nil && w.ctx.Err() != nil {
		err = context.Cause(w.ctx)
	}
	if w.err == nil {
		w.err = err
	}
	for len(w.tasks) == 0 && w.busy > 0 {
		w.more.Wait()
	}
	if len(w.tasks) == 0 {
		w.more.Broadcast()
		return task{}, false
	}
	t := w.tasks[len(w.tasks)-1]
	w.tasks = w.tasks[:len(w.tasks)-1]
	w.busy++
	return t, true
}

func (w *walk) failed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err != nil
}

// count adds to the statistics, and reports them every now and then.
func (w *walk) count(s Stats) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stats.Entries += s.Entries
	w.stats.Bytes += s.Bytes
	w.stats.Hashed += s.Hashed
	w.stats.HashedBytes += s.HashedBytes
	if w.progress != nil && w.stats.Entries-w.reported >= 1000 {
		w.reported = w.stats.Entries
		w.progress(w.stats)
	}
}

// thread is one of the threads of a walk.
type thread struct {
	*walk
	filter *pattern.Filter
	buf    []byte
	hash   hash.Hash
}

func (t *thread) run() {
	var err error
	for first := true; ; first = false {
		job, ok := t.next(err, first)
		if !ok {
			return
		}
		err = t.do(job)
	}
}

// do does one task; after an error it only gives handles back.
func (t *thread) do(job task) error {
	if job.files != nil {
		defer job.dir.release()
		if t.failed() {
			return nil
		}
		return t.look(job.dir, job.files)
	}
	if t.failed() {
		if job.dir.up != nil {
			return job.dir.up.release()
		}
		return job.dir.release()
	}
	if job.dir.up != nil {
		if err := t.open(job.dir); err != nil || job.dir.gone {
			return err
		}
	}
	return errors.Join(t.list(job.dir), job.dir.release())
}

// open opens a sub-directory. One that vanished is left out; one that cannot
// be read too, when it is not selected itself.
func (t *thread) open(d *dirNode) error {
	handle, err := d.up.handle.OpenDir(path.Base(d.entry.Path))
	err = errors.Join(err, d.up.release())
	if err == nil {
		d.handle = handle
		d.users.Store(1)
		return nil
	}
	d.gone = true
	if absent(err) || errors.Is(err, fs.ErrPermission) && !d.selected {
		return nil
	}
	return unreadable(d.entry.Path, err)
}

// unreadable explains why a path of the context cannot be used.
func unreadable(p string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("cannot read %q: permission denied; make it readable, or name it in .dockerignore", p)
	}
	return fmt.Errorf("cannot read %q: %w", p, err)
}

// list reads a directory, and pushes tasks for what is in it.
func (t *thread) list(d *dirNode) error {
	entries, err := d.handle.ReadDir()
	if err != nil {
		return unreadable(d.entry.Path, err)
	}
	attrs, err := d.handle.Xattrs("")
	if err != nil {
		return unreadable(d.entry.Path, err)
	}
	d.entry.Xattrs = portable(attrs)
	d.known = t.cache.records(d.entry.Path)
	d.files = make([]*file, 0, len(entries))
	backing := make([]file, len(entries))
	for i, e := range entries {
		if err := t.add(d, e, &backing[i]); err != nil {
			return err
		}
	}
	t.count(Stats{Entries: int64(len(d.dirs))})
	t.spread(d)
	return nil
}

// add decides on one entry of a directory.
func (t *thread) add(d *dirNode, e rootfs.DirEntry, f *file) error {
	p := d.path(e.Name)
	v, state, err := t.filter.Match(p, d.state)
	if err != nil {
		return err
	}
	isDir := e.Type == unix.S_IFDIR
	if !v.Selected && !v.Descend {
		d.ignore(e.Name)
		return nil
	}
	if !v.Selected && e.Type != 0 && !isDir {
		d.ignore(e.Name)
		return nil
	}
	if e.Type == 0 { // the file system does not tell
		st, err := d.handle.Lstat(e.Name)
		if absent(err) {
			return nil
		}
		if err != nil {
			return unreadable(p, err)
		}
		isDir = st.Mode&unix.S_IFMT == unix.S_IFDIR
	}
	if isDir {
		return t.addDir(d, e.Name, v, state)
	}
	if v.Selected {
		f.name, f.entry.Path = e.Name, p
		d.files = append(d.files, f)
	}
	return nil
}

// ignore keeps what the cache knows of an entry that is not looked at.
func (d *dirNode) ignore(name string) {
	if r, ok := find(d.known, name); ok {
		d.kept = append(d.kept, r)
		return
	}
	d.ignored = append(d.ignored, name)
}

func (t *thread) addDir(d *dirNode, name string, v pattern.Verdict, state pattern.State) error {
	st, err := d.handle.Lstat(name)
	if absent(err) {
		return nil
	}
	if err != nil {
		return unreadable(d.path(name), err)
	}
	sub := &dirNode{up: d, state: state, selected: v.Selected}
	sub.entry = Entry{Path: d.path(name), Mode: st.Mode, Mtime: st.Mtim.Nano()}
	d.dirs = append(d.dirs, sub)
	return nil
}

// spread pushes the files of a directory in chunks, and its sub-directories,
// the first one last, so that it is the next.
func (t *thread) spread(d *dirNode) {
	var tasks []task
	for _, sub := range slices.Backward(d.dirs) {
		tasks = append(tasks, task{dir: sub})
	}
	for files := range slices.Chunk(d.files, chunk) {
		tasks = append(tasks, task{dir: d, files: files})
	}
	d.users.Add(int32(len(tasks)))
	t.push(tasks...)
}

// look describes files: stat, and where the cache does not know them, hash.
func (t *thread) look(d *dirNode, files []*file) error {
	var s Stats
	known := d.known
	if len(files) > 0 {
		known = known[lowerBound(known, files[0].name):]
	}
	for _, f := range files {
		for len(known) > 0 && known[0].name < f.name {
			known = known[1:]
		}
		var r *record
		if len(known) > 0 && known[0].name == f.name {
			r = &known[0]
		}
		if err := t.describe(d, f, r, &s); err != nil {
			return err
		}
	}
	t.count(s)
	return nil
}

// describe fills a file's entry. One that vanished is left out.
func (t *thread) describe(d *dirNode, f *file, known *record, s *Stats) error {
	var st unix.Stat_t
	err := unix.Fstatat(d.handle.FD(), f.name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if absent(err) || err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		f.gone = true
		return nil
	}
	if err != nil {
		return unreadable(f.entry.Path, err)
	}
	f.fill(&st)
	s.Entries++
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		err = t.regular(d, f, known, s)
	case unix.S_IFLNK:
		f.entry.Link, err = d.handle.Readlink(f.name)
	case unix.S_IFSOCK: // as in BuildKit, an empty file
		f.entry.Mode = unix.S_IFREG | st.Mode&0o7777
		f.entry.Size, f.entry.Sum = 0, sha256.Sum256(nil)
	case unix.S_IFCHR, unix.S_IFBLK:
		f.entry.Rdev = st.Rdev
	}
	if absent(err) || errors.Is(err, unix.EINVAL) {
		f.gone = true
		return nil
	}
	if err != nil {
		return unreadable(f.entry.Path, err)
	}
	return nil
}

// fill takes over what stat tells.
func (f *file) fill(st *unix.Stat_t) {
	f.entry.Mode, f.entry.Mtime, f.entry.Size = st.Mode, st.Mtim.Nano(), st.Size
	f.stat = stampOf(st)
	if st.Nlink > 1 && st.Mode&unix.S_IFMT == unix.S_IFREG {
		f.inode = inode{st.Dev, st.Ino}
	}
}

// manifest puts the entries in order.
func (w *walk) manifest(dir string) *Manifest {
	b := builder{entries: make([]Entry, 0, w.stats.Entries), links: map[inode]string{}}
	b.dir(w.top)
	return newManifest(dir, b.entries, w.stats)
}

// builder flattens a walk.
type builder struct {
	entries []Entry
	links   map[inode]string // first path of files with several links
}

// dir adds the entries of a directory, in the order of their names.
func (b *builder) dir(d *dirNode) {
	files, dirs := d.files, d.dirs
	for len(files) > 0 || len(dirs) > 0 {
		if len(dirs) == 0 || len(files) > 0 && files[0].name < path.Base(dirs[0].entry.Path) {
			b.file(files[0])
			files = files[1:]
			continue
		}
		b.sub(dirs[0])
		dirs = dirs[1:]
	}
}

func (b *builder) file(f *file) {
	if f.gone {
		return
	}
	e := f.entry
	if f.inode != (inode{}) {
		if first, ok := b.links[f.inode]; ok {
			e.Link = first
		} else {
			b.links[f.inode] = e.Path
		}
	}
	b.entries = append(b.entries, e)
}

// sub adds a directory, when it is selected or something in it is.
func (b *builder) sub(d *dirNode) {
	if d.gone {
		return
	}
	here := len(b.entries)
	b.entries = append(b.entries, d.entry)
	b.dir(d)
	if !d.selected && len(b.entries) == here+1 {
		b.entries = b.entries[:here]
	}
}

// lowerBound returns the index of the first record not before name.
func lowerBound(known []record, name string) int {
	i, _ := slices.BinarySearchFunc(known, name, func(r record, name string) int { return strings.Compare(r.name, name) })
	return i
}

func find(known []record, name string) (record, bool) {
	if i := lowerBound(known, name); i < len(known) && known[i].name == name {
		return known[i], true
	}
	return record{}, false
}
