package solver

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// readers bounds the goroutines that make the keys of sources and read
// records, each. They wait for registries and for disks rather than for
// processors.
const readers = 16

// unknownCost is what a vertex without an estimate is taken to cost.
const unknownCost = time.Second

// target is a Target in the course of one build.
type target struct {
	Target
	node *node   // nil for scratch
	cone []*node // all that the target is made of, inputs first

	read       bool        // last is known
	lastData   []byte      // the record of the last build, nil if there is none
	last       *build      // the last build, empty if there is none
	now        *build      // this build, once it is known that something is missing
	comparison *comparison // of the two
}

// addTarget adds a target, and all that it is made of, to the plan.
func (p *plan) addTarget(given Target) {
	t := &target{Target: given, read: given.Name == ""}
	p.targets = append(p.targets, t)
	if given.Edge.Scratch() {
		return
	}
	t.node = &p.nodes[given.Edge.Vertex.index]
	t.node.targets = append(t.node.targets, t)
	t.cone = p.collect(given.Edge.Vertex)
}

// collect returns a vertex and everything below it, inputs first.
func (p *plan) collect(root *Vertex) (cone []*node) {
	mark := len(p.targets) // tells this walk from those of other targets
	stack := []*Vertex{root}
	for len(stack) > 0 {
		v := stack[len(stack)-1]
		n := &p.nodes[v.index]
		switch n.mark {
		case mark: // the inputs are collected
			n.mark = -mark
			cone = append(cone, p.addNode(v))
			fallthrough
		case -mark:
			stack = stack[:len(stack)-1]
			continue
		}
		n.mark = mark
		for i := len(v.Inputs) - 1; i >= 0; i-- {
			if in := v.Inputs[i].Vertex; p.nodes[in.index].mark != -mark {
				stack = append(stack, in)
			}
		}
	}
	return cone
}

// addNode returns the node of a vertex whose inputs have theirs.
func (p *plan) addNode(v *Vertex) *node {
	n := &p.nodes[v.index]
	if n.v != nil {
		return n
	}
	n.v = v
	n.inputs = make([]*node, len(v.Inputs))
	n.missing = len(v.Inputs)
	for i, in := range v.Inputs {
		n.inputs[i] = &p.nodes[in.Vertex.index]
		n.inputs[i].users = append(n.inputs[i].users, n)
	}
	return n
}

// open starts on what the rest waits for: the records of the last builds, and
// the keys of everything that has no inputs.
func (p *plan) open() {
	var tasks []func()
	for _, t := range p.targets {
		if t.node != nil && !t.read {
			tasks = append(tasks, func() { p.readLast(t) })
		}
	}
	for i := range p.nodes {
		if n := &p.nodes[i]; n.v != nil && len(n.inputs) == 0 {
			tasks = append(tasks, func() { p.keySource(n) })
		}
	}
	var next atomic.Int64
	for range min(readers, len(tasks)) {
		p.spawn(func() func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(tasks) {
					return func() {}
				}
				tasks[i]()
			}
		})
	}
}

func (p *plan) keySource(n *node) {
	stop := p.showSlow(n)
	key, err := n.op.Key(p.ctx)
	stop()
	p.post(func() { p.setKey(n, key, err) })
}

// readLast reads the record of the last build of a target.
func (p *plan) readLast(t *target) {
	data, _, err := p.records.Get(p.ctx, BucketBuilds, t.Name)
	p.post(func() {
		t.read = true
		t.lastData = data
		switch {
		case errors.Is(err, ErrDamaged):
			t.last = &build{damaged: true}
		case err != nil && p.ctx.Err() == nil:
			p.errs = append(p.errs, fmt.Errorf("read last build of %q: %w", t.Name, err))
		}
		p.begin(t)
	})
}

// weigh gives everything that a target is made of its priority: the estimated
// time from its start to the target's end.
func (p *plan) weigh(t *target) {
	cost := p.costs(t)
	for i := len(t.cone) - 1; i >= 0; i-- {
		n := t.cone[i]
		n.priority = max(n.priority, cost(n.v))
		for _, in := range n.inputs {
			longest := n.priority + cost(in.v)
			in.priority = max(in.priority, longest)
			in.actual().priority = max(in.actual().priority, longest)
		}
	}
	p.queue.reorder()
}

// costs returns the estimate to go by: the caller's, or how long the step of
// that name took when it ran last.
func (p *plan) costs(t *target) func(*Vertex) time.Duration {
	if p.req.Cost != nil {
		return p.req.Cost
	}
	durations := map[string]time.Duration{}
	for _, step := range t.previous().Steps {
		durations[step.Name] = max(durations[step.Name], step.Duration)
	}
	return func(v *Vertex) time.Duration {
		if d := durations[v.Name]; d > 0 {
			return d
		}
		return unknownCost
	}
}
