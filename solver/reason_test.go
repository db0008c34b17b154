package solver_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/solver/pb"
	"github.com/strata-build/strata/solver"
)

// record is the part of a build record that tests look at.
type record struct {
	Fingerprint string            `json:"fingerprint"`
	Facts       []solver.Fact     `json:"facts"`
	Removed     []string          `json:"removed,omitempty"`
	Steps       []json.RawMessage `json:"steps"`
}

type recordStep struct {
	Name     string         `json:"name"`
	Verdict  solver.Verdict `json:"verdict"`
	Duration time.Duration  `json:"duration"`
}

func decode[T any](t *testing.T, data []byte) (v T) {
	t.Helper()
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func setDuration(t *testing.T, data []byte, name string, d time.Duration) []byte {
	rec := decode[record](t, data)
	for i, raw := range rec.Steps {
		fields := decode[map[string]any](t, raw)
		if fields["name"] == name {
			fields["duration"] = d
		}
		rec.Steps[i], _ = json.Marshal(fields)
	}
	data, err := json.Marshal(rec)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func durations(t *testing.T, b *bench) map[string]time.Duration {
	data, _, err := b.records.Get(t.Context(), solver.BucketBuilds, "app")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]time.Duration{}
	for _, raw := range decode[record](t, data).Steps {
		s := decode[recordStep](t, raw)
		all[s.Name] = s.Duration
	}
	return all
}

func facts(pairs ...string) (list []solver.Fact) {
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, solver.Fact{Name: pairs[i], Value: pairs[i+1]})
	}
	return list
}

func TestReasonsOfChangedFacts(t *testing.T) {
	for _, tc := range []struct {
		name, op      string
		before, after []solver.Fact
		want          string
	}{
		{"env", "mid", facts("env FOO", "1"), facts("env FOO", "2"), `env FOO changed from "1" to "2"`},
		{"new env", "mid", nil, facts("env FOO", "2"), `env FOO is new: "2"`},
		{"env gone", "mid", facts("env FOO", "1"), nil, `env FOO is gone, it was "1"`},
		{"first of two", "mid", facts("env A", "1", "env B", "1"), facts("env A", "2", "env B", "2"), `env A changed from "1" to "2"`},
		{"second of two", "mid", facts("env A", "1", "env B", "1"), facts("env A", "1", "env B", "2"), `env B changed from "1" to "2"`},
		{"base", "base", facts("base", "sha256:aa"), facts("base", "sha256:bb"), `base changed from "sha256:aa" to "sha256:bb"`},
		{"file", "src", facts("context", "go.mod"), facts("context", "src/main.go"), "file src/main.go changed"},
		{"many files", "src", facts("context", "go.mod"), facts("context", "a b c d e f g"),
			"file a changed, file b changed, file c changed, file d changed, file e changed, 2 more"},
		{"file unknown", "src", facts("context", "unreadable"), facts("context", "src/main.go"),
			"context changed (no details: manifest is gone)"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t)
			b.world.facts[tc.op] = tc.before
			b.build(stack(), "base", "mid", "src", "top")
			b.world.facts[tc.op] = tc.after
			out, err := b.try(t.Context(), stack())
			if err != nil {
				t.Fatal(err)
			}
			reason(t, out, tc.op, solver.Ran, tc.want)
		})
	}
}

