package dockerfilecompat

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// Error is a mistake in a Dockerfile, at its line.
type Error struct {
	File   string
	Line   int      // where the instruction begins
	Source []string // the lines of the instruction
	Err    error
}

// parsePrefix is the place that BuildKit's parser puts into its messages,
// which Error has in front already.
var parsePrefix = regexp.MustCompile(`^dockerfile parse error on line \d+: `)

// message is what is wrong, without its place.
func (e *Error) message() string { return parsePrefix.ReplaceAllString(e.Err.Error(), "") }

// Error implements error.
func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.File, e.message())
	}
	at := pointTo(e.message(), e.Source)
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line+at.line, at.column+1, e.message())
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Render shows the error with the source and a caret, for terminals.
func (e *Error) Render() string {
	return e.Error() + "\n" + excerpt(e.Line, e.Source, pointTo(e.message(), e.Source))
}

// sourceError adds the place that BuildKit's error carries.
func sourceError(filename string, data []byte, err error) error {
	e := &Error{File: filename, Err: err}
	var at *parser.LocationError
	if !errors.As(err, &at) || len(at.Locations) == 0 || len(at.Locations[0]) == 0 {
		return e
	}
	r := at.Locations[0][0]
	e.Line, e.Source = r.Start.Line, linesOf(data, r.Start.Line, r.End.Line)
	return e
}

// linesOf returns the lines from first to last, or the first only.
func linesOf(data []byte, first, last int) []string {
	lines := strings.Split(string(data), "\n")
	var out []string
	for n := max(first, 1); n <= max(last, first) && n <= len(lines); n++ {
		out = append(out, strings.TrimRight(lines[n-1], "\r"))
	}
	return out
}

// checkSyntax lets the built-in front end serve docker/dockerfile, and refuses
// any other by name.
func checkSyntax(data []byte, filename string, args map[string]string) error {
	ref, _, loc, ok := parser.DetectSyntax(data)
	if given := strings.Fields(args["BUILDKIT_SYNTAX"]); len(given) > 0 {
		ref, loc, ok = given[0], nil, true
	}
	if !ok || builtinSyntax(ref) {
		return nil
	}
	return sourceError(filename, data, parser.WithLocation(fmt.Errorf(
		"the syntax %q is another front end, which strata cannot run; remove the line, or use docker/dockerfile:1", ref), loc))
}

// builtinSyntax tells the front end that is built in, of whatever version.
func builtinSyntax(ref string) bool {
	ref = strings.TrimPrefix(ref, "docker.io/")
	name, _, _ := strings.Cut(ref, "@")
	name, _, _ = strings.Cut(name, ":")
	return name == "docker/dockerfile" || name == "docker/dockerfile-upstream"
}
