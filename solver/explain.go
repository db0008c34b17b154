package solver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrNotBuilt is returned by Why for a target without a build record.
var ErrNotBuilt = errors.New("target has not been built here")

const (
	maxDetails = 5   // of a reason
	maxValue   = 120 // bytes of a value in a reason
)

// comparison is what differs between two builds of a target.
type comparison struct {
	changes []Reason // of each step now; without a kind where nothing differs
	removed []string // the steps that only the last build had
}

// compare finds out, beside the build, what differs from the last one.
func (p *plan) compare(t *target) {
	t.now = p.current(t)
	last := t.previous()
	p.spawn(func() func() {
		c := p.differences(last, t)
		return func() { t.comparison = c }
	})
}

// compareLate does the same for a target that was found, or began, when steps
// of it had run for others already.
func (p *plan) compareLate(t *target) {
	built := func(n *node) bool { return n.state == failed || n.state == done && n.verdict == Ran }
	if t.comparison == nil && slices.ContainsFunc(t.cone, built) {
		t.now = p.current(t)
		t.comparison = p.differences(t.previous(), t)
	}
}

func (p *plan) differences(last *build, t *target) *comparison {
	c := &comparison{changes: make([]Reason, len(t.cone))}
	if !last.known() {
		never := Reason{Kind: MissNever}
		if last.damaged {
			never = Reason{Kind: MissNever, Details: []string{"the record of the last build is damaged"}}
		}
		for i := range c.changes {
			c.changes[i] = never
		}
		return c
	}
	a := align(last.Steps, t.now.Steps)
	c.removed = a.removed()
	for i := range c.changes {
		c.changes[i] = difference(a, last, t.now, i)
		if c.changes[i].Kind == MissFact {
			c.changes[i] = p.detail(t.cone[i].op, c.changes[i])
		}
	}
	return c
}

// difference returns the first thing that differs between a step and the one
// it was.
func difference(a *alignment, last, now *build, i int) Reason {
	if a.match[i] == none {
		return Reason{Kind: MissAdded}
	}
	before, after := &last.Steps[a.match[i]], &now.Steps[i]
	switch {
	case before.Definition == after.Definition && before.Verdict != Ran && before.Verdict != Cached:
		return Reason{Kind: MissLost}
	case before.Definition == after.Definition:
		return Reason{}
	case before.Op != after.Op:
		return factDifference(last, now, before, after)
	}
	return inputDifference(a, before, after)
}

func factDifference(last, now *build, before, after *buildStep) Reason {
	old := map[string]string{}
	for _, f := range before.Facts {
		old[last.Facts[f].Name] = last.Facts[f].Value
	}
	for _, f := range after.Facts {
		fact := now.Facts[f]
		was, had := old[fact.Name]
		if !had || was != fact.Value {
			return Reason{Kind: MissFact, Subject: fact.Name, Before: was, After: fact.Value}
		}
		delete(old, fact.Name)
	}
	for _, f := range before.Facts {
		if name := last.Facts[f].Name; old[name] != "" {
			return Reason{Kind: MissFact, Subject: name, Before: old[name]}
		}
	}
	return Reason{Kind: MissFact, Subject: "definition"}
}

func inputDifference(a *alignment, before, after *buildStep) Reason {
	for k, in := range after.Inputs {
		name := a.cur[in].Name
		if k >= len(before.Inputs) {
			return Reason{Kind: MissInput, Subject: name}
		}
		was := before.Inputs[k]
		if a.prev[was].Definition == a.cur[in].Definition {
			continue
		}
		if a.match[in] == was {
			return Reason{Kind: MissInput, Subject: name}
		}
		return Reason{Kind: MissInput, Subject: name, Before: a.prev[was].Name}
	}
	// Only which output of an input is used, or how many inputs there are.
	return Reason{Kind: MissFact, Subject: "list of inputs"}
}

// detail asks the op what a changed fact means, and shortens its values.
func (p *plan) detail(op Op, r Reason) Reason {
	if e, ok := op.(Explainer); ok && r.Before != "" && r.After != "" {
		details, err := e.Explain(p.ctx, r.Subject, r.Before, r.After)
		if err != nil {
			details = []string{fmt.Sprintf("%s changed (no details: %v)", r.Subject, err)}
		}
		if more := len(details) - maxDetails; more > 0 {
			details = append(details[:maxDetails:maxDetails], fmt.Sprintf("%d more", more))
		}
		r.Details = details
	}
	r.Before, r.After = shorten(r.Before, r.After)
	return r
}

// shorten cuts two long values around the place where they begin to differ.
func shorten(a, b string) (string, string) {
	const lead = 20
	from := 0
	for from < min(len(a), len(b)) && a[from] == b[from] {
		from++
	}
	from = max(0, from-lead)
	return cut(a, from), cut(b, from)
}

func cut(s string, from int) string {
	if len(s) <= maxValue {
		return s
	}
	head, tail := "…", "…"
	if from == 0 {
		head = ""
	}
	to := from + maxValue
	if to >= len(s) {
		to, tail = len(s), ""
	}
	return head + strings.ToValidUTF8(s[min(from, len(s)):to], "") + tail
}

// Explanation tells of the last build of a target what was rebuilt, and why.
type Explanation struct {
	Target string
	// First is the index in Steps of the first cause: the first step that
	// itself differs from the build before. -1: nothing differed.
	First int
	Steps []ExplainedStep
	// Removed names the steps that only the build before had.
	Removed []string
}

// ExplainedStep is one step of an Explanation.
type ExplainedStep struct {
	Name    string
	Verdict Verdict
	Reason  Reason
}

// Why explains the last build of a target.
func Why(ctx context.Context, records Records, target string) (*Explanation, error) {
	data, ok, err := records.Get(ctx, BucketBuilds, target)
	if err != nil {
		return nil, fmt.Errorf("read last build of %q: %w", target, err)
	}
	if !ok {
		return nil, fmt.Errorf("%q: %w", target, ErrNotBuilt)
	}
	b := decodeBuild(data)
	if b.damaged {
		return nil, fmt.Errorf("read last build of %q: %w", target, ErrDamaged)
	}
	e := &Explanation{Target: target, First: none, Removed: b.Removed}
	for i, step := range b.Steps {
		e.Steps = append(e.Steps, ExplainedStep{Name: step.Name, Verdict: step.Verdict, Reason: step.Reason})
		if e.First == none && step.Verdict != Cached && step.Reason.cause() {
			e.First = i
		}
	}
	return e, nil
}

// String renders the explanation as text, one line for each step.
func (e *Explanation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d of %d steps ran\n", e.Target, e.count(Ran), len(e.Steps))
	if e.First != none {
		first := e.Steps[e.First]
		fmt.Fprintf(&b, "first difference: %s: %s\n", oneLine(first.Name), oneLine(first.Reason.String()))
	}
	b.WriteString("\n")
	for _, step := range e.Steps {
		fmt.Fprintf(&b, "%-10s%s: %s\n", step.Verdict, oneLine(step.Name), oneLine(step.Reason.String()))
	}
	for _, name := range e.Removed {
		fmt.Fprintf(&b, "%-10s%s: no longer a step\n", "removed", oneLine(name))
	}
	return b.String()
}

func (e *Explanation) count(verdict Verdict) (n int) {
	for _, step := range e.Steps {
		if step.Verdict == verdict {
			n++
		}
	}
	return n
}

// oneLine puts a text with line breaks, such as the name of a step with a
// script, on one line.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
