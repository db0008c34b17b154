package fleet

import (
	"errors"

	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"

	"github.com/strata-build/strata/solver"
)

// StepError is a failure of a step of the daemon's, with its place in the
// user's file.
type StepError struct {
	Location *solver.Location
	Err      error
}

// Error is one line, without where.
func (e *StepError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *StepError) Unwrap() error { return e.Err }

// failure finds the place of an error of the daemon's.
func failure(err error) error {
	// The words around it tell how the daemon came to the step.
	cause := err
	var vertex *errdefs.VertexError
	if errors.As(err, &vertex) {
		cause = vertex.Unwrap()
	}
	sources := errdefs.Sources(err)
	if len(sources) == 0 {
		return cause
	}
	src := sources[len(sources)-1]
	return &StepError{Location: location(src.Info, src.Ranges), Err: cause}
}

func location(info *pb.SourceInfo, ranges []*pb.Range) *solver.Location {
	loc := &solver.Location{Filename: info.GetFilename(), Language: info.GetLanguage(), Data: info.GetData()}
	for _, r := range ranges {
		loc.Ranges = append(loc.Ranges, solver.Range{Start: position(r.Start), End: position(r.End)})
	}
	return loc
}

func position(p *pb.Position) solver.Position {
	return solver.Position{Line: int(p.GetLine()), Character: int(p.GetCharacter())}
}
