package schema

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/strata-build/strata/internal/nearest"
)

func TestLoadIsCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "build.cue"), []byte("images: a: from: \"x\"\n"))
	if _, err := Load(ctx, LoadOptions{Dir: dir}); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	if err := Vet(ctx, LoadOptions{Dir: dir}); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
}

// TestLoadOverlay loads a file that is not on the disk, in a directory that
// is not either.
func TestLoadOverlay(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	overlay := map[string][]byte{
		filepath.Join(dir, "build.cue"):      []byte("package app\n\nimages: a: from: \"x\"\n"),
		filepath.Join(dir, "more.cue"):       []byte("package app\n\nimages: a: user: \"me\"\n"),
		filepath.Join(dir, "sub", "sub.cue"): []byte("package sub\n\nimages: b: from: \"y\"\n"),
	}
	for _, args := range [][]string{nil, {"build.cue", "more.cue"}} {
		spec, err := Load(context.Background(), LoadOptions{Dir: dir, Args: args, Overlay: overlay})
		if err != nil {
			t.Fatal(err)
		}
		if len(spec.Images) != 1 || *spec.Images[0].Config.User != "me" {
			t.Errorf("%q gives %s", args, dump(spec, dir))
		}
	}
	_, err := Load(context.Background(), LoadOptions{Dir: dir, Args: []string{"build.cue"}, Overlay: map[string][]byte{
		filepath.Join(dir, "build.cue"): []byte("images: a: frmo: \"x\"\n"),
	}})
	var mistake *Error
	if !errors.As(err, &mistake) || mistake.Source != "images: a: frmo: \"x\"" {
		t.Errorf("the error is %#v", err)
	}
}

// TestLoadWorkingDirectory loads from the process's own directory.
func TestLoadWorkingDirectory(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("build.cue", []byte("images: a: frmo: \"x\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := Load(context.Background(), LoadOptions{})
	if err == nil || !strings.HasPrefix(err.Error(), "build.cue:1:12: images.a: unknown field") {
		t.Errorf("the error is %v", err)
	}
}

func TestNestedTooDeep(t *testing.T) {
	err := loadText(t, "images: a: "+strings.Repeat("from: ", 500)+"\"x\"\n")
	if !strings.Contains(err.Error(), "more than 100 deep") {
		t.Errorf("the error is %v", err)
	}
}

// TestManyMistakes sees that one load reports all mistakes, in the order of
// the source, each once.
func TestManyMistakes(t *testing.T) {
	err := loadText(t, `images: b: frmo: "x"
images: a: {user: 3, steps: [{rnu: "x"}, {run: ""}]}
#T: wrokdir: "/"
images: c: #T
images: d: #T
`)
	var list Errors
	if !errors.As(err, &list) {
		t.Fatalf("the error is %v", err)
	}
	var got []string
	for _, e := range list {
		got = append(got, e.Pos.String())
	}
	want := "build.cue:1:12 build.cue:2:19 build.cue:2:31 build.cue:2:48 build.cue:3:5"
	if strings.Join(got, " ") != want {
		t.Errorf("the mistakes are at %s, want %s\n%s", strings.Join(got, " "), want, list.Render())
	}
	var one *Error
	if !errors.As(err, &one) || one != list[0] {
		t.Errorf("errors.As finds %v", one)
	}
}

func TestSuggestions(t *testing.T) {
	cases := []struct{ name, want string }{
		{"entrypiont", "entrypoint"}, {"ENTRYPOINT", "entrypoint"}, {"entry-point", "entrypoint"},
		{"comand", ""}, {"cmds", "cmd"}, {"x", ""}, {"", ""}, {"evn", "env"}, {"cmd", ""},
	}
	for _, c := range cases {
		if got := nearest.Name(c.name, []string{"entrypoint", "cmd", "env"}); got != c.want {
			t.Errorf("%q is nearest to %q, want %q", c.name, got, c.want)
		}
	}
}
