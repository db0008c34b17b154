package solver

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	digest "github.com/opencontainers/go-digest"
)

// Report tells what became of each vertex that the targets of a build are made
// of, and why.
type Report struct {
	Steps []Step // inputs before what uses them
}

// Step is the part that one vertex had in a build.
type Step struct {
	Vertex  *Vertex
	Verdict Verdict
	Reason  Reason
	// Definition is the definition key, Content the content key; empty where
	// they were not needed.
	Definition, Content digest.Digest
	// Started is when its op began to run, Duration how long that took; zero
	// for what was cached.
	Started  time.Time
	Duration time.Duration
}

// Verdict is how a vertex ended.
type Verdict string

// The verdicts.
const (
	Cached    Verdict = "cached"    // its result was found, or nobody needed it
	Ran       Verdict = "ran"       // its result was made
	Failed    Verdict = "failed"    // it returned an error
	Cancelled Verdict = "cancelled" // something it needs failed, or the build was given up
)

// Reason says why a vertex ended as it did.
type Reason struct {
	Kind ReasonKind `json:"kind,omitempty"`
	// Subject is the fact or the step that the reason is about.
	Subject string `json:"subject,omitempty"`
	// Before and After are its values, shortened, where there are any.
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
	// Details say more, such as the files that changed, from an Explainer.
	Details []string `json:"details,omitempty"`
}

// ReasonKind is a class of reasons.
type ReasonKind string

// The reasons for a hit, for a miss, and for not getting that far.
const (
	HitDefinition ReasonKind = "definition" // the same op on the same inputs was built before
	HitContent    ReasonKind = "content"    // the inputs changed, but not what the op sees of them
	HitShared     ReasonKind = "shared"     // another build made it while this one waited
	HitCovered    ReasonKind = "covered"    // what uses it was found
	HitSame       ReasonKind = "same"       // another vertex of this build is the same work

	MissNever   ReasonKind = "never"   // no build of this target is known
	MissAdded   ReasonKind = "added"   // the last build had no such step
	MissFact    ReasonKind = "fact"    // a part of the op changed
	MissInput   ReasonKind = "input"   // an input changed
	MissGone    ReasonKind = "gone"    // the result was removed
	MissUnkept  ReasonKind = "unkept"  // such results are never kept: finding them is as dear as making them
	MissDamaged ReasonKind = "damaged" // the record cannot be read
	MissLost    ReasonKind = "lost"    // the last build did not get to its end
	MissNoCache ReasonKind = "nocache" // the user does not want the cache

	NeedsFailed ReasonKind = "needs"    // an input failed
	Unneeded    ReasonKind = "unneeded" // nothing that could still be built needs it
	GivenUp     ReasonKind = "givenup"  // the build was cancelled
)

// String puts the reason into words.
func (r Reason) String() string {
	switch r.Kind {
	case HitDefinition:
		return "unchanged"
	case HitContent:
		return "its inputs changed, but not what it sees of them"
	case HitShared:
		return "made by another build at the same time"
	case HitCovered:
		return "not needed, as what uses it was found"
	case HitSame:
		return fmt.Sprintf("the same work as %q", r.Subject)
	case MissNever:
		return cmp.Or(strings.Join(r.Details, ", "), "never built before")
	case MissAdded:
		return "a new step"
	case MissFact:
		return r.fact()
	case MissInput:
		return r.input()
	case MissGone:
		return "unchanged, but its result is gone (pruned)"
	case MissUnkept:
		return "unchanged, and read again for what needs it"
	case MissDamaged:
		return "its record is damaged"
	case MissLost:
		return "the last build did not finish it"
	case MissNoCache:
		return "the cache is switched off for it"
	case NeedsFailed:
		return fmt.Sprintf("needs %q, which failed", r.Subject)
	case Unneeded:
		return "nothing that could still be built needs it"
	case GivenUp:
		return "the build was cancelled"
	}
	return ""
}

