package schema

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// TestVocabulary asks the decoder for every field of the schema.
func TestVocabulary(t *testing.T) {
	words := readVocabulary()
	where := map[string]string{
		"#File":        "%s: null",
		"#Image":       "images: a: %s: null",
		"#Config":      "images: a: steps: [{set: %s: null}]",
		"#Healthcheck": "images: a: healthcheck: %s: null",
		"#Source":      "images: a: from: {local: null, %s: null}",
		"#Secret":      "images: a: steps: [{run: \"x\", secrets: X: %s: null}]",
		"#Device":      "images: a: steps: [{run: \"x\", devices: [{%s: null}]}]",
		"#Switch":      "images: a: from: {switch: null, %s: null}",
	}
	for definition, fields := range words {
		if len(fields) == 0 {
			t.Errorf("%s has no fields", definition)
		}
		form, ok := where[definition]
		if !ok && definition != "#Step" && definition != "#Mount" {
			t.Errorf("%s is not tested", definition)
		}
		for _, field := range fields {
			if err := loadText(t, fmt.Sprintf(form, field)); ok && strings.Contains(err.Error(), "unknown field") {
				t.Errorf("%s: %v", definition, err)
			}
		}
	}
	var used []string
	for _, v := range verbs {
		used = append(append(used, string(v.verb)), uses(v.verb)...)
	}
	sameWords(t, "#Step", used, words["#Step"])
	used = []string{"type"}
	for _, kind := range []string{"bind", "cache", "tmpfs", "secret", "ssh"} {
		used = append(used, mountUses(kind)...)
	}
	sameWords(t, "#Mount", used, words["#Mount"])
}

func sameWords(t *testing.T, definition string, used, words []string) {
	t.Helper()
	used, words = slices.Clone(used), slices.Clone(words)
	slices.Sort(used)
	slices.Sort(words)
	if used = slices.Compact(used); !slices.Equal(used, words) {
		t.Errorf("%s: the decoder has %q, the schema %q", definition, used, words)
	}
}

// loadText loads a lone file.
func loadText(t *testing.T, text string) error {
	t.Helper()
	dir := t.TempDir()
	name := filepath.Join(dir, "build.cue")
	_, err := Load(context.Background(), LoadOptions{Dir: dir, Args: []string{name}, Overlay: map[string][]byte{name: []byte(text)}})
	if err == nil {
		return fmt.Errorf("no error")
	}
	return err
}

// TestHollow sees that the hollow schema has all the definitions.
func TestHollow(t *testing.T) {
	words := readVocabulary()
	names := definitionNames(source)
	if len(names) != len(words) || len(names) < 5 {
		t.Errorf("the hollow schema has %q", names)
	}
	formatted, err := Format([]byte(source))
	if err != nil || string(formatted) != source {
		t.Errorf("the schema is not formatted: %v", err)
	}
}

// TestGoodIsValid vets what testdata/good loads: the schema accepts all that
// the decoder does.
func TestGoodIsValid(t *testing.T) {
	files, err := filepath.Glob("testdata/good/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no archives: %v", err)
	}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		for _, f := range archive.Files {
			writeFile(t, filepath.Join(dir, f.Name), f.Data)
		}
		opts := optionsOf(string(archive.Comment), dir).load
		if len(opts.Targets) > 0 {
			continue // what is no target may be wrong
		}
		if err := Vet(context.Background(), opts); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// TestSharedOnce sees that a base of many images is one Image.
func TestSharedOnce(t *testing.T) {
	spec, err := Load(context.Background(), LoadOptions{Dir: monorepo(t, 5), Args: []string{"./..."}})
	if err != nil {
		t.Fatal(err)
	}
	base := spec.Images[0]
	if base.Path != "images.base" || len(spec.Images) != 6 {
		t.Fatalf("the images begin with %s", base.Path)
	}
	for _, img := range spec.Images[1:] {
		if img.From.Image != base {
			t.Errorf("%s has a base of its own", img.Path)
		}
		if img.Steps[0].From.Image != img.Stages[0] {
			t.Errorf("%s copies from another image than its stage", img.Path)
		}
	}
}
