package schema

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// update rewrites the expectations in testdata: UPDATE=1 go test ./schema.
func update() bool { return os.Getenv("UPDATE") != "" }

// TestTxtar loads each archive of testdata/load and compares the Spec or the
// rendered mistakes. The comment of an archive gives the options, a line
// each: "args: ./...", "tags: a=1 b=2", "targets: api", "vet".
func TestTxtar(t *testing.T) {
	files, err := filepath.Glob("testdata/*/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no archives: %v", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(strings.TrimPrefix(file, "testdata/"), ".txtar")
		t.Run(name, func(t *testing.T) { runArchive(t, file) })
	}
}

func runArchive(t *testing.T, file string) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var inputs []txtar.File
	want := map[string]string{}
	for _, f := range archive.Files {
		if strings.HasPrefix(f.Name, "want.") {
			want[f.Name] = string(f.Data)
			continue
		}
		inputs = append(inputs, f)
		writeFile(t, filepath.Join(dir, f.Name), f.Data)
	}
	got := outcome(t, dir, string(archive.Comment))
	if update() {
		archive.Files = append(inputs, got...)
		if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for _, f := range got {
		if w, ok := want[f.Name]; !ok {
			t.Errorf("unexpected %s:\n%s", f.Name, f.Data)
		} else if w != string(f.Data) {
			t.Errorf("%s is\n%s\nwant\n%s", f.Name, f.Data, w)
		}
		delete(want, f.Name)
	}
	for name, text := range want {
		t.Errorf("%s is missing, want\n%s", name, text)
	}
}

func writeFile(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// options are what the comment of an archive asks for.
type options struct {
	load             LoadOptions
	vet, names, init bool
}

func optionsOf(comment, dir string) options {
	opts := options{load: LoadOptions{Dir: dir, Env: []string{"CUE_REGISTRY=none", "HOME=" + dir}}}
	for line := range strings.Lines(comment) {
		key, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch key {
		case "args":
			opts.load.Args = strings.Fields(rest)
		case "tags":
			opts.load.Tags = strings.Fields(rest)
		case "targets":
			opts.load.Targets = strings.Fields(rest)
		case "dir":
			opts.load.Dir = filepath.Join(dir, strings.TrimSpace(rest))
		case "vet":
			opts.vet = true
		case "names":
			opts.names = true
		case "init":
			opts.init = true
		}
	}
	return opts
}

// outcome is what an archive's options give: the Spec or the mistakes.
func outcome(t *testing.T, dir, comment string) []txtar.File {
	t.Helper()
	opts := optionsOf(comment, dir)
	ctx := context.Background()
	if opts.init {
		if _, err := Init(opts.load.Dir, InitOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	switch {
	case opts.names:
		list, err := Names(ctx, opts.load)
		return rendered("want.names", strings.Join(list, "\n")+"\n", err, dir)
	case opts.vet:
		return rendered("want.vet", "ok\n", Vet(ctx, opts.load), dir)
	}
	spec, err := Load(ctx, opts.load)
	if err != nil {
		return rendered("want.err", "", err, dir)
	}
	return rendered("want.spec", dump(spec, dir), nil, dir)
}

func rendered(name, text string, err error, dir string) []txtar.File {
	if err == nil {
		return []txtar.File{{Name: name, Data: []byte(text)}}
	}
	text = err.Error() + "\n"
	var list Errors
	var one *Error
	switch {
	case errors.As(err, &list):
		text = list.Render()
	case errors.As(err, &one):
		text = one.Render()
	}
	return []txtar.File{{Name: "want.err", Data: bytes.ReplaceAll([]byte(text), []byte(dir), []byte("$DIR"))}}
}
