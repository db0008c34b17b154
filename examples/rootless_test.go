package examples

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/strata-build/strata/internal/testimage"
)

// nobody is an ordinary user without subordinate ids: its user namespace maps
// one id.
const nobody = 65534

// TestRootless builds and runs as an ordinary user without any set-up, and
// wants the digest that root's build has.
func TestRootless(t *testing.T) {
	program := strata(t)
	host := testimage.Registry(t)
	base := "base=" + testimage.Push(t, host, "busybox:1", testimage.Busybox(t))
	dir, err := os.MkdirTemp("", "strata-rootless-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	copied := filepath.Join(dir, "strata")
	data, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		os.WriteFile(copied, data, 0o755), os.CopyFS(filepath.Join(dir, "src"), os.DirFS("rootless")),
		os.Mkdir(filepath.Join(dir, "home"), 0o700), os.Chown(filepath.Join(dir, "home"), nobody, nobody), os.Chmod(dir, 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	store, meta := filepath.Join(dir, "home", "store"), filepath.Join(dir, "home", "meta.json")
	asNobody := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(copied, append([]string{"--root", store}, args...)...)
		cmd.Dir = filepath.Join(dir, "src")
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + filepath.Join(dir, "home")}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("strata %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	asNobody("build", "--set", base, "--metadata-file", meta, ".")
	if out := asNobody("run", "--rm", "rootless"); out != "uid 0, built by uid 0, owner 33\n" {
		t.Errorf("the container says %q", out)
	}
	if out := asNobody("build", "--set", base, "."); !strings.Contains(out, "nothing changed") {
		t.Errorf("the second build says %q", out)
	}
	rootless, err := os.ReadFile(meta)
	if err != nil {
		t.Fatal(err)
	}
	var m struct {
		Digest string `json:"containerimage.digest"`
	}
	if err := json.NewDecoder(bytes.NewReader(rootless)).Decode(&m); err != nil {
		t.Fatal(err)
	}
	if want := digests(t, program, "rootless", "--set", base, ".")[""]; m.Digest != want || want == "" {
		t.Errorf("the digest is %s, and %s as root", m.Digest, want)
	}
	asNobody("prune", "--all")
}
