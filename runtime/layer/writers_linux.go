package layer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/rootfs"
	"github.com/strata-build/strata/runtime/tree"
)

const (
	writerCount = 4
	queueLength = 32
	// smallFile is the size up to which a file is read whole and written by
	// one job; a larger one comes in pieces of this size.
	smallFile = 256 << 10
)

// job is a file to make. All of it is new: what stood in its place is gone.
type job struct {
	dir   *rootfs.Dir
	node  *dirNode // released after the job
	names *names
	name  string
	attrs attributes

	// A regular file has a size, and its content in data or in pieces.
	size   int64
	data   []byte
	buf    *[]byte // data's, to be given back
	pieces <-chan *filePiece

	link string // of a symlink
	dev  uint64 // of a device
}

// filePiece is a part of a large file.
type filePiece struct {
	buf  *[]byte
	data []byte
}

// writers make files in several goroutines. The first error stops them: what is
// put afterwards is dropped.
type writers struct {
	format  tree.Format
	jobs    chan job
	pending sync.WaitGroup // jobs
	running sync.WaitGroup // goroutines
	buffers sync.Pool

	mu      sync.Mutex
	err     error
	skipped []string
}

func startWriters(f tree.Format) *writers {
	w := &writers{format: f, jobs: make(chan job, queueLength)}
	w.buffers.New = func() any { b := make([]byte, smallFile); return &b }
	for range writerCount {
		w.running.Go(w.run)
	}
	return w
}

func (w *writers) buffer() *[]byte { return w.buffers.Get().(*[]byte) }

// put queues a job.
func (w *writers) put(ctx context.Context, j job) error {
	w.pending.Add(1)
	select {
	case w.jobs <- j:
		return nil
	case <-ctx.Done():
		w.release(j)
		return ctx.Err()
	}
}

// wait returns when all that was put is made.
func (w *writers) wait() { w.pending.Wait() }

// failed returns the first error.
func (w *writers) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// stop waits for the goroutines to end, and returns the first error.
func (w *writers) stop() error {
	close(w.jobs)
	w.running.Wait()
	return w.failed()
}

func (w *writers) run() {
	s := setter{format: w.format}
	for j := range w.jobs {
		if w.failed() == nil {
			w.fail(j, w.make(&s, j))
		}
		w.done(j)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.skipped = append(w.skipped, s.skipped...)
}

func (w *writers) fail(j job, err error) {
	if err == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = fmt.Errorf("unpack %q: %w", join(j.node.path, j.name), err)
	}
}

// done ends a job; what is left of a large file is dropped.
func (w *writers) done(j job) {
	if j.pieces != nil {
		for p := range j.pieces {
			w.buffers.Put(p.buf)
		}
	}
	w.release(j)
}

// release gives back what a job holds.
func (w *writers) release(j job) {
	if j.buf != nil {
		w.buffers.Put(j.buf)
	}
	j.names.release(j.node)
	w.pending.Done()
}

func (w *writers) make(s *setter, j job) error {
	f := file{dir: j.dir, name: j.name, path: join(j.node.path, j.name)}
	switch j.attrs.mode & unix.S_IFMT {
	case unix.S_IFREG:
		return w.regular(s, j)
	case unix.S_IFIFO:
		if err := j.dir.Mknod(j.name, j.attrs.mode, 0); err != nil {
			return err
		}
	case unix.S_IFCHR, unix.S_IFBLK:
		placeholder, err := w.device(s, j)
		if placeholder || err != nil {
			return err
		}
	default:
		j.attrs.mode |= unix.S_IFLNK
		if err := j.dir.Symlink(j.link, j.name); err != nil {
			return err
		}
	}
	j.attrs.xattrs = nil // they belong to files and directories
	return s.set(f, j.attrs)
}

// device makes a device node; or, where a user namespace forbids that, an empty
// file with an override, and is then done with it.
func (w *writers) device(s *setter, j job) (done bool, err error) {
	err = j.dir.Mknod(j.name, j.attrs.mode, j.dev)
	if !errors.Is(err, unix.EPERM) || !w.format.Overrides() {
		return false, err
	}
	o := Override{
		UID: uint32(j.attrs.uid), GID: uint32(j.attrs.gid), Mode: j.attrs.mode,
		Major: unix.Major(j.dev), Minor: unix.Minor(j.dev),
	}
	j.attrs.mode = unix.S_IFREG | j.attrs.mode&0o7777
	j.attrs.xattrs = map[string]string{OverrideXattr: o.String()}
	j.size, j.data = 0, nil
	return true, w.regular(s, j)
}

func (w *writers) regular(s *setter, j job) error {
	fd, err := j.dir.Open(j.name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if j.pieces == nil {
		err = writeAt(fd, j.data, 0)
	} else {
		err = w.large(fd, j)
	}
	if err == nil {
		err = s.set(file{fd: fd, path: join(j.node.path, j.name)}, j.attrs)
	}
	return errors.Join(err, unix.Close(fd))
}

// large writes a file that comes in pieces. Pieces of zeros become holes, so
// that a sparse bomb stays small.
func (w *writers) large(fd int, j job) error {
	at := int64(0)
	for p := range j.pieces {
		var err error
		if !zero(p.data) {
			err = writeAt(fd, p.data, at)
		}
		at += int64(len(p.data))
		w.buffers.Put(p.buf)
		if err != nil {
			return err
		}
	}
	if at != j.size {
		return fmt.Errorf("%d bytes of %d came", at, j.size)
	}
	return unix.Ftruncate(fd, j.size)
}

func writeAt(fd int, data []byte, at int64) error {
	for len(data) > 0 {
		n, err := unix.Pwrite(fd, data, at)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		data, at = data[n:], at+int64(n)
	}
	return nil
}

// zero reports whether all of data is zero: its first byte is, and each equals
// the one before.
func zero(data []byte) bool {
	return len(data) == 0 || data[0] == 0 && bytes.Equal(data[1:], data[:len(data)-1])
}
