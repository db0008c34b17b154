package registry

import (
	"context"
	"errors"
	"io"
	"sync"
)

// ranged reads a big blob over several connections and delivers it in order.
//
//	dispatcher: span 0, span 1, … ──at most Connections ahead──▶ fetchers
//	fetcher:    its span into its buffer, a stream of its own with resume
//	reader:     buffers in order, while they fill
//
// The bound on spans in flight bounds the memory: Connections × RangeSize.
type ranged struct {
	ctx    context.Context
	queue  chan *part
	part   *part
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// part is one span with the bytes of it that have arrived.
type part struct {
	span span
	data []byte
	read int

	mu     sync.Mutex
	filled int
	err    error
	change chan struct{} // closed and replaced when filled or err change
}

func newRanged(ctx context.Context, src *blobSource, first *body) *ranged {
	ctx, cancel := context.WithCancel(ctx)
	// One part is with the reader and one with the dispatcher, besides those
	// in the queue.
	r := &ranged{ctx: ctx, queue: make(chan *part, src.client.opts.Connections-2), cancel: cancel}
	r.done.Go(func() { r.dispatch(ctx, src, first) })
	return r
}

// dispatch starts a fetcher for each span as soon as the queue has room.
func (r *ranged) dispatch(ctx context.Context, src *blobSource, first *body) {
	defer close(r.queue)
	total, size := src.desc.Size, src.client.opts.RangeSize
	next := first.span
	for next.size() > 0 {
		p := &part{span: next, data: make([]byte, next.size()), change: make(chan struct{})}
		own, begun := src.fork(), first
		r.done.Go(func() { p.fetch(ctx, own, begun) })
		first, next = nil, span{next.end, min(next.end+size, total)}
		select {
		case r.queue <- p:
		case <-ctx.Done():
			return
		}
	}
}

// fetch fills the part.
func (p *part) fetch(ctx context.Context, src *blobSource, first *body) {
	s := &stream{ctx: ctx, src: src, span: p.span, body: first}
	defer s.Close()
	for p.filled < len(p.data) {
		n, err := s.Read(p.data[p.filled:])
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		p.tell(n, err)
		if err != nil {
			return
		}
	}
}

func (p *part) tell(n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.filled += n
	p.err = err
	close(p.change)
	p.change = make(chan struct{})
}

// state is how much has arrived, and a channel that tells of more.
func (p *part) state() (int, error, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.filled, p.err, p.change
}

// Read implements io.Reader.
func (r *ranged) Read(b []byte) (int, error) {
	for r.part == nil || r.part.read == len(r.part.data) {
		next, ok := <-r.queue
		if !ok {
			return 0, r.ended()
		}
		r.part = next
	}
	p := r.part
	for {
		filled, err, change := p.state()
		if filled > p.read {
			n := copy(b, p.data[p.read:filled])
			p.read += n
			return n, nil
		}
		if err != nil {
			return 0, err
		}
		<-change
	}
}

// ended says why there is no further part: the context, since the
// Download does not read past the end.
func (r *ranged) ended() error {
	if err := context.Cause(r.ctx); err != nil {
		return err
	}
	return io.ErrUnexpectedEOF
}

// Close ends the fetchers and waits for them.
func (r *ranged) Close() error {
	r.cancel()
	for range r.queue {
	}
	r.done.Wait()
	return nil
}
