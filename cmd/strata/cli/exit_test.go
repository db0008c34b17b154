package cli

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

// TestInterrupted: what a signal has ended says so, and what else went wrong.
func TestInterrupted(t *testing.T) {
	why := errors.New("interrupt signal received")
	cancelled := fmt.Errorf("unpack layer: %w", context.Canceled)
	other := errors.New("close file: no space left")
	for name, c := range map[string]struct {
		err  error
		want string
		code int
	}{
		"cancelled":    {cancelled, "interrupt signal received", ExitFailed},
		"by its cause": {fmt.Errorf("pull: %w", why), "interrupt signal received", ExitFailed},
		"and more":     {errors.Join(cancelled, other), "interrupt signal received\nclose file: no space left", ExitFailed},
		"with a code":  {&ExitError{125, errors.Join(cancelled, cancelled)}, "interrupt signal received", 125},
		"another":      {other, "close file: no space left", 0},
		"a bare code":  {&ExitError{Code: 7}, "exit code 7", 7},
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		if got := Interrupted(ctx, c.err); got != c.err { //nolint:errorlint // it is to be the same
			t.Errorf("%s, not interrupted: %v", name, got)
		}
		cancel(why)
		got := Interrupted(ctx, c.err)
		var exit *ExitError
		if got.Error() != c.want || errors.As(got, &exit) != (c.code != 0) || exit != nil && exit.Code != c.code {
			t.Errorf("%s: %v", name, got)
		}
	}
}
