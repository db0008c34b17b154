package container

import (
	"errors"
	"fmt"
	"testing"

	"github.com/strata-build/strata/runtime/executor"
)

// What comes after an end: by policy, code, restarts so far, and whether it was
// asked for.
func TestNext(t *testing.T) {
	for _, c := range []struct {
		policy         Restart
		code, restarts int
		asked          bool
		want           Status
	}{
		{Restart{Policy: RestartNo}, 1, 0, false, Exited},
		{Restart{}, 1, 0, false, Exited},
		{Restart{Policy: RestartAlways}, 0, 7, false, Restarting},
		{Restart{Policy: RestartAlways}, 1, 0, true, Exited},
		{Restart{Policy: RestartUnlessStopped}, 0, 0, false, Restarting},
		{Restart{Policy: RestartUnlessStopped}, 0, 0, true, Exited},
		{Restart{Policy: RestartOnFailure}, 0, 0, false, Exited},
		{Restart{Policy: RestartOnFailure}, 1, 1000, false, Restarting},
		{Restart{Policy: RestartOnFailure, Max: 2}, 1, 1, false, Restarting},
		{Restart{Policy: RestartOnFailure, Max: 2}, 1, 2, false, Exited},
		{Restart{Policy: RestartOnFailure, Max: 2}, 137, 0, true, Exited},
	} {
		rec := &Record{Config: Config{Restart: c.policy}, State: State{ExitCode: c.code, Restarts: c.restarts, StopRequested: c.asked}}
		next(rec)
		want := c.restarts
		if c.want == Restarting {
			want++
		}
		if rec.State.Status != c.want || rec.State.Restarts != want {
			t.Errorf("%+v: got %s after %d restarts", c, rec.State.Status, rec.State.Restarts)
		}
	}
}

func TestStartCode(t *testing.T) {
	for want, err := range map[int]error{
		125: errors.New("anything"), 126: fmt.Errorf("run: %w", executor.ErrNotExecutable), 127: fmt.Errorf("run: %w", executor.ErrNotFound),
	} {
		if got := StartCode(err); got != want {
			t.Errorf("%v: got %d, want %d", err, got, want)
		}
	}
}