func TestReasonOfAChangedCommand(t *testing.T) {
	b := newBench(t)
	build := func(command string) *solver.Outcome {
		g := &llbWriter{}
		out, err := b.try(t.Context(), g.target(g.exec("top", g.exec(command, g.source("base")))))
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	build("make all")
	out := build("make all install")
	reason(t, out, "make all install", solver.Ran, `command changed from "make all" to "make all install"`)
	reason(t, out, "top", solver.Ran, `input "make all install" changed`)

	// Nothing alike in the names, but in the same place.
	out = build("ninja")
	reason(t, out, "ninja", solver.Ran, `command changed from "make all install" to "ninja"`)
}

func TestReasonsOfAddedAndRemovedSteps(t *testing.T) {
	b := newBench(t)
	build := func(commands ...string) *solver.Outcome {
		g := &llbWriter{}
		r := g.source("base")
		for _, c := range commands {
			r = g.exec(c, r)
		}
		out, err := b.try(t.Context(), g.target(r))
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	build("apt-get install", "compile the program", "strip")
	out := build("apt-get install", "fetch", "compile the program", "strip")
	reason(t, out, "apt-get install", solver.Cached, "unchanged")
	reason(t, out, "fetch", solver.Ran, "a new step")
	reason(t, out, "compile the program", solver.Ran, `its input is "fetch" and was "apt-get install"`)
	reason(t, out, "strip", solver.Ran, `input "compile the program" changed`)

	build("apt-get install", "compile the program", "test it", "strip")
	e, err := solver.Why(t.Context(), b.records, "app")
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"fetch"}; !slices.Equal(e.Removed, want) {
		t.Errorf("removed %q, want %q", e.Removed, want)
	}
}

// midKey is the key of a record of mid.
func midKey(t *testing.T, b *bench) string {
	t.Helper()
	out := b.build(stack(), "base", "mid", "src", "top")
	b.world.facts["top"] = facts("env A", "1") // so that mid is looked up
	return string(step(t, out, "mid").Definition)
}

func TestReasonOfARemovedResult(t *testing.T) {
	b := newBench(t)
	midKey(t, b)
	b.world.gone["mid[base src].1"] = true
	out := b.build(stack(), "mid", "top")
	reason(t, out, "mid", solver.Ran, "unchanged, but its result is gone (pruned)")
	reason(t, out, "top", solver.Ran, `env A is new: "1"`)
}

func TestReasonOfARemovedRecord(t *testing.T) {
	b := newBench(t)
	key := midKey(t, b)
	b.records.Delete(solver.BucketResults, key)
	// The content record is still there, and does as well.
	out := b.build(stack(), "top")
	reason(t, out, "mid", solver.Cached, "its inputs changed, but not what it sees of them")

	b = newBench(t)
	key = midKey(t, b)
	b.records.Delete(solver.BucketResults, key)
	for _, content := range b.records.Keys(solver.BucketContent) {
		b.records.Delete(solver.BucketContent, content)
	}
	out = b.build(stack(), "mid", "top")
	reason(t, out, "mid", solver.Ran, "unchanged, but its result is gone (pruned)")
}

func TestReasonOfADamagedRecord(t *testing.T) {
	b := newBench(t)
	key := midKey(t, b)
	damage := func() {
		b.records.Damage(solver.BucketResults, key)
		for _, bucket := range []string{solver.BucketContent, solver.BucketOps} {
			for _, key := range b.records.Keys(bucket) {
				b.records.Damage(bucket, key)
			}
		}
	}
	damage()
	out := b.build(stack(), "mid", "top")
	reason(t, out, "mid", solver.Ran, "its record is damaged")

	// The record was replaced by a good one.
	b.world.facts["top"] = facts("env A", "2")
	out = b.build(stack(), "top")
	reason(t, out, "mid", solver.Cached, "unchanged")
}

func TestReasonOfADamagedContentRecord(t *testing.T) {
	b := newBench(t)
	b.build(stack(), "base", "mid", "src", "top")
	for _, key := range b.records.Keys(solver.BucketContent) {
		b.records.Damage(solver.BucketContent, key)
	}
	b.world.facts["src"] = facts("context", "new")
	b.world.makes["src"] = "src"
	out := b.build(stack(), "mid", "src", "top")
	reason(t, out, "mid", solver.Ran, "its record is damaged")
}

// Records with the right checksum and the wrong content.
func TestReasonOfASenselessRecord(t *testing.T) {
	for _, data := range []string{`{`, `{"no":"list"}`, `[]`, `["one output"]`, `null`} {
		b := newBench(t)
		key := midKey(t, b)
		for _, bucket := range []string{solver.BucketResults, solver.BucketContent} {
			for _, k := range b.records.Keys(bucket) {
				if bucket == solver.BucketContent || k == key {
					if err := b.records.Put(t.Context(), bucket, k, []byte(data), nil); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		out := b.build(stack(), "mid", "top")
		reason(t, out, "mid", solver.Ran, "its record is damaged")
	}
}

func TestNoCache(t *testing.T) {
	b := newBench(t)
	b.build(stack(), "base", "mid", "src", "top")
	b.request.NoCache = func(v *solver.Vertex) bool { return opName(v) == "mid" }
	out := b.build(stack(), "mid")
	reason(t, out, "mid", solver.Ran, "the cache is switched off for it")
	reason(t, out, "top", solver.Cached, "its inputs changed, but not what it sees of them")

	// What the forced run made is what is found later, and what uses it is
	// rebuilt when it is not what it was.
	b.world.makes["mid"] = "something else"
	out = b.build(stack(), "mid", "top")
	reason(t, out, "top", solver.Ran, `input "mid" changed`)
	b.request.NoCache = nil
	out = b.build(stack())
	if out.Results[0] != "top[something else]" {
		t.Errorf("result %q", out.Results[0])
	}
}

func TestIgnoreCacheOfTheMetadata(t *testing.T) {
	b := newBench(t)
	g := &llbWriter{}
	mid := g.exec("mid", g.source("base"))
	def := g.target(g.exec("top", mid))
	b.build(def, "base", "mid", "top")
	g.meta(mid, &pb.OpMetadata{IgnoreCache: true})
	out := b.build(g.target(g.exec("top", mid)), "mid")
	reason(t, out, "mid", solver.Ran, "the cache is switched off for it")
}

func TestReasonsAreOfTheTargetsOwnLastBuild(t *testing.T) {
	b := newBench(t)
	solve := func(value string) *solver.Outcome {
		b.world.facts["mid"] = facts("env A", value)
		g := &llbWriter{}
		mid := g.exec("mid", g.source("base"))
		out, err := solver.New(b.world, b.records).Solve(t.Context(), b.graph(map[string]*pb.Definition{
			"one": g.target(g.exec("one", mid)), "two": g.target(g.exec("two", mid)),
		}))
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	solve("1")
	solve("2")
	for target, want := range map[string]string{"one": `input "mid" changed`, "two": `input "mid" changed`} {
		e, err := solver.Why(t.Context(), b.records, target)
		if err != nil {
			t.Fatal(err)
		}
		if got := e.Steps[len(e.Steps)-1].Reason.String(); got != want {
			t.Errorf("%s: %s, want %s", target, got, want)
		}
		if e.First != 1 || e.Steps[1].Reason.String() != `env A changed from "1" to "2"` {
			t.Errorf("%s: first %d of %v", target, e.First, e.Steps)
		}
	}
}

// The record of a target's last build may come when its vertex is at work for
// another target already.
func TestTargetThatBeginsLate(t *testing.T) {
	b := newBench(t)
	solve := func() {
		g := &llbWriter{}
		mid := g.exec("mid", g.source("base"))
		if _, err := solver.New(b.world, b.records).Solve(t.Context(), b.graph(map[string]*pb.Definition{
			"early": g.target(g.exec("top", mid)), "late": g.target(mid),
		})); err != nil {
			t.Fatal(err)
		}
	}
	solve()
	atWork, begun := make(chan struct{}), make(chan struct{})
	b.world.facts["mid"] = facts("context", "src/main.go")
	b.world.run["mid"] = func(context.Context, solver.Progress) error {
		close(atWork)
		<-begun
		return nil
	}
	b.records.Fail = func(op, bucket, key string) error {
		if op == "get" && bucket == solver.BucketBuilds && key == "late" {
			<-atWork
			close(begun)
		}
		return nil
	}
	solve()
	b.records.Fail = nil
	e, err := solver.Why(t.Context(), b.records, "late")
	if err != nil {
		t.Fatal(err)
	}
	if got := e.Steps[1].Reason.String(); got != `context is new: "src/main.go"` {
		t.Errorf("reason %q", got)
	}
}

// A target that is found has steps below it that another one had to build.
func TestReasonsBelowATargetThatWasFound(t *testing.T) {
	b := newBench(t)
	solve := func() *solver.Outcome {
		g := &llbWriter{}
		mid := g.exec("mid", g.source("base"))
		out, err := solver.New(b.world, b.records).Solve(t.Context(), b.graph(map[string]*pb.Definition{
			"a": g.target(g.exec("a", mid)), "b": g.target(g.exec("b", mid)),
		}))
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	solve()
	b.world.gone["mid[base]"] = true
	b.world.facts["b"] = facts("env A", "1")
	out := solve()
	b.ran("a", "b", "base", "mid", "mid", "b")
	reason(t, out, "a", solver.Cached, "unchanged")
	e, err := solver.Why(t.Context(), b.records, "a")
	if err != nil {
		t.Fatal(err)
	}
	if got := e.Steps[1].Reason.String(); got != "unchanged, but its result is gone (pruned)" {
		t.Errorf("reason %q", got)
	}
}

func TestUnnamedTargetLeavesNoRecord(t *testing.T) {
	b := newBench(t)
	if _, err := solver.New(b.world, b.records).Solve(t.Context(), b.graph(map[string]*pb.Definition{"": stack()})); err != nil {
		t.Fatal(err)
	}
	if n := b.records.Count("put", solver.BucketBuilds) + b.records.Count("get", solver.BucketBuilds); n != 0 {
		t.Errorf("%d uses of build records", n)
	}
}

func TestEqualBuildsAreRecordedOnce(t *testing.T) {
	b := newBench(t)
	b.build(stack(), "base", "mid", "src", "top")
	b.build(stack())
	if n := b.records.Count("put", solver.BucketBuilds); n != 2 {
		t.Fatalf("%d records written, want one per build so far", n)
	}
	b.build(stack())
	b.build(stack())
	if n := b.records.Count("put", solver.BucketBuilds); n != 2 {
		t.Errorf("%d records written, though nothing changed", n)
	}
}

func TestDamagedBuildRecord(t *testing.T) {
	for _, damage := range []func(*bench){
		func(b *bench) { b.records.Damage(solver.BucketBuilds, "app") },
		func(b *bench) { _ = b.records.Put(b.Context(), solver.BucketBuilds, "app", []byte(`[`), nil) },
		func(b *bench) {
			_ = b.records.Put(b.Context(), solver.BucketBuilds, "app", []byte(`{"steps":[{"inputs":[4]}]}`), nil)
		},
		func(b *bench) {
			_ = b.records.Put(b.Context(), solver.BucketBuilds, "app", []byte(`{"steps":[{"facts":[-1]}]}`), nil)
		},
	} {
		b := newBench(t)
		b.build(stack(), "base", "mid", "src", "top")
		damage(b)
		if _, err := solver.Why(t.Context(), b.records, "app"); !errors.Is(err, solver.ErrDamaged) {
			t.Errorf("why: %v", err)
		}
		b.world.facts["mid"] = facts("env A", "1")
		out := b.build(stack(), "mid", "top")
		reason(t, out, "mid", solver.Ran, "the record of the last build is damaged")
		if _, err := solver.Why(t.Context(), b.records, "app"); err != nil {
			t.Errorf("why after another build: %v", err)
		}
	}
}

func TestWhyOfAnUnknownTarget(t *testing.T) {
	b := newBench(t)
	if _, err := solver.Why(t.Context(), b.records, "app"); !errors.Is(err, solver.ErrNotBuilt) {
		t.Errorf("error %v", err)
	}
	b.records.Fail = func(string, string, string) error { return errBroken }
	if _, err := solver.Why(t.Context(), b.records, "app"); !errors.Is(err, errBroken) {
		t.Errorf("error %v", err)
	}
}

func TestExplanationAsText(t *testing.T) {
	b := newBench(t)
	b.world.facts["src"] = facts("context", "go.mod")
	b.build(stack(), "base", "mid", "src", "top")
	b.world.facts["src"] = facts("context", "src/main.go")
	g := &llbWriter{}
	b.build(g.target(g.exec("top", g.exec("mid", g.source("base"), g.source("src")), g.exec("lint\n  all"))),
		"lint\n  all", "mid", "src", "top")
	e, err := solver.Why(t.Context(), b.records, "app")
	if err != nil {
		t.Fatal(err)
	}
	want := `app: 4 of 5 steps ran
first difference: local://src: file src/main.go changed

cached    local://base: unchanged
ran       local://src: file src/main.go changed
ran       mid: input "local://src" changed
ran       lint all: a new step
ran       top: input "mid" changed
`
	if got := e.String(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}

	b.build(stack(), "top") // the first top again, but of the new mid
	e, err = solver.Why(t.Context(), b.records, "app")
	if err != nil {
		t.Fatal(err)
	}
	if got := e.String(); !strings.HasSuffix(got, "\nremoved   lint all: no longer a step\n") {
		t.Errorf("got:\n%s", got)
	}

	b.build(stack())
	e, err = solver.Why(t.Context(), b.records, "app")
	if err != nil {
		t.Fatal(err)
	}
	want = `app: 0 of 4 steps ran

cached    local://base: not needed, as what uses it was found
cached    local://src: not needed, as what uses it was found
cached    mid: not needed, as what uses it was found
cached    top: unchanged
`
	if got := e.String(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestLongValuesAreShortened(t *testing.T) {
	b := newBench(t)
	b.world.facts["mid"] = facts("script", strings.Repeat("x", 5000)+"a"+strings.Repeat("z", 5000))
	b.build(stack(), "base", "mid", "src", "top")
	b.world.facts["mid"] = facts("script", strings.Repeat("x", 5000)+"b"+strings.Repeat("z", 5000))
	out := b.build(stack(), "mid", "top")
	r := step(t, out, "mid").Reason
	if !strings.HasPrefix(r.Before, "…") || !strings.HasSuffix(r.Before, "…") {
		t.Errorf("the cuts do not show in %q", r.Before)
	}
	if len(r.Before) > 200 || len(r.After) > 200 || !strings.Contains(r.Before, "xa") || !strings.Contains(r.After, "xb") {
		t.Errorf("before %q, after %q", r.Before, r.After)
	}
}
