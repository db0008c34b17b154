package schema

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
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

// outcome is what an archive's options give: the Spec or the mistakes.
func outcome(t *testing.T, dir, comment string) []txtar.File {
	opts := LoadOptions{Dir: dir, Env: []string{"CUE_REGISTRY=none", "HOME=" + dir}}
	vet, names := false, false
	for line := range strings.Lines(comment) {
		key, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch key {
		case "args":
			opts.Args = strings.Fields(rest)
		case "tags":
			opts.Tags = strings.Fields(rest)
		case "targets":
			opts.Targets = strings.Fields(rest)
		case "dir":
			opts.Dir = filepath.Join(dir, strings.TrimSpace(rest))
		case "vet":
			vet = true
		case "names":
			names = true
		}
	}
	ctx := context.Background()
	var files []txtar.File
	if names {
		list, err := Names(ctx, opts)
		files = append(files, rendered("want.names", strings.Join(list, "\n")+"\n", err, dir)...)
	} else if vet {
		err := Vet(ctx, opts)
		files = append(files, rendered("want.vet", "ok\n", err, dir)...)
	} else {
		spec, err := Load(ctx, opts)
		text := ""
		if err == nil {
			text = dump(spec, dir)
		}
		files = append(files, rendered("want.spec", text, err, dir)...)
	}
	return files
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

var _ = flag.Bool
var _ = fmt.Sprint
