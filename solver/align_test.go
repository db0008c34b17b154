package solver

import (
	"slices"
	"strings"
	"testing"

	digest "github.com/opencontainers/go-digest"
)

// chain makes steps, each the input of the next, from names such as
// "exec make" or "source base". Equal names are equal ops.
func chain(names ...string) (steps []buildStep) {
	var below string
	for i, name := range names {
		kind, rest, _ := strings.Cut(name, " ")
		below += "\x00" + name
		s := buildStep{Name: rest, Kind: kind, Op: digest.FromString(name), Definition: digest.FromString(below)}
		if i > 0 {
			s.Inputs = []int{i - 1}
		}
		steps = append(steps, s)
	}
	return steps
}

func TestAlign(t *testing.T) {
	long := []string{"source base", "exec a", "exec b", "exec c"}
	for _, tc := range []struct {
		name      string
		prev, cur []string
		match     []int
		removed   []string
	}{
		{"nothing before", nil, long, []int{none, none, none, none}, nil},
		{"nothing after", long, nil, nil, []string{"base", "a", "b", "c"}},
		{"equal", long, long, []int{0, 1, 2, 3}, nil},
		{"base changed", long, []string{"source other", "exec a", "exec b", "exec c"}, []int{0, 1, 2, 3}, nil},
		{"inserted", long, []string{"source base", "exec a", "exec new thing", "exec b", "exec c"}, []int{0, 1, none, 2, 3}, nil},
		{"removed", long, []string{"source base", "exec b", "exec c"}, []int{0, 2, 3}, []string{"a"}},
		{"edited", []string{"source base", "exec make all", "exec test"},
			[]string{"source base", "exec make all install", "exec test"}, []int{0, 1, 2}, nil},
		{"replaced", long, []string{"source base", "exec a", "exec something else", "exec c"}, []int{0, 1, 2, 3}, nil},
		{"target replaced", long, []string{"source base", "exec a", "exec b", "exec something else"}, []int{0, 1, 2, 3}, nil},
		{"kind replaced", long, []string{"source base", "exec a", "file copy", "exec c"}, []int{0, 1, none, 3}, []string{"b"}},
		{"swapped", long, []string{"source base", "exec b", "exec a", "exec c"}, []int{0, 2, 1, 3}, nil},
		{"twice the same", []string{"source base", "exec a", "exec a"},
			[]string{"source new", "exec a", "exec a"}, []int{0, 1, 2}, nil},
		{"most similar", []string{"source base", "exec compile -O1 everything", "exec compile -O2 everything"},
			[]string{"source base", "exec compile -O2 everything!"}, []int{0, 2}, []string{"compile -O1 everything"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := align(chain(tc.prev...), chain(tc.cur...))
			if !slices.Equal(a.match, tc.match) {
				t.Errorf("match %v, want %v", a.match, tc.match)
			}
			if got := a.removed(); !slices.Equal(got, tc.removed) {
				t.Errorf("removed %q, want %q", got, tc.removed)
			}
		})
	}
}

func TestDifferencesWithoutAName(t *testing.T) {
	prev := &build{Facts: []Fact{{"a", "1"}}, Steps: chain("source base", "exec a")}
	prev.Steps[1].Facts = []int{0}
	for want, change := range map[string]func(*buildStep){
		"definition changed":     func(s *buildStep) { s.Op, s.Facts = "other", []int{0} },
		"list of inputs changed": func(*buildStep) {},
		`a is gone, it was "1"`:  func(s *buildStep) { s.Op = "other" },
	} {
		now := &build{Facts: prev.Facts, Steps: chain("source base", "exec a")}
		now.Steps[1].Definition = "other"
		change(&now.Steps[1])
		if got := difference(align(prev.Steps, now.Steps), prev, now, 1).String(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestSimilarity(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want float64
	}{
		{"", "", 0}, {"a", "", 0}, {"abc", "abc", 1}, {"abcd", "abxd", 0.75}, {"aaaa", "aa", 0.5}, {"abc", "xyz", 0},
	} {
		if got := similarity(tc.a, tc.b); got != tc.want {
			t.Errorf("similarity of %q and %q is %v, want %v", tc.a, tc.b, got, tc.want)
		}
	}
}

func TestFingerprintOf(t *testing.T) {
	for data, want := range map[string]string{
		`{"fingerprint":"x","steps":[`: "x",
		`{"steps":[]}`:                 "",
		`{"fingerprint":1}`:            "",
		`{"other":"x"}`:                "",
		``:                             "",
		`[`:                            "",
	} {
		if got := fingerprintOf([]byte(data)); got != want {
			t.Errorf("fingerprint of %q is %q, want %q", data, got, want)
		}
	}
}

func FuzzDecodeBuild(f *testing.F) {
	f.Add([]byte(`{"fingerprint":"","facts":[{"name":"a","value":"b"}],"steps":[{"facts":[0]},{"inputs":[0]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		b := decodeBuild(data)
		now := chain("source base", "exec a")
		a := align(b.Steps, now)
		for i := range now {
			difference(a, b, &build{Steps: now}, i)
		}
		fingerprintOf(data)
	})
}
