package mount_test

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func mkdir(t testing.TB, base, name string) string {
	t.Helper()
	dir := filepath.Join(base, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

func open(t testing.TB, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, unix.O_PATH, 0)
	if err != nil {
		t.Error(err)
		return nil
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func openAt(t testing.TB, root *os.File, name string, flags int) *os.File {
	t.Helper()
	fd, err := unix.Openat(int(root.Fd()), name, flags|unix.O_CLOEXEC, 0o644)
	if err != nil {
		t.Fatalf("open %s: %v", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	t.Cleanup(func() { f.Close() })
	return f
}

func readAt(t testing.TB, root *os.File, name string) string {
	t.Helper()
	b, err := io.ReadAll(openAt(t, root, name, unix.O_RDONLY))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func writeAt(t testing.TB, root *os.File, name, content string) {
	t.Helper()
	f := openAt(t, root, name, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC)
	if _, err := f.WriteString(content); err != nil {
		t.Fatal(err)
	}
}

func tryWrite(root *os.File, name string) error {
	fd, err := unix.Openat(int(root.Fd()), name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

func list(t testing.TB, root *os.File) []string {
	t.Helper()
	names, err := openAt(t, root, ".", unix.O_RDONLY|unix.O_DIRECTORY).Readdirnames(-1)
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func lstat(t testing.TB, path string) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return st
}
