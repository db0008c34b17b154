package compiler

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/strata-build/strata/schema"
)

// TestPlans compiles each archive of testdata/plan and compares the printed
// plan, or the rendered mistake. The comment of an archive gives what is
// loaded and options, a line each: "load: ./...", "platform: linux/arm64",
// "arg: A=1". UPDATE=1 rewrites the expectations.
func TestPlans(t *testing.T) {
	files, err := filepath.Glob("testdata/plan/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no archives: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { checkArchive(t, file) })
	}
}

func checkArchive(t *testing.T, file string) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	// The loader names a context by its real path.
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var inputs []txtar.File
	want := map[string]string{}
	for _, f := range archive.Files {
		if strings.HasPrefix(f.Name, "want.") {
			want[f.Name] = string(f.Data)
			continue
		}
		inputs = append(inputs, f)
		writeFiles(t, dir, map[string]string{f.Name: string(f.Data)})
	}
	name, got := outcome(t, dir, string(archive.Comment))
	got = strings.ReplaceAll(got, dir, "$DIR")
	if os.Getenv("UPDATE") != "" {
		archive.Files = append(inputs, txtar.File{Name: name, Data: []byte(got)})
		if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != want[name] {
		t.Errorf("%s is\n%s\nwant\n%s", name, got, want[name])
	}
}

// outcome is the printed plan, or the mistake, of the files in dir.
func outcome(t *testing.T, dir, comment string) (name, text string) {
	load := schema.LoadOptions{Dir: dir}
	build := buildOptions{args: map[string]string{}}
	for line := range strings.Lines(comment) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch key {
		case "load":
			load.Args = strings.Fields(value)
		case "platform":
			build.platform = value
		case "arg":
			k, v, _ := strings.Cut(value, "=")
			build.args[k] = v
		}
	}
	spec, err := schema.Load(context.Background(), load)
	if err != nil {
		t.Fatalf("load: %v", err)
	}
	opts := build.options(t)
	opts.Layouts = layouts{}
	opts.Source = func(file string) []byte {
		text, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return nil
		}
		return text
	}
	plan, err := Compile(context.Background(), spec, opts)
	var mistake *schema.Error
	switch {
	case errors.As(err, &mistake):
		return "want.error", mistake.Render()
	case err != nil:
		return "want.error", err.Error() + "\n"
	}
	var b bytes.Buffer
	if err := plan.Text(&b); err != nil {
		t.Fatal(err)
	}
	return "want.txt", b.String()
}
