package compiler

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/strata-build/strata/schema"
)

// Error is a mistake in a Spec at the place where its author made it, with
// its cause. errors.As finds the schema.Error in it, which renders it with
// the line of the source, and errors.Is the cause.
type Error struct {
	Mistake schema.Error
	Err     error // nil when the mistake is all there is to say
}

func (e *Error) Error() string { return e.Mistake.Error() }

// Unwrap returns the mistake and its cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{&e.Mistake}
	}
	return []error{&e.Mistake, e.Err}
}

// mistake is an Error without a cause.
func mistake(pos schema.Position, hint, format string, args ...any) *Error {
	return &Error{Mistake: schema.Error{Pos: pos, Hint: hint, Message: fmt.Sprintf(format, args...), Width: 1}}
}

// because is an Error with a cause, whose text it takes over.
func because(pos schema.Position, err error, format string, args ...any) *Error {
	e := mistake(pos, "", "%s: %v", fmt.Sprintf(format, args...), err)
	e.Err = err
	return e
}

// locate gives an error in a field the field's position, where it has none
// of its own.
func locate(pos schema.Position, field string, err error) error {
	var e *Error
	if !errors.As(err, &e) {
		return because(pos, err, "%s", field)
	}
	if !e.Mistake.Pos.IsValid() {
		e.Mistake.Pos = pos
	}
	return e
}

// explain adds what only the compilation knows to an error of an image: its
// path and the line of the source.
func (c *compilation) explain(err error, path string) error {
	var e *Error
	if !errors.As(err, &e) {
		return err
	}
	if e.Mistake.Path == "" {
		e.Mistake.Path = path
	}
	if e.Mistake.Source == "" && e.Mistake.Pos.IsValid() {
		e.Mistake.Source = sourceLine(c.sources.text(e.Mistake.Pos.File), e.Mistake.Pos.Line)
	}
	return err
}

// sourceLine is line n of a text, counted from 1, without its end.
func sourceLine(text []byte, n int) string {
	for line := range bytes.Lines(text) {
		if n--; n == 0 {
			return strings.TrimRight(string(line), "\r\n")
		}
	}
	return ""
}
