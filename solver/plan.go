package solver

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	digest "github.com/opencontainers/go-digest"
)

// state is where a vertex stands in a build. The package comment draws how one
// leads to the next.
type state uint8

const (
	unkeyed   state = iota // its definition key is not known yet
	keyed                  // it can be looked up; nobody has needed its result so far
	sought                 // its result is needed, and is being looked up
	wanted                 // it was not found; it waits for the results of its inputs
	ready                  // it has its inputs, and waits for a job slot
	running                // it has a job slot
	blocked                // it waits, without a job slot, for a build that makes the same
	done                   // its results are known
	failed                 // it has none, by its own fault
	cancelled              // it has none, because something it needs has none, or the build was given up
)

// node is a vertex in the course of one build. Only the plan's loop touches
// it; a job reads the fields that no longer change once the vertex is ready.
type node struct {
	v       *Vertex
	op      Op
	inputs  []*node   // by input index
	users   []*node   // what has this vertex as an input, once per input
	targets []*target // that ask for this vertex
	begun   []*target // that want to know whether this vertex, or its twin, is found
	mark    int       // of the last walk that came by
	place   int       // in the cone of the target that is described at the moment

	key        Key
	sum        [sha256.Size]byte
	definition digest.Digest // sum, as the key of a record
	forced     bool          // the user wants it to run
	unsure     bool          // it or something below it is forced: its definition proves nothing
	twin       *node         // stands for this vertex: another one with the same key

	state    state
	missing  int     // inputs that are not keyed, and later inputs without results
	waiters  []*node // what waits for the results, once per input
	priority time.Duration
	unlock   func()     // held while ready after blocked
	covered  bool       // what uses it was found
	shownAt  *time.Time // when it was displayed as being at work

	ending
	unkept bool // it ran, and the worker did not want its results recorded
	err    error
	why    Reason // told at the end of the build
}

// ending is how a vertex got its results, or that it did not.
type ending struct {
	results  []Result
	verdict  Verdict
	reason   ReasonKind // of a hit
	miss     ReasonKind // what was wrong with the record; empty when there was none
	content  digest.Digest
	started  time.Time
	duration time.Duration
}

// found tells whether there are results.
func (e ending) found() bool { return e.verdict != "" }

// actual returns the vertex that is solved in place of this one.
func (n *node) actual() *node {
	if n.twin != nil {
		return n.twin
	}
	return n
}

// identity is what makes two vertices of one build the same work.
type identity struct {
	sum            [sha256.Size]byte
	forced, unsure bool
}

// plan is one build. All of its state belongs to the goroutine that runs loop.
// Work is done in other goroutines, which hand back functions for the loop to
// call.
type plan struct {
	*Solver
	ctx     context.Context
	keep    context.Context // ctx without its end, for what is worth finishing
	req     Request
	display *display

	nodes     []node // by vertex index; those that no target needs are left zero
	targets   []*target
	byKey     map[identity]*node
	sought    []*node         // to be looked up
	looking   int             // how many are being looked up
	queue     queue           // what is ready
	slots     int             // free job slots
	saving    int             // jobs that have no slot any more, but are not recorded yet
	saveable  int             // how many of those there may be
	backlog   []func() func() // what is to be recorded by content
	recorders int             // how much more of it may be done at the same time
	inflight  int             // goroutines at work
	events    chan func()     // for the loop to call
	givenUp   bool
	errs      []error
}

// loop starts what can be started and takes in what has ended, until nothing
// is left that could change anything.
func (p *plan) loop() {
	ended := p.ctx.Done()
	for {
		if p.ctx.Err() != nil && !p.givenUp {
			p.giveUp()
		}
		p.dispatch()
		if p.inflight == 0 {
			return
		}
		select {
		case event := <-p.events:
			event()
		case <-ended:
			ended = nil
		}
	}
}

// spawn does work beside the loop. What it returns runs on the loop.
func (p *plan) spawn(work func() func()) {
	p.inflight++
	go func() {
		event := work()
		p.post(func() {
			p.inflight--
			event()
		})
	}()
}

// post hands the loop a function from a goroutine that spawn started.
func (p *plan) post(event func()) { p.events <- event }

