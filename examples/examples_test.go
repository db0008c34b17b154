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

// strata compiles the program.
func strata(t *testing.T) string {
	t.Helper()
	testenv.Root(t)
	name := filepath.Join(t.TempDir(), "strata")
	cmd := exec.Command("go", "build", "-o", name, "../cmd/strata")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("compile strata: %v\n%s", err, out)
	}
	return name
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

func TestGo(t *testing.T) {
	program := strata(t)
	host := testimage.Registry(t)
	golang := testimage.Push(t, host, "golang:1.26", testimage.Golang(t))
	store := t.TempDir()
	command(t, program, "go", store, "build", "--set", "golang="+golang, "--set", "version=1.2", ".")
	if out := command(t, program, ".", store, "run", "--rm", "api", "--version"); out != "api 1.2\n" {
		t.Errorf("it says %q", out)
	}
	// The Dockerfile beside it makes the same program, with the caches of the
	// build before it.
	command(t, program, "go", store, "build", "-f", "Dockerfile", "-t", "api:docker", "--build-arg", "golang="+golang, "--build-arg", "version=1.3", ".")
	if out := command(t, program, ".", store, "run", "--rm", "api:docker", "--version"); out != "api 1.3\n" {
		t.Errorf("the Dockerfile's says %q", out)
	}
}

func TestLNMP(t *testing.T) {
	program := strata(t)
	host := testimage.Registry(t)
	base := "base=" + testimage.Push(t, host, "debian:bookworm", testimage.Debian(t))
	store := t.TempDir()
	command(t, program, "lnmp", store, "build", "--progress", "plain", "--set", base, ".")
	out := command(t, program, ".", store, "run", "--rm", "--entrypoint", "sh", "lnmp", "-c",
		"nginx -t 2>&1; php -v; mariadbd --version; ls -l /srv/www /etc/service/nginx/run; stat -c %U /run/mysqld")
	for _, want := range []string{"test is successful", "PHP 8.2", "MariaDB", "www-data www-data", "-rwxr-xr-x", "mysql\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("the image lacks %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, "index.php.bak") {
		t.Errorf("an excluded file was copied:\n%s", out)
	}
}
