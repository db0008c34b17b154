package solver

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/moby/buildkit/client"
	digest "github.com/opencontainers/go-digest"
)

const (
	// logsAhead is how much output of steps is kept for a slow reader, before
	// the steps have to wait for it.
	logsAhead = 4 << 20
	// statusesAhead is how many reports of parts of steps are kept for it.
	statusesAhead = 4096
	// grace is how long a reader may take for the last messages of a build
	// that was cancelled.
	grace = 300 * time.Millisecond
)

// display passes progress on to a reader. Changes are collected, and sent as
// one message whenever the reader is ready for it: nothing but the output of
// steps ever waits for the reader. A nil display takes everything and does
// nothing.
type display struct {
	out  chan<- *client.SolveStatus
	wake chan struct{}   // holds a token while there is something to send
	dead <-chan struct{} // closed when the reader had its time
	sent chan struct{}   // closed when the last message is out
	free func()

	mu      sync.Mutex
	room    sync.Cond // there is room for output, or no need for it any more
	pending *client.SolveStatus
	logs    int  // bytes of output in pending
	closed  bool // the build has ended: everything is dropped
}

func newDisplay(ctx context.Context, out chan<- *client.SolveStatus) *display {
	if out == nil {
		return nil
	}
	dead, kill := context.WithCancel(context.WithoutCancel(ctx))
	d := &display{
		out:  out,
		wake: make(chan struct{}, 1),
		dead: dead.Done(),
		sent: make(chan struct{}),
	}
	d.room.L = &d.mu
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(grace, kill) })
	d.free = func() { stop(); kill() }
	go d.deliver()
	return d
}

// close sends what is left, and ends. An op that goes on talking is ignored.
func (d *display) close() {
	if d == nil {
		return
	}
	d.mu.Lock()
	d.closed = true
	d.room.Broadcast()
	d.mu.Unlock()
	close(d.wake)
	<-d.sent
	d.free()
}

func (d *display) deliver() {
	defer close(d.sent)
	for range d.wake {
		d.send()
	}
	d.send()
}

func (d *display) send() {
	status := d.take()
	if status == nil {
		return
	}
	select {
	case d.out <- status:
	case <-d.dead:
	}
}

func (d *display) take() *client.SolveStatus {
	d.mu.Lock()
	defer d.mu.Unlock()
	status := d.pending
	d.pending, d.logs = nil, 0
	d.room.Broadcast()
	return status
}

// change adds to the next message.
func (d *display) change(add func(*client.SolveStatus)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed {
		d.add(add)
	}
}

// add adds to the next message. The lock is held.
func (d *display) add(add func(*client.SolveStatus)) {
	if d.pending == nil {
		d.pending = &client.SolveStatus{}
		select {
		case d.wake <- struct{}{}:
		default:
		}
	}
	add(d.pending)
}

// vertices reports the present state of vertices.
func (d *display) vertices(vs ...*client.Vertex) {
	if d == nil || len(vs) == 0 {
		return
	}
	d.change(func(s *client.SolveStatus) { s.Vertexes = append(s.Vertexes, vs...) })
}

// status reports how far a part of a step is. A reader that has very many of
// them before it misses those that a later one makes obsolete.
func (d *display) status(st *client.VertexStatus) {
	d.change(func(s *client.SolveStatus) {
		if st.Completed != nil || len(s.Statuses) < statusesAhead {
			s.Statuses = append(s.Statuses, st)
		}
	})
}

// log reports output of a step, and waits while the reader has too much of it
// before it.
func (d *display) log(l *client.VertexLog) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.logs > logsAhead && !d.closed {
		d.room.Wait()
	}
	if d.closed {
		return
	}
	d.add(func(s *client.SolveStatus) { s.Logs = append(s.Logs, l) })
	d.logs += len(l.Data)
}

// stepProgress is the Progress of one running vertex.
type stepProgress struct {
	display *display
	vertex  digest.Digest

	mu      sync.Mutex
	started map[string]time.Time // of each status
}

// Stdout returns a writer that shows the output of the step.
func (p *stepProgress) Stdout() io.Writer { return p.stream(1) }

// Stderr returns a writer that shows the error output of the step.
func (p *stepProgress) Stderr() io.Writer { return p.stream(2) }

func (p *stepProgress) stream(number int) io.Writer {
	if p.display == nil {
		return io.Discard
	}
	return logWriter{display: p.display, vertex: p.vertex, stream: number}
}

// Status shows how far a part of the step is.
func (p *stepProgress) Status(id string, current, total int64, done bool) {
	if p.display == nil {
		return
	}
	now := time.Now()
	st := &client.VertexStatus{ID: id, Vertex: p.vertex, Current: current, Total: total, Timestamp: now}
	started := p.begun(id, now)
	st.Started = &started
	if done {
		st.Completed = &now
	}
	p.display.status(st)
}

// begun returns when a status was reported first.
func (p *stepProgress) begun(id string, now time.Time) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	started, ok := p.started[id]
	if !ok {
		if p.started == nil {
			p.started = map[string]time.Time{}
		}
		started = now
		p.started[id] = now
	}
	return started
}

type logWriter struct {
	display *display
	vertex  digest.Digest
	stream  int
}

// Write shows a piece of output.
func (w logWriter) Write(data []byte) (int, error) {
	w.display.log(&client.VertexLog{
		Vertex:    w.vertex,
		Stream:    w.stream,
		Data:      append([]byte(nil), data...),
		Timestamp: time.Now(),
	})
	return len(data), nil
}

// Watch runs fn and displays it as a vertex of its own, below a name such as
// "export image": the work around a build is shown in the way of its steps.
func Watch(ctx context.Context, status chan<- *client.SolveStatus, name string, fn func(context.Context, Progress) error) error {
	d := newDisplay(ctx, status)
	defer d.close()
	v := client.Vertex{Digest: digest.FromString("strata.watch\x00" + name), Name: name}
	started := time.Now()
	v.Started = &started
	begun := v
	d.vertices(&begun)
	err := fn(ctx, &stepProgress{display: d, vertex: v.Digest})
	completed := time.Now()
	v.Completed = &completed
	if err != nil {
		v.Error = err.Error()
	}
	d.vertices(&v)
	return err
}