// dispatch starts everything that its bounds allow. No job starts before all
// is looked up that is wanted by now: else one that is found to be missing a
// moment later, but is on a longer path, would come second.
func (p *plan) dispatch() {
	for p.looking < readers && len(p.sought) > 0 {
		n := p.sought[0]
		p.sought = p.sought[1:]
		p.look(n)
	}
	for p.recorders > 0 && len(p.backlog) > 0 {
		work := p.backlog[0]
		p.backlog = p.backlog[1:]
		p.recorders--
		p.spawn(work)
	}
	for p.looking == 0 && p.slots > 0 && p.saving < p.saveable && len(p.queue) > 0 {
		p.run(p.queue.pop())
	}
}

// run gives a vertex a job slot.
func (p *plan) run(n *node) {
	in, err := n.inputResults()
	if err != nil {
		p.fail(n, err)
		return
	}
	p.slots--
	n.state = running
	p.spawn(func() func() { return p.job(n, in) })
}

// inputResults collects the results that a vertex is to be made of.
func (n *node) inputResults() (in []Result, err error) {
	in = make([]Result, len(n.inputs))
	for i, input := range n.inputs {
		if in[i], err = input.output(n.v.Inputs[i].Output); err != nil {
			return nil, err
		}
	}
	return in, nil
}

// output returns one result of a vertex that is done.
func (n *node) output(i int) (Result, error) {
	if results := n.actual().results; i < len(results) {
		return results[i], nil
	}
	return nil, fmt.Errorf("%q has no output %d", n.v.Name, i)
}

// setKey takes in the key of a source, and with it keys everything above it
// whose other inputs are keyed already.
func (p *plan) setKey(n *node, key Key, err error) {
	stack := []*node{n}
	for len(stack) > 0 {
		n, stack = stack[len(stack)-1], stack[:len(stack)-1]
		if n.state != unkeyed { // given up
			continue
		}
		if len(n.inputs) > 0 {
			key, err = n.op.Key(p.ctx)
		}
		if err == nil && key.Digest == "" {
			err = errors.New("the op has no key")
		}
		if err != nil {
			p.fail(n, err)
			continue
		}
		p.identify(n, key)
		for _, t := range n.targets {
			p.begin(t)
		}
		for _, user := range n.users {
			if user.missing--; user.missing == 0 {
				stack = append(stack, user)
			}
		}
	}
}

// identify gives a vertex its definition key.
func (p *plan) identify(n *node, key Key) {
	n.key = key
	n.sum = definitionSum(n)
	n.definition = digestOf(n.sum)
	n.state = keyed
	n.unsure = n.forced
	for _, in := range n.inputs {
		n.unsure = n.unsure || in.unsure
	}
	id := identity{n.sum, n.forced, n.unsure}
	if first, ok := p.byKey[id]; ok {
		n.twin = first
		p.showCovered([]*node{n})
	} else {
		p.byKey[id] = n
	}
}

// begin starts on a target, once its vertex is keyed and its last build read.
func (p *plan) begin(t *target) {
	if !t.read || t.node.definition == "" {
		return
	}
	n := t.node.actual()
	n.begun = append(n.begun, t)
	switch n.state {
	case keyed:
		p.want(n)
	case wanted, ready, running, blocked:
		p.prepare(t)
	}
}

// prepare gets a target ready of which something has to be built.
func (p *plan) prepare(t *target) {
	p.weigh(t)
	p.compare(t)
}

// want sees to it that a vertex gets its results.
func (p *plan) want(n *node) {
	if n.state == keyed && !p.givenUp {
		n.state = sought
		p.sought = append(p.sought, n)
	}
}

// look searches a vertex by its definition key.
func (p *plan) look(n *node) {
	if n.unsure {
		p.miss(n)
		return
	}
	p.looking++
	p.spawn(func() func() {
		hit, err := p.find(p.ctx, n, BucketResults, n.definition)
		return func() {
			p.looking--
			p.looked(n, hit, err)
		}
	})
}

// looked takes in what came of the search.
func (p *plan) looked(n *node, hit ending, err error) {
	switch {
	case err != nil:
		p.fail(n, err)
	case hit.found():
		hit.reason = HitDefinition
		p.finish(n, hit)
	case !p.givenUp:
		n.miss = hit.miss
		p.miss(n)
	}
}

