package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"github.com/distribution/reference"

	dockerfilecompat "github.com/strata-build/strata/dockerfile-compat"
	"github.com/strata-build/strata/runtime/engine"
	"github.com/strata-build/strata/runtime/worker"
	"github.com/strata-build/strata/solver"
)

// summary ends a build that went well: a line for a person on stderr, or with
// -q the image's id on stdout.
func (a *app) summary(o *buildOptions, req engine.Request, res engine.Result, took time.Duration) error {
	if o.progressMode() == "quiet" {
		for _, img := range res.Images {
			if img.Desc.Digest != "" {
				fmt.Fprintln(a.stdout, img.Desc.Digest)
			}
		}
		return nil
	}
	_, err := fmt.Fprintln(a.stderr, summaryLine(req, res, took))
	return err
}

func summaryLine(req engine.Request, res engine.Result, took time.Duration) string {
	steps, cached := 0, 0
	if res.Report != nil {
		for _, s := range res.Report.Steps {
			steps++
			if s.Verdict == solver.Cached {
				cached++
			}
		}
	}
	work := fmt.Sprintf("%d steps, %d cached", steps, cached)
	if steps > 0 && steps == cached {
		work = "nothing changed"
	}
	what := "built"
	switch len(res.Images) {
	case 0:
	case 1:
		what = strings.TrimSpace(what + " " + imageText(res.Images[0]))
	default:
		what += fmt.Sprintf(" %d images", len(res.Images))
	}
	return fmt.Sprintf("%s (%s, %s)", what, work, roundTime(took))
}

func imageText(b engine.Built) string {
	var parts []string
	if len(b.Names) > 0 {
		parts = append(parts, familiar(b.Names[0]))
	} else if b.Image != "" {
		parts = append(parts, strings.TrimPrefix(b.Image, "images."))
	}
	if b.Desc.Digest != "" {
		parts = append(parts, b.Desc.Digest.String())
	}
	return strings.Join(parts, " ")
}

// familiar shortens a name as docker shows it.
func familiar(name string) string {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name
	}
	return reference.FamiliarString(named)
}

func roundTime(d time.Duration) time.Duration {
	if d < time.Second {
		return d.Round(time.Millisecond)
	}
	return d.Round(100 * time.Millisecond)
}

// metadata is the content of --metadata-file: that of the image, or an object
// of images by name where several were built.
func metadata(res engine.Result) ([]byte, error) {
	if len(res.Images) == 1 {
		return res.Images[0].Metadata()
	}
	all := map[string]json.RawMessage{}
	for _, img := range res.Images {
		data, err := img.Metadata()
		if err != nil {
			return nil, err
		}
		all[img.Image] = data
	}
	return json.MarshalIndent(all, "", "  ")
}

// buildError is a build that failed; shown tells that the display has shown
// the output of the failed step already.
type buildError struct {
	err   error
	shown bool
}

// Error implements error.
func (e *buildError) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e *buildError) Unwrap() error { return e.err }

// renderer is an error with a form for terminals, with source lines.
type renderer interface{ Render() string }

// report prints an error for the person who reads it.
func (a *app) report(err error) {
	var build *buildError
	if errors.As(err, &build) {
		if steps := vertexErrors(build.err); len(steps) > 0 {
			for _, v := range steps {
				a.reportStep(v, build.shown)
			}
			return
		}
	}
	if list := joined(err); len(list) > 0 {
		for _, inner := range list {
			a.report(inner)
		}
		return
	}
	var r renderer
	if errors.As(err, &r) {
		fmt.Fprint(a.stderr, r.Render())
		return
	}
	fmt.Fprintf(a.stderr, "strata: %s\n", harmless(err.Error()))
}

// joined are the errors that errors.Join made one of.
func joined(err error) []error {
	several, ok := err.(interface{ Unwrap() []error }) //nolint:errorlint // it asks for what err itself is
	if !ok {
		return nil
	}
	var lines []string
	for _, inner := range several.Unwrap() {
		lines = append(lines, inner.Error())
	}
	if _, own := err.(renderer); own || strings.Join(lines, "\n") != err.Error() { //nolint:errorlint // as above
		return nil
	}
	return several.Unwrap()
}

// harmless keeps a name that stands in an error, which may be an image's or a
// container's, from steering a terminal.
func harmless(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

// vertexErrors collects the failures of vertices in a tree of errors.
func vertexErrors(err error) []*solver.VertexError {
	switch e := err.(type) { //nolint:errorlint // it walks the tree itself
	case nil:
		return nil
	case *solver.VertexError:
		return []*solver.VertexError{e}
	case interface{ Unwrap() []error }:
		var all []*solver.VertexError
		for _, inner := range e.Unwrap() {
			all = append(all, vertexErrors(inner)...)
		}
		return all
	default:
		return vertexErrors(errors.Unwrap(err))
	}
}

// reportStep tells where a failed step stands in the user's file, what it
// ran, the end of what it said, how it ended and where all of it is.
func (a *app) reportStep(v *solver.VertexError, shown bool) {
	var b strings.Builder
	where := "strata"
	loc := v.Vertex.Location()
	if loc != nil && len(loc.Ranges) > 0 {
		where = fmt.Sprintf("%s:%d", loc.Filename, loc.Ranges[0].Start.Line)
		if c := loc.Ranges[0].Start.Character; c > 0 {
			where += fmt.Sprintf(":%d", c)
		}
	}
	fmt.Fprintf(&b, "%s: %s\n", where, v.Err)
	writeSource(&b, loc, v.Err)
	var step *worker.StepError
	if errors.As(v.Err, &step) {
		fmt.Fprintf(&b, "  command: %s\n", strings.Join(step.Args, " "))
		if !shown && len(step.Tail) > 0 {
			fmt.Fprintf(&b, "  its last lines:\n")
			writeTail(&b, step.Tail)
		}
		if step.Err == nil {
			fmt.Fprintf(&b, "  exit code: %d\n", step.Status.ExitCode)
		}
		if step.Log != "" {
			fmt.Fprintf(&b, "  whole log: %s\n", step.Log)
		}
	}
	fmt.Fprint(a.stderr, b.String())
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
