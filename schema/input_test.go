package schema

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestInputs changes one thing after the other: the fingerprint changes just
// when the result may.
func TestInputs(t *testing.T) {
	dir := t.TempDir()
	files := map[string]string{
		"cue.mod/module.cue": moduleText("example.com/x"),
		"common.cue":         "package app\n\nteam: \"a\"\n",
		"svc/app.cue":        "@extern(embed)\n\npackage app\n\nimport \"example.com/x/base\"\n\n_m: string @embed(file=motd.txt,type=text)\n_c: _ @embed(glob=conf/*.conf,type=text,allowEmptyGlob)\nimages: a: {from: base.images.base, stages: d: dockerfile: \"Dockerfile\", labels: m: _m}\n",
		"svc/motd.txt":       "hi",
		"svc/Dockerfile":     "FROM x\n",
		"svc/other.txt":      "other",
		"svc/conf/old.conf":  "old",
		"base/base.cue":      "package base\n\nimages: base: from: \"x\"\n",
		"unused/unused.cue":  "package unused\n",
	}
	for name, text := range files {
		writeFile(t, filepath.Join(dir, name), []byte(text))
	}
	cases := []struct {
		change  string
		name    string
		matters bool
	}{
		{"edit", "common.cue", true},
		{"edit", "svc/app.cue", true},
		{"edit", "svc/motd.txt", true},
		{"edit", "svc/Dockerfile", true},
		{"edit", "svc/other.txt", false},
		{"edit", "base/base.cue", true},
		{"edit", "unused/unused.cue", false},
		{"edit", "cue.mod/module.cue", true},
		{"add", "svc/new.cue", true},
		{"add", "svc/conf/new.conf", true},
		{"add", "svc/new.txt", false},
		{"add", "base/new.cue", true},
		{"add", "new/new.cue", false},
		{"add", "cue.mod/usr/strata.build/schema/more.cue", true},
	}
	for _, c := range cases {
		t.Run(c.change+" "+c.name, func(t *testing.T) {
			before, after := fingerprints(t, dir, []string{"./svc"}, c.name, files[c.name])
			if (before != after) != c.matters {
				t.Errorf("the fingerprint changed: %v, want %v", before != after, c.matters)
			}
		})
	}
	t.Run("pattern", func(t *testing.T) {
		if before, after := fingerprints(t, dir, []string{"./..."}, "new/new.cue", ""); before == after {
			t.Error("a new package is not seen")
		}
	})
}

// fingerprints loads, changes or adds a file, and restores it.
func fingerprints(t *testing.T, dir string, args []string, name, text string) (before, after string) {
	t.Helper()
	spec, err := Load(context.Background(), LoadOptions{Dir: dir, Args: args})
	if err != nil {
		t.Fatal(err)
	}
	hash := func() string {
		sum, err := Fingerprint(spec.Inputs())
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	before = hash()
	full := filepath.Join(dir, name)
	writeFile(t, full, []byte(text+"\n"))
	after = hash()
	if text != "" {
		writeFile(t, full, []byte(text))
	} else if err := os.Remove(full); err != nil {
		t.Fatal(err)
	}
	if again := hash(); again != before {
		t.Error("the fingerprint is not that of the contents")
	}
	return before, after
}

// TestInputsLone sees that a lone file becomes part of a module.
func TestInputsLone(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "a/build.cue"), []byte("images: a: from: \"x\"\n"))
	before, after := fingerprints(t, dir, []string{"a/build.cue"}, "cue.mod/module.cue", "")
	if before == after {
		t.Error("a new module above is not seen")
	}
	spec, err := Load(context.Background(), LoadOptions{Dir: dir, Args: []string{"a/build.cue"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range spec.Inputs() {
		if !filepath.IsAbs(in.Path) || strings.Contains(in.Path, "..") {
			t.Errorf("the input %s is not absolute", in.Path)
		}
	}
}
