package buildcmd

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/strata-build/strata/cmd/strata/cli"
	dockerfilecompat "github.com/strata-build/strata/dockerfile-compat"
	"github.com/strata-build/strata/runtime/fleet"
	"github.com/strata-build/strata/runtime/worker"
	"github.com/strata-build/strata/solver"
)

// stepsError is a build in which steps failed; shown tells that the display has
// shown the output of the failed step already.
type stepsError struct {
	err   error
	steps []failedStep
	shown bool
}

// failedStep is a step that failed, here or at a daemon.
type failedStep struct {
	where *solver.Location // nil where that is not known
	err   error
}

// buildError is the error of a build for the person who reads it: of the steps
// that failed, if any did.
func buildError(err error, shown bool) error {
	if steps := failedSteps(err); len(steps) > 0 {
		return &stepsError{err, steps, shown}
	}
	return err
}

// Error implements error.
func (e *stepsError) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e *stepsError) Unwrap() error { return e.err }

// Render tells of each step that failed.
func (e *stepsError) Render() string {
	var b strings.Builder
	for _, step := range e.steps {
		describeFailure(&b, step, e.shown)
	}
	return b.String()
}

// failedSteps collects the failures of steps in a tree of errors.
func failedSteps(err error) []failedStep {
	switch e := err.(type) { //nolint:errorlint // it walks the tree itself
	case nil:
		return nil
	case *solver.VertexError:
		return []failedStep{{e.Vertex.Location(), e.Err}}
	case *fleet.StepError:
		return []failedStep{{e.Location, e.Err}}
	case interface{ Unwrap() []error }:
		var all []failedStep
		for _, inner := range e.Unwrap() {
			all = append(all, failedSteps(inner)...)
		}
		return all
	default:
		return failedSteps(errors.Unwrap(err))
	}
}

// describeFailure tells where a failed step stands in the user's file, what it
// ran, the end of what it said, how it ended and where all of it is.
func describeFailure(w io.Writer, failed failedStep, shown bool) {
	place, loc := "strata", failed.where
	if loc != nil && len(loc.Ranges) > 0 {
		place = fmt.Sprintf("%s:%d", loc.Filename, loc.Ranges[0].Start.Line)
		if c := loc.Ranges[0].Start.Character; c > 0 {
			place += fmt.Sprintf(":%d", c)
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", place, failed.err)
	writeSource(&b, loc, failed.err)
	fmt.Fprint(w, cli.Harmless(b.String())) // a daemon may say anything
	var step *worker.StepError
	if errors.As(failed.err, &step) {
		fmt.Fprintf(w, "  command: %s\n", cli.Harmless(strings.Join(step.Args, " ")))
		if !shown && len(step.Tail) > 0 {
			fmt.Fprintf(w, "  its last lines:\n")
			writeTail(w, step.Tail)
		}
		if step.Err == nil {
			fmt.Fprintf(w, "  exit code: %d\n", step.Status.ExitCode)
		}
		if step.Log != "" {
			fmt.Fprintf(w, "  whole log: %s\n", step.Log)
		}
	}
}

// writeSource shows the source lines with a caret: where the location says, or
// in a Dockerfile, which knows lines only, below what the error is about.
func writeSource(w io.Writer, loc *solver.Location, cause error) {
	if loc == nil || len(loc.Ranges) == 0 || len(loc.Data) == 0 {
		return
	}
	all := strings.Split(string(loc.Data), "\n")
	start, last := loc.Ranges[0].Start, loc.Ranges[0].Start.Line
	for _, r := range loc.Ranges {
		last = max(last, r.End.Line)
	}
	const most = 6
	var lines []string
	for n := start.Line; n <= min(last, start.Line+most-1) && n <= len(all) && n > 0; n++ {
		lines = append(lines, strings.TrimRight(all[n-1], "\r"))
	}
	if start.Character == 0 {
		fmt.Fprint(w, dockerfilecompat.Excerpt(start.Line, lines, cause.Error()))
		return
	}
	for i, line := range lines {
		fmt.Fprintf(w, "%5d | %s\n", start.Line+i, line)
		if i == 0 {
			fmt.Fprintf(w, "      | %s^\n", blank(line[:min(start.Character-1, len(line))]))
		}
	}
}

// blank keeps tabs, so that a caret stands right at any tab width.
func blank(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' {
			return r
		}
		return ' '
	}, s)
}

// tailLines is how many of a failed step's last lines are shown.
const tailLines = 15

func writeTail(w io.Writer, tail []byte) {
	lines := strings.Split(strings.TrimRight(string(tail), "\n"), "\n")
	if len(lines) > tailLines {
		lines = lines[len(lines)-tailLines:]
	}
	for _, line := range lines {
		fmt.Fprintf(w, "    %s\n", line)
	}
}
