package layer

import (
	"io"
	"sync"
)

// readAhead reads from r in a goroutine of its own, a few pieces ahead of who
// reads from it, so that decompression and unpacking run at the same time.
type readAhead struct {
	pieces chan piece
	free   chan []byte
	stop   chan struct{}
	done   chan struct{} // the goroutine has ended
	once   sync.Once
	now    piece
	rest   []byte
}

type piece struct {
	data []byte
	err  error
}

const (
	aheadPieces = 4
	aheadSize   = 256 << 10
)

func newReadAhead(r io.Reader) *readAhead {
	a := &readAhead{
		pieces: make(chan piece),
		free:   make(chan []byte, aheadPieces),
		stop:   make(chan struct{}),
		done:   make(chan struct{}),
	}
	for range aheadPieces {
		a.free <- nil
	}
	go a.run(r)
	return a
}

func (a *readAhead) run(r io.Reader) {
	defer close(a.done)
	for {
		var buf []byte
		select {
		case buf = <-a.free:
		case <-a.stop:
			return
		}
		if buf == nil {
			buf = make([]byte, aheadSize)
		}
		n, err := fill(r, buf)
		select {
		case a.pieces <- piece{buf[:n], err}:
		case <-a.stop:
			return
		}
		if err != nil {
			return
		}
	}
}

// fill reads until the buffer is full or an error ends the stream.
func fill(r io.Reader, buf []byte) (int, error) {
	n := 0
	for n < len(buf) {
		m, err := r.Read(buf[n:])
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func (a *readAhead) Read(p []byte) (int, error) {
	for len(a.rest) == 0 {
		if a.now.err != nil {
			return 0, a.now.err
		}
		if a.now.data != nil {
			a.free <- a.now.data[:cap(a.now.data)]
		}
		a.now = <-a.pieces
		a.rest = a.now.data
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// Close ends the goroutine, and waits until it no longer reads.
func (a *readAhead) Close() error {
	a.once.Do(func() { close(a.stop) })
	<-a.done
	return nil
}
