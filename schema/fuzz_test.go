package schema

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// FuzzLoad loads a lone file: whatever is in it, the result is a Spec or a
// message.
func FuzzLoad(f *testing.F) {
	archives, err := filepath.Glob("testdata/*/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range archives {
		archive, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range archive.Files {
			if filepath.Ext(file.Name) == ".cue" {
				f.Add(string(file.Data))
			}
		}
	}
	dir := f.TempDir()
	name := filepath.Join(dir, "build.cue")
	f.Fuzz(func(t *testing.T, src string) {
		spec, err := Load(context.Background(), LoadOptions{
			Dir: dir, Args: []string{name}, Overlay: map[string][]byte{name: []byte(src)}, Env: []string{"CUE_REGISTRY=none"},
		})
		if (spec == nil) == (err == nil) {
			t.Fatalf("spec %v, error %v", spec, err)
		}
		if spec != nil {
			if _, err := Print(&Document{Images: spec.Images, Dir: dir}); err != nil {
				t.Fatalf("print: %v", err)
			}
		}
	})
}

// FuzzFormat formats any text: the result is formatted, or a message.
func FuzzFormat(f *testing.F) {
	f.Add("images: a: {from: \"x\"}")
	f.Add("// comment\nx: {\n")
	f.Fuzz(func(t *testing.T, src string) {
		out, err := Format([]byte(src))
		if err != nil {
			return
		}
		if _, err := Format(out); err != nil {
			t.Fatalf("the result is not valid: %v\n%s", err, out)
		}
	})
}
