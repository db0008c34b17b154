package solver

import (
	"context"
	"errors"
)

// ErrNotBuilt is returned by Why for a target without a build record.
var ErrNotBuilt = errors.New("target has not been built here")

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
	return nil, ErrNotBuilt
}
