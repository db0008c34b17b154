package conformance

import (
	"os"
	"path/filepath"
	"testing"
)

// TestConformance builds every case with both.
func TestConformance(t *testing.T) {
	l := newLab(t)
	t.Run("build", func(t *testing.T) { each(t, "testdata/build", 150, l.compare) })
	t.Run("fleet", l.fleet)
	t.Run("refuse", func(t *testing.T) { each(t, "testdata/refuse", 60, l.refuse) })
}

// each runs the cases of a directory, of which there are at least so many.
func each(t *testing.T, dir string, least int, test func(*testing.T, *testCase)) {
	files, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < least {
		t.Errorf("%s has %d cases, and the suite promises %d", dir, len(files), least)
	}
	for _, file := range files {
		c, err := read(file)
		if err != nil {
			t.Error(err)
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			test(t, c)
		})
	}
}

// open makes a case's files, and serves them.
func (l *lab) open(t *testing.T, c *testCase) {
	t.Helper()
	c.dir, c.replace = t.TempDir(), l.replacer(c.name)
	l.cases.Store(c.name, c.dir)
	c.prepare(t)
	l.buildBase(t, c)
}

// compare builds a case that both must build alike, and again after a change.
func (l *lab) compare(t *testing.T, c *testCase) {
	l.open(t, c)
	l.compareOnce(t, c)
	if c.change != "" {
		c.script(t, c.change)
		l.compareOnce(t, c)
	}
}

func (l *lab) compareOnce(t *testing.T, c *testCase) {
	t.Helper()
	theirs := l.runBuildkit(t, c)
	if theirs.code != 0 {
		t.Fatalf("buildkitd does not build the case:\n%s", theirs.stderr)
	}
	want, err := images(theirs.archive)
	if err != nil {
		t.Fatal(err)
	}
	l.mustEqual(t, c, want, l.runStrata(t, c))
	if !t.Failed() {
		l.mustEqual(t, c, want, l.runStrata(t, c, "--engine", "buildkit", "--addr", l.address))
	}
}

// mustEqual compares what Strata built with what buildkitd did.
func (l *lab) mustEqual(t *testing.T, c *testCase, want []picture, ours outcome) {
	t.Helper()
	if ours.code != 0 {
		t.Fatalf("Strata does not build what buildkitd builds (exit code %d):\n%s", ours.code, ours.stderr)
	}
	got, err := images(ours.archive)
	if err != nil {
		t.Fatal(err)
	}
	if len(want) != c.platforms || len(got) != c.platforms {
		t.Fatalf("%d images were expected; buildkitd makes %d, Strata %d", c.platforms, len(want), len(got))
	}
	for i := range want {
		if diff := difference(want[i], got[i]); diff != "" {
			t.Errorf("- is buildkitd's, + is Strata's:\n%s", diff)
		}
	}
}

// refuse builds a case that both must refuse, at the same line.
func (l *lab) refuse(t *testing.T, c *testCase) {
	l.open(t, c)
	theirs := l.runBuildkit(t, c)
	if theirs.code == 0 {
		t.Fatal("buildkitd builds what must fail")
	}
	ours := l.runStrata(t, c)
	if ours.code != 1 {
		t.Fatalf("Strata's exit code is %d instead of 1:\n%s", ours.code, ours.stderr)
	}
	line, message := strataError(ours.stderr)
	message = l.restorer(c).Replace(message)
	if at := buildkitLine(theirs.stderr); at != 0 && at != line {
		t.Errorf("Strata complains about line %d, and buildkitd about line %d:\n%s\n%s", line, at, ours.stderr, theirs.stderr)
	}
	if os.Getenv("UPDATE") != "" {
		if err := c.pin(line, message); err != nil {
			t.Fatal(err)
		}
		return
	}
	if line != c.line || message != c.message {
		t.Errorf("Strata says, at line %d:\n  %s\nand is expected to say, at line %d:\n  %s", line, message, c.line, c.message)
	}
}