func (r Reason) fact() string {
	switch {
	case len(r.Details) > 0:
		return strings.Join(r.Details, ", ")
	case r.Before == "" && r.After != "":
		return fmt.Sprintf("%s is new: %q", r.Subject, r.After)
	case r.Before != "" && r.After == "":
		return fmt.Sprintf("%s is gone, it was %q", r.Subject, r.Before)
	case r.Before == "":
		return r.Subject + " changed"
	}
	return fmt.Sprintf("%s changed from %q to %q", r.Subject, r.Before, r.After)
}

func (r Reason) input() string {
	if r.Before != "" {
		return fmt.Sprintf("its input is %q and was %q", r.Subject, r.Before)
	}
	return fmt.Sprintf("input %q changed", r.Subject)
}

// cause tells whether the reason is one of the step itself, and no
// consequence of what happened to another.
func (r Reason) cause() bool {
	return slices.Contains([]ReasonKind{
		MissNever, MissAdded, MissFact, MissGone, MissDamaged, MissLost, MissNoCache,
	}, r.Kind)
}

// report tells why each vertex ended as it did. A vertex of several targets is
// compared with the last build of the first of them.
func (p *plan) report() *Report {
	for _, t := range p.targets {
		p.compareLate(t)
		for i, n := range t.cone {
			if n.why.Kind == "" {
				n.verdict, n.why = p.reason(t, i, n)
			}
		}
	}
	r := &Report{}
	for i := range p.nodes {
		if n := &p.nodes[i]; n.v != nil {
			r.Steps = append(r.Steps, Step{
				Vertex:     n.v,
				Verdict:    n.verdict,
				Reason:     n.why,
				Definition: n.definition,
				Content:    n.content,
				Started:    n.started,
				Duration:   n.duration,
			})
		}
	}
	return r
}

// reason tells why a vertex ended as it did, as step i of a target.
func (p *plan) reason(t *target, i int, n *node) (Verdict, Reason) {
	switch {
	case n.twin != nil && n.twin.state == done:
		return Cached, Reason{Kind: HitSame, Subject: n.twin.v.Name}
	case n.actual().state == keyed && n.actual().covered:
		return Cached, Reason{Kind: HitCovered}
	case n.state == done && n.verdict == Cached:
		return Cached, Reason{Kind: n.ending.reason}
	case n.state == done || n.state == failed:
		return n.verdict, n.missReason(t, i)
	case p.ctx.Err() != nil:
		return Cancelled, Reason{Kind: GivenUp}
	}
	for _, in := range append([]*node{n}, n.inputs...) {
		switch in = in.actual(); {
		case in.state == failed:
			return Cancelled, Reason{Kind: NeedsFailed, Subject: in.v.Name}
		case in.state == cancelled && in != n.actual():
			return Cancelled, in.why
		}
	}
	return Cancelled, Reason{Kind: Unneeded}
}

// missReason tells why a vertex had to run, as step i of a target.
func (n *node) missReason(t *target, i int) Reason {
	switch {
	case n.forced:
		return Reason{Kind: MissNoCache}
	case n.miss != "":
		return Reason{Kind: n.miss}
	case n.definition == "": // its key is what failed
		return Reason{}
	}
	change := t.comparison.changes[i]
	switch {
	case change.Kind == MissInput:
		return n.inputReason(change)
	case change.Kind != "":
		return change
	case n.unkept:
		return Reason{Kind: MissUnkept}
	}
	for _, in := range n.inputs {
		if in.unsure {
			return Reason{Kind: MissInput, Subject: in.v.Name}
		}
	}
	return Reason{Kind: MissGone}
}

// inputReason prefers an input that was made anew to one whose key changed but
// whose result was found: that one is not why n had to run.
func (n *node) inputReason(change Reason) Reason {
	ran := ""
	for _, in := range n.inputs {
		a := in.actual()
		if in.v.Name == change.Subject && a.verdict != Cached {
			return change
		}
		if ran == "" && a.verdict == Ran && a.miss == "" {
			ran = in.v.Name
		}
	}
	if ran == "" {
		return change
	}
	return Reason{Kind: MissInput, Subject: ran}
}
