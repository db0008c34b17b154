package buildcmd

import (
	"errors"
	"strings"
	"testing"

	"github.com/strata-build/strata/runtime/fleet"
	"github.com/strata-build/strata/runtime/worker"
	"github.com/strata-build/strata/solver"
)

// TestFailureIsHarmless: neither a daemon nor a Dockerfile of somebody else's
// steers the terminal.
func TestFailureIsHarmless(t *testing.T) {
	loc := &solver.Location{Filename: "f\x1b[2J", Data: []byte("RUN \x1b[2J\n"), Ranges: []solver.Range{{Start: solver.Position{Line: 1}}}}
	for _, cause := range []error{errors.New("no\x1b[2J"), &worker.StepError{Args: []string{"sh", "\x1b[2J"}}} {
		var shown interface{ Render() string }
		if !errors.As(buildError(&fleet.StepError{Location: loc, Err: cause}, false), &shown) {
			t.Fatalf("%v is no failure of a step", cause)
		}
		if text := shown.Render(); strings.Contains(text, "\x1b") || !strings.Contains(text, "f\ufffd[2J:1: ") {
			t.Errorf("%q", text)
		}
	}
}
