package dockerfilecompat

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestReadBelow: to links the context is the root, and nothing is waited for.
func TestReadBelow(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "sub", "deep"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "sub", "file"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{
		"absolute": "/sub/file", "above": "../../../sub/file", "sub/deep/up": "../file", "dir": "sub/deep/..",
		"outside": "/etc/hostname", "self": "self", "nowhere": "sub/file/x", "out": "..",
	} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"sub/file": "", "absolute": "", "above": "", "sub/deep/up": "", "dir/file": "", "/../sub//./file": "", "out/out/sub/file": "",
		"outside": "no such file", "self": "too many levels", "nowhere": "not a directory", "missing": "no such file",
		"sub": "is no regular file", "pipe": "is no regular file",
	} {
		data, err := readBelow(dir, name)
		switch {
		case want == "" && (err != nil || string(data) != "text"):
			t.Errorf("%s: %q, %v", name, data, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, and not %q", name, err, want)
		}
	}
}