// miss has the inputs of a vertex solved that was not found.
func (p *plan) miss(n *node) {
	for _, t := range n.begun {
		p.prepare(t)
	}
	if n.lost() {
		p.cancel(n)
		p.cancelUsers(n)
		return
	}
	n.state = wanted
	for _, in := range n.inputs {
		if in = in.actual(); in.state != done {
			in.waiters = append(in.waiters, n)
			n.missing++
			p.want(in)
		}
	}
	if n.missing == 0 {
		p.enqueue(n)
	}
}

// lost tells whether an input will never be there.
func (n *node) lost() bool {
	for _, in := range n.inputs {
		if s := in.actual().state; s == failed || s == cancelled {
			return true
		}
	}
	return false
}

// enqueue makes a vertex wait for a job slot. One that comes late, because it
// was blocked while the build was given up, is dropped.
func (p *plan) enqueue(n *node) {
	if p.givenUp {
		p.drop(n)
		return
	}
	n.state = ready
	p.queue.push(n)
}

// finish gives a vertex its results, and its waiters their input.
func (p *plan) finish(n *node, end ending) {
	end.miss = cmp.Or(n.miss, end.miss)
	n.ending = end
	n.state = done
	p.showEnd(n)
	if n.reason == HitDefinition || n.reason == HitShared {
		p.cover(n)
	}
	for _, w := range n.waiters {
		if w.missing--; w.missing == 0 && w.state == wanted {
			p.enqueue(w)
		}
	}
	n.waiters = nil
}

// cover notes that what a found vertex is made of is, so far, not needed.
func (p *plan) cover(n *node) {
	var found []*node
	stack := append([]*node(nil), n.inputs...)
	for len(stack) > 0 {
		n, stack = stack[len(stack)-1].actual(), stack[:len(stack)-1]
		if n.state == keyed && !n.covered {
			n.covered = true
			found = append(found, n)
			stack = append(stack, n.inputs...)
		}
	}
	if len(found) == 0 {
		return
	}
	slices.SortFunc(found, func(a, b *node) int { return cmp.Compare(a.v.index, b.v.index) })
	p.showCovered(found)
	p.spawn(func() func() {
		err := p.touch(found)
		return func() { p.errs = append(p.errs, err...) }
	})
}

// touch marks records as used that nothing but the next change will read.
func (p *plan) touch(nodes []*node) (errs []error) {
	for _, n := range nodes {
		if err := p.records.Touch(p.ctx, BucketResults, string(n.definition)); err != nil && p.ctx.Err() == nil {
			errs = append(errs, &VertexError{Vertex: n.v, Err: fmt.Errorf("mark record as used: %w", err)})
		}
	}
	return errs
}

// fail ends a vertex with an error. An error that comes when the build is
// cancelled is taken as a part of that.
func (p *plan) fail(n *node, err error) {
	if p.ctx.Err() != nil {
		p.cancel(n)
		return
	}
	n.state = failed
	n.verdict = Failed
	n.err = err
	p.errs = append(p.errs, &VertexError{Vertex: n.v, Err: err})
	p.showEnd(n)
	p.cancelUsers(n)
}

// cancelUsers cancels everything that cannot be built without a vertex. What
// it does not need goes on.
func (p *plan) cancelUsers(n *node) {
	stack := []*node{n}
	for len(stack) > 0 {
		n, stack = stack[len(stack)-1], stack[:len(stack)-1]
		users := n.waiters
		if n.definition == "" { // nor will any of these ever have a key
			users = n.users
		}
		for _, user := range users {
			if user.state == unkeyed || user.state == wanted {
				p.cancel(user)
				stack = append(stack, user)
			}
		}
	}
}

func (p *plan) cancel(n *node) {
	n.state = cancelled
	n.verdict = Cancelled
	p.showEnd(n)
}

// giveUp cancels what does not run. What runs sees the end of the context.
func (p *plan) giveUp() {
	p.givenUp = true
	for i := range p.nodes {
		switch n := &p.nodes[i]; n.state {
		case unkeyed, sought, wanted:
			p.cancel(n)
		case ready:
			p.drop(n)
		}
	}
	p.sought, p.queue, p.backlog = nil, nil, nil
}

// drop cancels a vertex that may hold a lock.
func (p *plan) drop(n *node) {
	if n.unlock != nil {
		n.unlock()
	}
	p.cancel(n)
}

// block notes that another build makes a vertex.
func (p *plan) block(n *node) {
	n.state = blocked
	p.showWaiting(n, false)
}

// unblock notes that the other build is over.
func (p *plan) unblock(n *node) { p.showWaiting(n, true) }
