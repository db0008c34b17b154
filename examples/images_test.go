package examples

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/strata-build/strata/internal/testenv"
	"github.com/strata-build/strata/internal/testimage"
)

// TestScratch builds an image of one static C program, as CUE and as the
// Dockerfile that it replaces.
func TestScratch(t *testing.T) {
	program := strata(t)
	dir := filepath.Join(t.TempDir(), "scratch")
	if err := os.CopyFS(dir, os.DirFS("scratch")); err != nil {
		t.Fatal(err)
	}
	gcc := exec.Command(testenv.Tool(t, "gcc"), "-static", "-Os", "-s", "-o", "hello", "hello.c")
	gcc.Dir = dir
	if out, err := gcc.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	store := t.TempDir()
	command(t, program, dir, store, "build", ".")
	command(t, program, dir, store, "build", "-f", "Dockerfile", "-t", "hello-c:docker", ".")
	for _, name := range []string{"hello-c", "hello-c:docker"} {
		if out := command(t, program, dir, store, "run", "--rm", name); out != "Hello from an image of one file\n" {
			t.Errorf("%s says %q", name, out)
		}
		var size, layers int
		out := command(t, program, dir, store, "inspect", "--format", "{{.Size}} {{len .RootFS.Layers}}", name)
		if _, err := fmt.Sscan(out, &size, &layers); err != nil {
			t.Fatal(err)
		}
		if size >= 1_000_000 || layers != 1 {
			t.Errorf("%s has %d bytes in %d layers, want less than 1 MB in one", name, size, layers)
		}
	}
	digests := strings.Fields(command(t, program, dir, store, "images", "--format", "{{.Digest}}", "hello-c"))
	if len(digests) != 2 || digests[0] != digests[1] {
		t.Errorf("the digests are %q, want the same twice", digests)
	}
	sameTwice(t, program, dir)
}

// TestImport makes debian:new of debootstrap's tree, and builds on it.
func TestImport(t *testing.T) {
	program := strata(t)
	store, archive := t.TempDir(), debianTar(t)
	imported := func(store string) string {
		t.Helper()
		tar, err := os.Open(archive)
		if err != nil {
			t.Fatal(err)
		}
		defer tar.Close()
		cmd := exec.Command(program, "--root", store, "import", "--change", `CMD ["bash"]`, "--change", "ENV LANG=C.UTF-8",
			"--message", "Debian 12 by debootstrap", "-", "debian:new")
		cmd.Stdin, cmd.Stderr = tar, os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	if first, second := imported(store), imported(t.TempDir()); first != second || first == "" {
		t.Errorf("the ids are %q and %q", first, second)
	}
	if out := command(t, program, ".", store, "run", "--rm", "debian:new", "cat", "/etc/debian_version"); !strings.HasPrefix(out, "12.") {
		t.Errorf("it is Debian %q", out)
	}
	if out := command(t, program, ".", store, "history", "debian:new"); !strings.Contains(out, "Debian 12 by debootstrap") {
		t.Errorf("the history lacks the message:\n%s", out)
	}
	command(t, program, "import", store, "build", ".")
	command(t, program, "import", store, "build", "-f", "Dockerfile", "-t", "os-release:docker", ".")
	for _, name := range []string{"os-release", "os-release:docker"} {
		if out := command(t, program, ".", store, "run", "--rm", name); !strings.Contains(out, "Debian GNU/Linux 12") {
			t.Errorf("%s says %q", name, out)
		}
	}
}

// debianTar writes the tree of the Debian base image as the tar that
// `tar -C rootfs -c .` makes of debootstrap's.
func debianTar(t *testing.T) string {
	t.Helper()
	layers, err := testimage.Debian(t).Layers()
	if err != nil {
		t.Fatal(err)
	}
	r, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	name := filepath.Join(t.TempDir(), "rootfs.tar")
	f, err := os.Create(name)
	if err == nil {
		_, err = io.Copy(f, r)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return name
}
