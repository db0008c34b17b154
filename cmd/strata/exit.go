package main

import (
	"errors"
	"fmt"
)

// The exit codes: 0 is done, 1 means that a step or an input failed, 2 that
// the command line cannot be used. `run` and `exec` add docker's.
const (
	exitFailed = 1
	exitMisuse = 2
)

// exitError carries an exit code, and what to say if anything.
type exitError struct {
	code int
	err  error
}

// Error implements error.
func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

// Unwrap returns what is said.
func (e *exitError) Unwrap() error { return e.err }

// misuse is a mistake in the command line.
func misuse(format string, args ...any) error {
	return &exitError{exitMisuse, fmt.Errorf(format, args...)}
}

// exit reports how a command ended, and is its exit code.
func (a *app) exit(err error) int {
	if err == nil {
		return 0
	}
	var code *exitError
	if errors.As(err, &code) {
		if code.err != nil {
			a.report(code.err)
		}
		return code.code
	}
	a.report(err)
	return exitFailed
}
