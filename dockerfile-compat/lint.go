package dockerfilecompat

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/subrequests/lint"
)

// Warning is a finding that fails nothing.
type Warning struct {
	File    string
	Line    int
	Rule    string // the linter's name for it; "" when it is none of the linter's
	Message string // with the rule in front
	Detail  []string
	URL     string
	Source  []string // the lines that it is about, where they are known
}

// String is the warning on one line, with its place.
func (w Warning) String() string {
	if w.Line == 0 {
		return fmt.Sprintf("%s: %s", w.File, w.Message)
	}
	return fmt.Sprintf("%s:%d: %s", w.File, w.Line, w.Message)
}

// Render shows the warning with the source, and what to do about it.
func (w Warning) Render() string {
	var b strings.Builder
	b.WriteString(w.String() + "\n" + excerpt(w.Line, w.Source, pointTo(w.Message, w.Source)))
	for _, d := range w.Detail {
		b.WriteString("      = " + d + "\n")
	}
	if w.URL != "" {
		b.WriteString("      = see " + w.URL + "\n")
	}
	return b.String()
}

// Lint checks a Dockerfile with BuildKit's rules: the stages that the target
// needs, or all of them. What `# check` skips is left out. The findings are
// in the order of the lines. A Dockerfile that cannot be built at all is an
// *Error, beside the findings up to there.
func Lint(ctx context.Context, req Request) ([]Warning, error) {
	s, res, err := lintResults(ctx, req)
	if err != nil {
		return nil, err
	}
	list := make([]Warning, 0, len(res.Warnings))
	for _, w := range res.Warnings {
		list = append(list, s.warning(w))
	}
	slices.SortStableFunc(list, func(a, b Warning) int { return a.Line - b.Line })
	return list, s.buildError(res.Error)
}

// lintResults runs BuildKit's linter.
func lintResults(ctx context.Context, req Request) (*session, *lint.LintResults, error) {
	s, err := open(ctx, req)
	if err != nil {
		return nil, nil, err
	}
	platform := s.firstPlatform()
	if err := s.resolveTargets(ctx, platform); err != nil {
		return nil, nil, err
	}
	if err := s.warnOnly(); err != nil {
		return nil, nil, sourceError(s.req.Filename, s.src.Data, err)
	}
	res, err := dockerfile2llb.DockerfileLint(ctx, s.src.Data, s.options(req.Target, platform))
	if err != nil {
		return nil, nil, sourceError(s.req.Filename, s.src.Data, err)
	}
	return s, res, nil
}

// warnOnly keeps `# check=error=true` from making an error of the findings:
// they are what is asked for.
func (s *session) warnOnly() error {
	if s.bc.LinterConfig == nil {
		options, _, _, _ := parser.ParseDirective("check", s.src.Data)
		config, err := linter.ParseLintOptions(options)
		if err != nil {
			return fmt.Errorf("parse the check directive: %w", err)
		}
		s.bc.LinterConfig = config
	}
	s.bc.LinterConfig.ReturnAsError = false
	return nil
}

// warning takes over one finding.
func (s *session) warning(w lint.Warning) Warning {
	out := Warning{File: s.req.Filename, Rule: w.RuleName, Message: w.RuleName + ": " + w.Detail, URL: w.URL}
	if w.Description != "" {
		out.Detail = []string{w.Description}
	}
	if w.Location != nil && len(w.Location.Ranges) > 0 {
		r := w.Location.Ranges[0]
		out.Line = int(r.Start.Line)
		out.Source = linesOf(s.src.Data, out.Line, int(r.End.Line))
	}
	return out
}

// buildError is why a Dockerfile could not be checked to its end.
func (s *session) buildError(e *lint.BuildError) error {
	if e == nil {
		return nil
	}
	out := &Error{File: s.req.Filename, Err: errors.New(e.Message)}
	if len(e.Location.Ranges) > 0 {
		r := e.Location.Ranges[0]
		out.Line = int(r.Start.Line)
		out.Source = linesOf(s.src.Data, out.Line, int(r.End.Line))
	}
	return out
}

// lint passes the linter's findings to the gateway's warnings.
func (g *gateway) lint(filename string) linter.LintWarnFunc {
	return func(rule, description, url, message string, location []parser.Range) {
		w := Warning{File: filename, Rule: rule, Message: rule + ": " + message, Detail: []string{description}, URL: url}
		if len(location) > 0 {
			w.Line = location[0].Start.Line
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		g.warnings = append(g.warnings, w)
	}
}
