package schema

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestInit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "My Shop-2")
	written, err := Init(dir, InitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"cue.mod/module.cue", "cue.mod/pkg/strata.build/schema/schema.cue", "build.cue"}
	if !slices.Equal(written, want) {
		t.Errorf("wrote %q, want %q", written, want)
	}
	if err := Vet(context.Background(), LoadOptions{Dir: dir}); err != nil {
		t.Errorf("the starting file: %v", err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "build.cue"))
	if err != nil {
		t.Fatal(err)
	}
	if formatted, err := Format(data); err != nil || string(formatted) != string(data) {
		t.Errorf("the starting file is not formatted: %v\n%s", err, formatted)
	}
	spec, err := Load(context.Background(), LoadOptions{Dir: dir, Targets: []string{"my_shop_2"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := spec.Images[0].Context; got != dir {
		t.Errorf("the context is %s, want %s", got, dir)
	}
}

func TestInitKeepsWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	sub := filepath.Join(dir, "svc")
	files := map[string]string{
		"cue.mod/module.cue": moduleText("example.com/mine"),
		"svc/app.cue":        "package app\n\nimages: a: from: \"x\"\n",
	}
	for name, text := range files {
		writeFile(t, filepath.Join(dir, name), []byte(text))
	}
	old := filepath.Join(dir, "cue.mod/pkg/strata.build/schema/schema.cue")
	writeFile(t, old, []byte("package schema\n"))
	written, err := Init(sub, InitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"../cue.mod/pkg/strata.build/schema/schema.cue"}; !slices.Equal(written, want) {
		t.Errorf("wrote %q, want %q", written, want)
	}
	for name, text := range files {
		if data, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(data) != text {
			t.Errorf("%s was changed: %v\n%s", name, err, data)
		}
	}
	if data, err := os.ReadFile(old); err != nil || string(data) != Text() {
		t.Errorf("the vendored schema is not this one: %v", err)
	}
	if again, err := Init(sub, InitOptions{}); err != nil || len(again) != 0 {
		t.Errorf("a second time wrote %q, %v", again, err)
	}
}

func TestInitWithDependency(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "cue.mod/module.cue"),
		[]byte(moduleText("example.com/mine@v0")+"deps: \"strata.build@v0\": v: \"v0.1.0\"\n"))
	written, err := Init(dir, InitOptions{Image: "the-app"})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"build.cue"}; !slices.Equal(written, want) {
		t.Errorf("wrote %q, want %q: a vendored copy would be ambiguous", written, want)
	}
}
