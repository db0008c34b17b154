package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/strata-build/strata/internal/testenv"
)

// TestSBOMForEverybody wants the same bytes from root and from an ordinary
// user without any set-up, and from both storage drivers.
func TestSBOMForEverybody(t *testing.T) {
	testenv.Root(t)
	dir := forNobody(t, map[string]string{
		"src/Dockerfile":               "FROM scratch\nCOPY root /\n",
		"src/root/etc/os-release":      "ID=debian\nVERSION_ID=12\n",
		"src/root/var/lib/dpkg/status": "Package: p\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n",
		"src/root/srv/package.json":    `{"name": "left-pad", "version": "1.3.0"}`,
	})
	documents := map[string]string{}
	for _, user := range []uint32{0, nobody} {
		for _, driver := range []string{"overlay", "copy"} {
			name := map[uint32]string{0: "root", nobody: "nobody"}[user] + "-" + driver
			strata := func(args ...string) string {
				t.Helper()
				return asUser(t, dir, user, append([]string{"--root", filepath.Join(dir, "home", name), "--storage-driver", driver}, args...)...)
			}
			strata("build", "-q", "-t", "app", "src")
			documents[name] = strata("sbom", "app")
		}
	}
	want := documents["root-overlay"]
	if !strings.Contains(want, `"referenceLocator": "pkg:deb/debian/p@1?arch=all&distro=12"`) {
		t.Errorf("root gets\n%s", want)
	}
	for name, got := range documents {
		if got != want {
			t.Errorf("%s gets\n%s\nand root\n%s", name, got, want)
		}
	}
}

// nobody is an ordinary user.
const nobody = 65534

// forNobody makes a directory with files, a home of an ordinary user's, and
// the program under its name.
func forNobody(t *testing.T, files map[string]string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "strata-nobody-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	files["strata"] = string(program)
	for name, text := range files {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	home := filepath.Join(dir, "home")
	for _, err := range []error{os.Chmod(dir, 0o755), os.Mkdir(home, 0o700), os.Chown(home, nobody, nobody)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func asUser(t *testing.T, dir string, user uint32, args ...string) string {
	t.Helper()
	cmd := exec.Command(filepath.Join(dir, "strata"), args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + filepath.Join(dir, "home")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("strata %s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	return out.String()
}
