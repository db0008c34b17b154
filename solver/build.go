package solver

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"time"

	digest "github.com/opencontainers/go-digest"
)

// build is the record of one build of one target: what the next one is
// compared with, and how long its steps took.
type build struct {
	// Fingerprint identifies a build of which everything was cached. It comes
	// first, to be read without the rest.
	Fingerprint string      `json:"fingerprint"`
	Facts       []Fact      `json:"facts"` // of all steps, each once
	Steps       []buildStep `json:"steps"` // inputs before what uses them
	Removed     []string    `json:"removed,omitempty"`

	damaged bool // it could not be read
}

// buildStep is one vertex in the record of a build.
type buildStep struct {
	Name       string        `json:"name"`
	Kind       string        `json:"kind"`
	Inputs     []int         `json:"inputs,omitempty"` // steps
	Facts      []int         `json:"facts,omitempty"`  // in build.Facts
	Op         digest.Digest `json:"op"`
	Definition digest.Digest `json:"definition"`
	Content    digest.Digest `json:"content,omitempty"`
	Verdict    Verdict       `json:"verdict"`
	Reason     Reason        `json:"reason"`
	Duration   time.Duration `json:"duration,omitempty"`
}

// known tells whether there was a build at all.
func (b *build) known() bool { return len(b.Steps) > 0 }

// decodeBuild reads the record of a build. One that makes no sense is damaged.
func decodeBuild(data []byte) *build {
	b := &build{}
	if err := json.Unmarshal(data, b); err != nil || !b.sound() {
		return &build{damaged: true}
	}
	return b
}

// sound checks all that indexes something else.
func (b *build) sound() bool {
	for i, step := range b.Steps {
		for _, in := range step.Inputs {
			if in < 0 || in >= i {
				return false
			}
		}
		for _, fact := range step.Facts {
			if fact < 0 || fact >= len(b.Facts) {
				return false
			}
		}
	}
	return true
}

// fingerprintOf reads only the fingerprint from the record of a build.
func fingerprintOf(data []byte) string {
	var head [3]json.Token
	dec := json.NewDecoder(bytes.NewReader(data))
	for i := range head {
		token, err := dec.Token()
		if err != nil {
			return ""
		}
		head[i] = token
	}
	value, ok := head[2].(string)
	if head[1] != "fingerprint" || !ok {
		return ""
	}
	return value
}

// previous returns the last build of a target, which is empty if there is none.
func (t *target) previous() *build {
	switch {
	case t.last != nil:
	case t.lastData != nil:
		t.last = decodeBuild(t.lastData)
	default:
		t.last = &build{}
	}
	return t.last
}

// current describes this build of a target, as far as it is known once all
// keys are.
func (p *plan) current(t *target) *build {
	b := &build{Steps: make([]buildStep, len(t.cone))}
	facts := map[Fact]int{}
	for i, n := range t.cone {
		n.place = i
		step := &b.Steps[i]
		*step = buildStep{Name: n.v.Name, Kind: kindOf(n.v.Op), Op: n.key.Digest, Definition: n.definition}
		for _, in := range n.inputs {
			step.Inputs = append(step.Inputs, in.place)
		}
		for _, fact := range n.key.Facts {
			at, ok := facts[fact]
			if !ok {
				at = len(b.Facts)
				facts[fact] = at
				b.Facts = append(b.Facts, fact)
			}
			step.Facts = append(step.Facts, at)
		}
	}
	return b
}

// recordBuilds keeps what `why` and the next build want to know.
func (p *plan) recordBuilds() (errs []error) {
	for _, t := range p.targets {
		if t.Name == "" || t.node == nil || t.node.definition == "" {
			continue
		}
		if err := p.recordBuild(t); err != nil {
			errs = append(errs, fmt.Errorf("record build of %q: %w", t.Name, err))
		}
	}
	return errs
}

// recordBuild writes the record of a build, unless all was cached as it was
// the last time.
func (p *plan) recordBuild(t *target) error {
	fingerprint := t.fingerprint()
	if fingerprint != "" && fingerprint == fingerprintOf(t.lastData) {
		return nil
	}
	b := t.now
	if b == nil {
		b = p.current(t)
	}
	b.Fingerprint = fingerprint
	if t.comparison != nil {
		b.Removed = t.comparison.removed
	}
	durations := map[digest.Digest]time.Duration{}
	for _, step := range t.previous().Steps {
		durations[step.Definition] = step.Duration
	}
	for i, n := range t.cone {
		step := &b.Steps[i]
		step.Content, step.Duration = n.content, n.duration
		step.Verdict, step.Reason = p.reason(t, i, n)
		if step.Verdict != Ran {
			step.Duration = durations[n.definition]
		}
	}
	data, err := json.Marshal(b)
	if err != nil {
		return err
	}
	return p.records.Put(p.ctx, BucketBuilds, t.Name, data, nil)
}

// fingerprint identifies a build of which nothing ran; it is empty for others.
// The target's definition key covers those of all steps.
func (t *target) fingerprint() string {
	h := fnv.New64a()
	for _, n := range t.cone {
		if n.verdict != Cached {
			return ""
		}
		_, _ = io.WriteString(h, n.v.Name)
		_, _ = io.WriteString(h, string(n.why.Kind))
	}
	return fmt.Sprintf("%s-%x", t.node.definition, h.Sum64())
}
