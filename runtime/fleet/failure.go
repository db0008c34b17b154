package fleet

import (
	"errors"
	"fmt"

	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/grpcerrors"
	"google.golang.org/grpc/codes"

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
func (c *Client) failure(err error) error {
	// The words around it tell how the daemon came to the step.
	cause := err
	var vertex *errdefs.VertexError
	if errors.As(err, &vertex) {
		cause = vertex.Unwrap()
	}
	sources := errdefs.Sources(err)
	if len(sources) == 0 && vertex == nil {
		return c.trouble(err)
	}
	if len(sources) == 0 {
		return cause
	}
	src := sources[len(sources)-1]
	return &StepError{Location: location(src.Info, src.Ranges), Err: cause}
}

// trouble is an error that no step is to blame for.
func (c *Client) trouble(err error) error {
	if grpcerrors.Code(err) == codes.Unavailable {
		return fmt.Errorf("the connection to BuildKit at %s broke off: see what its log says, and build again: %w", c.address, err)
	}
	return fmt.Errorf("BuildKit at %s: %w", c.address, err)
}

func location(info *pb.SourceInfo, ranges []*pb.Range) *solver.Location {
	loc := &solver.Location{Filename: info.GetFilename(), Language: info.GetLanguage(), Data: info.GetData()}
	for _, r := range ranges {
		loc.Ranges = append(loc.Ranges, solver.Range{Start: position(r.Start), End: position(r.End)})
	}
	return loc
}

// position is one of a file's: a daemon may say anything.
func position(p *pb.Position) solver.Position {
	return solver.Position{Line: int(max(p.GetLine(), 0)), Character: int(max(p.GetCharacter(), 0))}
}
