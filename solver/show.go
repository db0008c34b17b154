package solver

import (
	"context"
	"sync"
	"time"

	"github.com/moby/buildkit/client"
	digest "github.com/opencontainers/go-digest"
)

const (
	// keyPatience is how long the key of a source may take before the source
	// is displayed as being at work.
	keyPatience = 200 * time.Millisecond
	// waiting is displayed below a vertex that another build makes.
	waiting = "waiting for another build of this step"
)

// shown returns how a vertex is displayed, to be completed by the caller.
func (n *node) shown() *client.Vertex {
	inputs := make([]digest.Digest, len(n.v.Inputs))
	for i, in := range n.v.Inputs {
		inputs[i] = in.Vertex.Digest
	}
	return &client.Vertex{Digest: n.v.Digest, Inputs: inputs, Name: n.v.Name, ProgressGroup: n.v.ProgressGroup}
}

// announce displays the vertices that the build is made of.
func (p *plan) announce() {
	if p.display == nil {
		return
	}
	var all []*client.Vertex
	for i := range p.nodes {
		if n := &p.nodes[i]; n.v != nil {
			all = append(all, n.shown())
		}
	}
	p.display.vertices(all...)
}

// showStart displays that work on a vertex began.
func (p *plan) showStart(n *node) {
	if p.display == nil {
		return
	}
	if n.shownAt == nil {
		now := time.Now()
		n.shownAt = &now
	}
	v := n.shown()
	v.Started = n.shownAt
	p.display.vertices(v)
}

// showEnd displays how a vertex ended. One that was cancelled before any work
// on it began is not displayed at all.
func (p *plan) showEnd(n *node) {
	if p.display == nil || n.state == cancelled && n.shownAt == nil {
		return
	}
	now := time.Now()
	v := n.shown()
	v.Started, v.Completed, v.Cached = n.shownAt, &now, n.verdict == Cached
	if v.Started == nil {
		v.Started = &now
	}
	switch n.state {
	case failed:
		v.Error = n.err.Error()
	case cancelled:
		v.Error = context.Canceled.Error()
	}
	p.display.vertices(v)
}

// showCovered displays vertices that are not needed, as cached.
func (p *plan) showCovered(nodes []*node) {
	if p.display == nil {
		return
	}
	now := time.Now()
	vs := make([]*client.Vertex, len(nodes))
	for i, n := range nodes {
		vs[i] = n.shown()
		vs[i].Started, vs[i].Completed, vs[i].Cached = &now, &now, true
	}
	p.display.vertices(vs...)
}

// showWaiting displays that a vertex waits for another build, or no longer.
func (p *plan) showWaiting(n *node, over bool) {
	if p.display == nil {
		return
	}
	p.showStart(n)
	now := time.Now()
	st := &client.VertexStatus{ID: waiting, Vertex: n.v.Digest, Started: n.shownAt, Timestamp: now}
	if over {
		st.Completed = &now
	}
	p.display.status(st)
}

// showSlow displays a source as being at work once its key takes long. The
// function it returns ends that.
func (p *plan) showSlow(n *node) (stop func()) {
	if p.display == nil {
		return func() {}
	}
	var mu sync.Mutex
	var over, shown bool
	v := n.shown()
	begun := time.Now()
	v.Started = &begun
	timer := time.AfterFunc(keyPatience, func() {
		mu.Lock()
		defer mu.Unlock()
		if !over {
			p.display.vertices(v)
			shown = true
		}
	})
	return func() {
		timer.Stop()
		mu.Lock()
		defer mu.Unlock()
		over = true
		if shown {
			end, now := *v, time.Now()
			end.Completed = &now
			p.display.vertices(&end)
		}
	}
}
