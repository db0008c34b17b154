package cli

import (
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
