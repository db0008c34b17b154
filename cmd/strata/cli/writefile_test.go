package cli

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A file is replaced at once; links and pipes stay what they are.
func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	file, link, pipe := filepath.Join(dir, "file"), filepath.Join(dir, "link"), filepath.Join(dir, "pipe")
	if err := os.Symlink("file", link); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{file, link} {
		if err := WriteFile(name, []byte{'a' + byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != "b" {
		t.Errorf("through the link: %q, %v", got, err)
	}
	piped := make(chan string, 1)
	go func() {
		f, err := os.Open(pipe)
		if err != nil {
			piped <- err.Error()
			return
		}
		defer f.Close()
		got, err := io.ReadAll(f)
		if err != nil {
			got = []byte(err.Error())
		}
		piped <- string(got)
	}()
	if err := WriteFile(pipe, []byte("c")); err != nil {
		t.Fatal(err)
	}
	if got := <-piped; got != "c" {
		t.Errorf("through the pipe: %q", got)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 3 {
		t.Errorf("left: %v, %v", entries, err)
	}
	for name, want := range map[string]string{
		filepath.Join(dir, "no", "x"): "write " + dir + "/no/x: the directory " + dir + "/no does not exist",
		dir:                           "write " + dir + ": it is a directory",
	} {
		if err := WriteFile(name, nil); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
}
