package dockerfilecompat

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
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

// Error implements error. The place is in the first line of the instruction,
// as in BuildKit's errors.
func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.File, e.message())
	}
	at := pointTo(e.message(), e.Source[:min(1, len(e.Source))])
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, at.column+1, e.message())
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
	if e.Line, e.Source = escapeLine(data, e.message()); e.Line > 0 {
		return e
	}
	ranges := shownFirst(err)
	if len(ranges) == 0 {
		if errors.Is(err, filepath.ErrBadPattern) {
			e.Err = fmt.Errorf("the ignore file has a %w", err)
		}
		e.Line, e.Source = guessPlace(data, e.message())
		return e
	}
	e.Line, e.Source = placeOf(data, ranges)
	return e
}

// shownFirst is the place that an error of BuildKit's carries. Where stages go
// in a circle, there are several, and it shows the last one first. Others have
// more than one only where the failure has cancelled what went on beside.
func shownFirst(err error) []parser.Range {
	var at *parser.LocationError
	if !errors.As(err, &at) || len(at.Locations) == 0 {
		return nil
	}
	if strings.HasPrefix(at.Error(), "circular dependency") {
		return at.Locations[len(at.Locations)-1]
	}
	return at.Locations[0]
}

// placeOf is the first line of what BuildKit's parser gives a range for each
// line of, and all of its lines.
func placeOf(data []byte, ranges []parser.Range) (line int, source []string) {
	first, last := ranges[0].Start.Line, ranges[len(ranges)-1].End.Line
	return first, linesOf(data, first, last)
}

// guessPlace finds the instruction that an error of BuildKit without a place
// is about. The line is 0 where it can be none in particular.
func guessPlace(data []byte, message string) (line int, source []string) {
	f, err := parse(data)
	if err != nil {
		return 0, nil
	}
	for _, stage := range f.stages {
		for _, in := range stage.commands {
			if len(in.cmd.Location()) == 0 {
				continue
			}
			line, source := placeOf(data, in.cmd.Location())
			if causes(in.cmd, source, message) {
				return line, source
			}
		}
	}
	return 0, nil
}

// escapeLine finds the `# escape=` that a message is about. BuildKit gives the
// line before it.
func escapeLine(data []byte, message string) (line int, source []string) {
	if !strings.HasPrefix(message, "invalid escape token") {
		return 0, nil
	}
	lines := linesOf(data, 1, bytes.Count(data, []byte("\n"))+1)
	n := slices.IndexFunc(lines, escapeDirective.MatchString)
	if n < 0 {
		return 0, nil
	}
	return n + 1, lines[n : n+1]
}

var escapeDirective = regexp.MustCompile(`(?i)^\s*#\s*escape\s*=`)

// causes reports whether an instruction is what such an error is about: a
// stage that is not there or a variable, an image that only a mount names, no
// arguments, or bytes that are no text.
func causes(cmd instructions.Command, source []string, message string) bool {
	if strings.HasSuffix(message, "invalid UTF-8") {
		return !utf8.ValidString(strings.Join(source, "\n"))
	}
	switch cmd := cmd.(type) {
	case *instructions.CopyCommand:
		return message == "invalid stage index "+cmd.From ||
			strings.Contains(cmd.From, "$") && strings.HasPrefix(message, "variable expansion is not supported for --from")
	case *instructions.RunCommand:
		if strings.HasSuffix(message, "arguments are required") {
			return !cmd.PrependShell && len(cmd.CmdLine) == 0
		}
		return slices.ContainsFunc(instructions.GetMounts(cmd), func(m *instructions.Mount) bool {
			return m.From != "" && strings.HasPrefix(message, m.From+": ")
		})
	}
	return false
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
