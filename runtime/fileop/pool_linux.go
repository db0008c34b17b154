package fileop

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"path"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// writers is how many files are written at a time. More do not help: they
	// wait for the same directory locks.
	writers = 2
	// queue bounds the open directories that queued files refer to.
	queue = 128
	// bufferSize is what is read at a time.
	bufferSize = 256 << 10
	// cloneSize is from where on it is worth asking the file system to share
	// blocks.
	cloneSize = 1 << 20

	createFlags = unix.O_CREAT | unix.O_EXCL | unix.O_WRONLY
)

// emptySum is the SHA-256 of nothing.
var emptySum = sha256.Sum256(nil)

// job is a regular file to write.
type job struct {
	l    *level
	n    Node
	name string
	fd   int // the destination, when it is made already; else -1
}

// pool are the writers.
type pool struct {
	ctx     context.Context
	c       *copier
	jobs    chan *job
	workers sync.WaitGroup
	pending sync.WaitGroup

	mu       sync.Mutex
	err      error
	report   func(Progress)
	progress Progress
	reported Progress
	noClone  bool // the file system does not share blocks
}

func newPool(ctx context.Context, c *copier, report func(Progress)) *pool {
	p := &pool{ctx: ctx, c: c, jobs: make(chan *job, queue), report: report}
	for range writers {
		p.workers.Go(p.work)
	}
	return p
}

// add queues a file.
func (p *pool) add(j *job) error {
	p.pending.Add(1)
	p.jobs <- j
	return p.failed()
}

// wait returns when everything queued is written.
func (p *pool) wait() error {
	p.pending.Wait()
	return p.failed()
}

// close ends the writers.
func (p *pool) close() error {
	close(p.jobs)
	p.workers.Wait()
	if p.report != nil && p.progress != p.reported {
		p.report(p.progress)
	}
	return nil
}

// failed returns the first error.
func (p *pool) failed() error {
	if p.ctx.Err() != nil {
		return context.Cause(p.ctx)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

func (p *pool) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
	}
}

func (p *pool) work() {
	w := &writer{pool: p, buf: make([]byte, bufferSize), hash: sha256.New()}
	for j := range p.jobs {
		w.run(j)
		p.pending.Done()
	}
}

// done counts a file, and reports every now and then.
func (p *pool) done(size int64) {
	if p.report == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.progress.Files++
	p.progress.Bytes += size
	if p.progress.Files-p.reported.Files >= 256 || p.progress.Bytes-p.reported.Bytes >= 8<<20 {
		p.reported = p.progress
		p.report(p.progress)
	}
}

// writer is one of the pool.
type writer struct {
	*pool
	buf  []byte
	hash hash.Hash
}

// run writes one file, or only drops its references after an error.
func (w *writer) run(j *job) {
	err := w.failed()
	if err == nil {
		err = w.write(j)
	} else if j.fd >= 0 {
		err = errors.Join(err, unix.Close(j.fd))
	}
	if err = errors.Join(err, j.l.release()); err != nil {
		w.fail(err)
		return
	}
	w.done(j.n.Size)
}

func (w *writer) write(j *job) (err error) {
	fd := j.fd
	if fd < 0 {
		if fd, err = j.l.dst.Open(j.name, createFlags, 0o600); err != nil {
			return err
		}
	}
	if err = w.fill(j, fd); err != nil {
		err = fmt.Errorf("copy %q: %w", path.Join(j.l.srcPath, j.n.Name), err)
	}
	if e := unix.Close(fd); e != nil { // a network file system tells a full disk here
		err = errors.Join(err, fail("close", path.Join(j.l.path, j.name), e))
	}
	return err
}

// fill copies contents and attributes into the open file dst. Of an empty file
// whose digest is known, nothing is read.
func (w *writer) fill(j *job, dst int) error {
	src := -1
	if j.n.Sum == nil || *j.n.Sum != emptySum {
		fd, err := j.l.src.Open(&j.n)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		src = fd
		if err := w.contents(dst, src, &j.n); err != nil {
			return err
		}
	}
	xattrs, err := j.l.src.Xattrs(&j.n, src)
	if err != nil {
		return err
	}
	a := j.l.c.attrs(&j.n, xattrs)
	return j.l.c.set.file(dst, &a)
}

// contents copies a file's bytes, and verifies them where the digest is known.
func (w *writer) contents(dst, src int, n *Node) error {
	if n.Sum == nil {
		if n.Size >= cloneSize && w.clone(dst, src) {
			return nil
		}
		return w.stream(dst, src, n.Size, nil)
	}
	w.hash.Reset()
	if err := w.stream(dst, src, n.Size, w.hash); err != nil {
		return err
	}
	var sum [sha256.Size]byte
	if w.hash.Sum(sum[:0]); sum != *n.Sum {
		return ErrChanged
	}
	return nil
}

// clone shares the blocks of src, where the file system can.
func (w *writer) clone(dst, src int) bool {
	w.mu.Lock()
	no := w.noClone
	w.mu.Unlock()
	if no {
		return false
	}
	if unix.IoctlFileClone(dst, src) == nil {
		return true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.noClone = true
	return false
}

// stream copies size bytes, or up to the end of src.
func (w *writer) stream(dst, src int, size int64, h hash.Hash) error {
	for done := int64(0); done < size; {
		n, err := readSome(src, w.buf[:min(int64(len(w.buf)), size-done)])
		if err != nil || n == 0 {
			return err
		}
		if h != nil {
			h.Write(w.buf[:n])
		}
		if err := writeAll(dst, w.buf[:n]); err != nil {
			return err
		}
		if done += int64(n); w.ctx.Err() != nil {
			return context.Cause(w.ctx)
		}
	}
	return nil
}

func readSome(fd int, buf []byte) (int, error) {
	for {
		n, err := unix.Read(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("read: %w", err)
		}
		return n, nil
	}
}
