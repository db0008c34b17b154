package pattern

import (
	"math/rand/v2"
	"path"
	"strings"
	"testing"

	"github.com/moby/patternmatcher"
)

// decide walks down to a path.
func decide(t *testing.T, f *Filter, p string) (Verdict, bool) {
	t.Helper()
	var st State
	var v Verdict
	parts := strings.Split(p, "/")
	for i := range parts {
		var err error
		v, st, err = f.Match(path.Join(parts[:i+1]...), st)
		if err != nil {
			t.Fatal(err)
		}
		if i < len(parts)-1 && !v.Descend {
			return Verdict{}, false
		}
	}
	return v, true
}

func TestFilter(t *testing.T) {
	for name, c := range map[string]struct {
		include, exclude  []string
		selected, dropped string
		unlisted          string // directories that need not be listed
	}{
		"everything":       {selected: "a a/b"},
		"include":          {include: []string{"a/b"}, selected: "a/b a/b/c", dropped: "a a/c b", unlisted: "b a/c"},
		"include wildcard": {include: []string{"a/*/c"}, selected: "a/b/c", dropped: "a a/b a/b/d", unlisted: "b"},
		"include deep":     {include: []string{"**/c"}, selected: "c a/c a/b/c c/d", dropped: "a a/b"},
		"exclude":          {exclude: []string{"a"}, selected: "b b/a", dropped: "a a/b", unlisted: "a"},
		"exclude but":      {exclude: []string{"a", "!a/b"}, selected: "a/b a/b/c", dropped: "a a/c", unlisted: "a/c"},
		"both":             {include: []string{"a"}, exclude: []string{"a/b"}, selected: "a a/c", dropped: "b a/b a/b/c", unlisted: "b a/b"},
		"blank include":    {include: []string{" "}, dropped: "a", unlisted: "a"},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := New(c.include, c.exclude)
			if err != nil {
				t.Fatal(err)
			}
			for _, g := range []*Filter{f, f.Clone()} {
				for _, p := range strings.Fields(c.selected) {
					if v, _ := decide(t, g, p); !v.Selected {
						t.Errorf("%s is not selected", p)
					}
				}
				for _, p := range strings.Fields(c.dropped) {
					if v, _ := decide(t, g, p); v.Selected {
						t.Errorf("%s is selected", p)
					}
				}
				for _, p := range strings.Fields(c.unlisted) {
					if v, _ := decide(t, g, p); v.Descend {
						t.Errorf("%s would be listed", p)
					}
				}
			}
		})
	}
	for _, bad := range [][2][]string{{{"["}, nil}, {nil, {"["}}, {nil, {"!"}}} {
		if _, err := New(bad[0], bad[1]); err == nil {
			t.Errorf("no error for %q", bad)
		}
	}
}

// Nothing below a directory that need not be listed would be selected.
func FuzzDescend(f *testing.F) {
	for seed := range uint64(500) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 1))
		name := func() string { return []string{"a", "b", "c"}[r.IntN(3)] }
		pattern := func() string {
			p := []string{"", "!"}[r.IntN(2)] + name()
			for r.IntN(2) == 0 {
				p += "/" + []string{name(), "*", "**", "[ab]", "?", name() + "*"}[r.IntN(6)]
			}
			return p
		}
		var include, exclude []string
		for range r.IntN(3) {
			include = append(include, pattern())
		}
		for range r.IntN(3) {
			exclude = append(exclude, pattern())
		}
		fl, err := New(include, exclude)
		if err != nil {
			return
		}
		for range 20 {
			p := name()
			for r.IntN(4) > 0 {
				p += "/" + name()
			}
			if v, reached := decide(t, fl, p); !reached && slow(t, include, exclude, p) {
				t.Errorf("include %q, exclude %q: %s is not reached, but selected", include, exclude, p)
			} else if reached && v.Selected != slow(t, include, exclude, p) {
				t.Errorf("include %q, exclude %q: %s is selected: %v", include, exclude, p, v.Selected)
			}
		}
	})
}

// slow decides without leaving anything out.
func slow(t *testing.T, include, exclude []string, p string) bool {
	t.Helper()
	in, out := true, false
	if len(include) > 0 {
		in = matches(t, include, p)
	}
	if len(exclude) > 0 {
		out = matches(t, exclude, p)
	}
	return in && !out
}

func matches(t *testing.T, patterns []string, p string) bool {
	t.Helper()
	pm, err := patternmatcher.New(patterns)
	if err != nil {
		t.Fatal(err)
	}
	var info patternmatcher.MatchInfo
	matched := false
	parts := strings.Split(p, "/")
	for i := range parts {
		if matched, info, err = pm.MatchesUsingParentResults(path.Join(parts[:i+1]...), info); err != nil {
			t.Fatal(err)
		}
	}
	return matched
}
