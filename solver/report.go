package solver

import (
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
	// Started is when its own work began, Duration how long it took; zero for
	// what was cached.
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
	Kind ReasonKind `json:"kind"`
	// Subject is the fact or the step that the reason is about.
	Subject string `json:"subject,omitempty"`
	// Before and After are its values, where known.
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
	// Details are what an Explainer had to say: the files that changed.
	Details []string `json:"details,omitempty"`
}

// ReasonKind is a class of reasons.
type ReasonKind string

// The reasons for a hit, for a miss, and for not getting that far.
const (
	HitDefinition ReasonKind = "definition" // the same op on the same inputs was built before
	HitContent    ReasonKind = "content"    // the inputs were rebuilt to the same content
	HitShared     ReasonKind = "shared"     // another build made it while this one waited
	HitCovered    ReasonKind = "covered"    // what uses it was found

	MissNever   ReasonKind = "never"   // no build of this target is known
	MissAdded   ReasonKind = "added"   // the last build had no such step
	MissFact    ReasonKind = "fact"    // a part of the op changed
	MissInput   ReasonKind = "input"   // an input changed
	MissGone    ReasonKind = "gone"    // the result was removed
	MissDamaged ReasonKind = "damaged" // the record cannot be read
	MissLost    ReasonKind = "lost"    // the last build did not get to its end
	MissNoCache ReasonKind = "nocache" // the user does not want the cache

	NeedsFailed ReasonKind = "needs"  // an input failed
	GivenUp     ReasonKind = "giveup" // the build was cancelled
)
