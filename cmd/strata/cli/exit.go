package cli

import (
	"context"
	"errors"
	"fmt"
)

// The exit codes: 0 is done, 1 means that a step or an input failed, 2 that
// the command line cannot be used. `run` and `exec` add docker's.
const (
	ExitFailed = 1
	ExitMisuse = 2
)

// ExitError carries an exit code, and what to say if anything.
type ExitError struct {
	Code int
	Err  error
}

// Error implements error.
func (e *ExitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit code %d", e.Code)
	}
	return e.Err.Error()
}

// Unwrap returns what is said.
func (e *ExitError) Unwrap() error { return e.Err }

// Misuse is a mistake in the command line.
func Misuse(format string, args ...any) error {
	return &ExitError{ExitMisuse, fmt.Errorf(format, args...)}
}

// Interrupted says of a command that a signal has ended just that, in place of
// where it was then. What else went wrong is told, too.
func Interrupted(ctx context.Context, err error) error {
	why := context.Cause(ctx)
	if why == nil || err == nil {
		return err
	}
	said := err
	code := ExitFailed
	var decided *ExitError
	if errors.As(err, &decided) {
		code, said = decided.Code, decided.Err
	}
	left, found := withoutCancel(said, why)
	if !found {
		return err
	}
	return &ExitError{code, errors.Join(why, left)}
}

// withoutCancel takes the errors out that only say that the context has ended.
func withoutCancel(err, why error) (left error, found bool) {
	list := joined(err)
	if len(list) == 0 {
		if err == nil {
			return nil, false
		}
		if errors.Is(err, why) || errors.Is(err, context.Canceled) {
			return nil, true
		}
		return err, false
	}
	var errs []error
	for _, inner := range list {
		rest, cancelled := withoutCancel(inner, why)
		errs, found = append(errs, rest), found || cancelled
	}
	return errors.Join(errs...), found
}

// Exit reports how a command ended, and is its exit code.
func (a *App) Exit(err error) int {
	if err == nil {
		return 0
	}
	var code *ExitError
	if errors.As(err, &code) {
		if code.Err != nil {
			a.Report(code.Err)
		}
		return code.Code
	}
	a.Report(err)
	return ExitFailed
}
