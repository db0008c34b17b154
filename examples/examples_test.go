// Package examples builds every example with the real program.
package examples

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/strata-build/strata/internal/testenv"
	"github.com/strata-build/strata/internal/testimage"
)

// strata returns the program.
func strata(t *testing.T) string {
	t.Helper()
	testenv.Root(t)
	shared.open(t)
	return filepath.Join(shared.dir, "strata")
}

// command runs the program on a store, and returns what it wrote.
func command(t *testing.T, program, dir, store string, args ...string) string {
	t.Helper()
	cmd := exec.Command(program, append([]string{"--root", store}, args...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("strata %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// digests builds dir in an empty store and returns the images' digests.
func digests(t *testing.T, program, dir string, args ...string) map[string]string {
	t.Helper()
	store, meta := t.TempDir(), filepath.Join(t.TempDir(), "meta.json")
	command(t, program, dir, store, append([]string{"build", "--progress", "plain", "--metadata-file", meta}, args...)...)
	data, err := os.ReadFile(meta)
	if err != nil {
		t.Fatal(err)
	}
	type metadata struct {
		Digest string `json:"containerimage.digest"`
	}
	var one metadata
	if err := json.Unmarshal(data, &one); err != nil {
		t.Fatal(err)
	}
	if one.Digest != "" {
		return map[string]string{"": one.Digest}
	}
	var several map[string]metadata
	if err := json.Unmarshal(data, &several); err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for name, m := range several {
		found[name] = m.Digest
	}
	return found
}

// sameTwice builds a copy of an example in two directories with two empty
// stores, and wants the same digests.
func sameTwice(t *testing.T, program, example string, args ...string) {
	t.Helper()
	var first map[string]string
	for range 2 {
		dir := filepath.Join(t.TempDir(), "copy")
		if err := os.CopyFS(dir, os.DirFS(example)); err != nil {
			t.Fatal(err)
		}
		got := digests(t, program, dir, args...)
		if len(got) == 0 {
			t.Fatal("nothing was built")
		}
		for name, d := range got {
			if first != nil && first[name] != d {
				t.Errorf("%s %s: the digests are %s and %s", example, name, first[name], d)
			}
		}
		first = got
	}
}

func TestHello(t *testing.T) {
	program := strata(t)
	dir := filepath.Join(t.TempDir(), "hello")
	if err := os.CopyFS(dir, os.DirFS("hello")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-o", filepath.Join(dir, "bin", "hello"), "./hello")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	store := t.TempDir()
	command(t, program, dir, store, "build", ".")
	if out := command(t, program, dir, store, "run", "--rm", "hello"); !strings.Contains(out, "Hello from an image") {
		t.Errorf("it says %q", out)
	}
	sameTwice(t, program, dir)
}

func TestMonorepo(t *testing.T) {
	program := strata(t)
	host := testimage.Registry(t)
	base := "base=" + testimage.Push(t, host, "busybox:1", testimage.Busybox(t))
	store := t.TempDir()
	out := command(t, program, "monorepo", store, "build", "--progress", "plain", "--set", base, "./...")
	if n := strings.Count(out, "] RUN echo app"); n != 1 {
		t.Errorf("the step of the shared base is shown %d times, want once:\n%s", n, out)
	}
	if !strings.Contains(out, "built 6 images") {
		t.Errorf("not all images were built:\n%s", out)
	}
	if out := command(t, program, ".", store, "run", "--rm", "api", "hello"); !strings.Contains(out, "api of the shop: hello") {
		t.Errorf("api says %q", out)
	}
	if out := command(t, program, ".", store, "run", "--rm", "--entrypoint", "cat", "web", "/srv/index.html"); out != "<h1>shop</h1>\n" {
		t.Errorf("web serves %q", out)
	}
	sameTwice(t, program, "monorepo", "--set", base, "./...")
}
