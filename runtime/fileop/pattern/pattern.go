// Package pattern decides which paths of a walk are selected by include and
// exclude patterns, with .dockerignore's meaning, exactly as BuildKit does it:
// a path is selected when it matches the include patterns (or there are none)
// and does not match the exclude patterns. A pattern that matches a directory
// matches what is below it, unless a later pattern that begins with '!' says
// otherwise.
//
// A walk asks for each entry, handing the state of the directory on to what is
// in it. The verdict also tells whether anything below a directory can be
// selected at all, so that large ignored directories are not even listed.
package pattern

import (
	"fmt"
	"strings"

	"github.com/moby/patternmatcher"
)

// Filter is a compiled selection. It is not safe for concurrent use: patterns
// are compiled when they are first needed. Clone gives another goroutine its
// own.
type Filter struct {
	include, exclude *patternmatcher.PatternMatcher
	includes         []string
	excludes         []string
	// needed are the paths that the include patterns lead to, by their
	// components that have no wildcard; exceptions are those of the exclude
	// patterns that begin with '!'.
	needed, exceptions []literal
}

// literal is the leading part of a pattern, without wildcards.
type literal []string

// State is what a directory hands to its entries. The zero value is the top's.
type State struct {
	include, exclude patternmatcher.MatchInfo
}

// Verdict says what to do with an entry.
type Verdict struct {
	// Selected is set when the entry itself belongs to the selection.
	Selected bool
	// Descend is set when something below it may.
	Descend bool
}

// New compiles patterns. No include patterns select everything.
func New(include, exclude []string) (*Filter, error) {
	f := &Filter{includes: include, excludes: exclude}
	var err error
	if len(include) > 0 {
		if f.include, err = patternmatcher.New(include); err != nil {
			return nil, fmt.Errorf("include patterns %q: %w", include, err)
		}
		f.needed = literals(f.include, false)
	}
	if len(exclude) > 0 {
		if f.exclude, err = patternmatcher.New(exclude); err != nil {
			return nil, fmt.Errorf("exclude patterns %q: %w", exclude, err)
		}
		f.exceptions = literals(f.exclude, true)
	}
	return f, nil
}

// Clone returns an equal filter for another goroutine.
func (f *Filter) Clone() *Filter {
	clone, err := New(f.includes, f.excludes)
	if err != nil { // they compiled before
		return f
	}
	return clone
}

// All tells that every path is selected.
func (f *Filter) All() bool { return f.include == nil && f.exclude == nil }

// Match decides on one entry, whose path is relative to the top of the walk.
// The state of a directory is for its entries.
func (f *Filter) Match(path string, parent State) (Verdict, State, error) {
	if f.All() {
		return Verdict{true, true}, State{}, nil
	}
	v, st := Verdict{true, true}, State{}
	var err error
	if f.include != nil {
		v.Selected, st.include, err = f.include.MatchesUsingParentResults(path, parent.include)
		if err != nil {
			return Verdict{}, st, fmt.Errorf("match %q with the include patterns: %w", path, err)
		}
		v.Descend = v.Selected || leads(f.needed, path)
	}
	if f.exclude == nil || !v.Descend {
		return v, st, nil
	}
	excluded, info, err := f.exclude.MatchesUsingParentResults(path, parent.exclude)
	if err != nil {
		return Verdict{}, st, fmt.Errorf("match %q with the exclude patterns: %w", path, err)
	}
	st.exclude = info
	if excluded {
		v.Selected, v.Descend = false, leads(f.exceptions, path)
	}
	return v, st, nil
}

// literals returns the leading parts of the patterns that do (or do not) begin
// with '!'.
func literals(m *patternmatcher.PatternMatcher, exclusions bool) []literal {
	var out []literal
	for _, p := range m.Patterns() {
		if p.Exclusion() == exclusions {
			out = append(out, leading(p.String()))
		}
	}
	return out
}

func leading(pattern string) literal {
	parts := strings.Split(pattern, "/")
	for i, part := range parts {
		if strings.ContainsAny(part, `*?[]\^`) {
			return parts[:i]
		}
	}
	return parts
}

// leads tells whether a path below dir can begin with one of the literals.
func leads(ls []literal, dir string) bool {
	for _, l := range ls {
		if l.leads(dir) {
			return true
		}
	}
	return false
}

func (l literal) leads(dir string) bool {
	for _, part := range l {
		name, rest, more := strings.Cut(dir, "/")
		if name != part {
			return false
		}
		if !more {
			return true
		}
		dir = rest
	}
	return true
}
