package faulttest

import (
	"archive/tar"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/internal/testimage"
)

// noise is data that does not compress, the same each time.
func noise(size int) []byte {
	data := make([]byte, size)
	source := rand.NewChaCha8([32]byte{1})
	_, _ = source.Read(data) // never fails
	return data
}

// disk is a small file system of the test's own.
type disk struct {
	t   *testing.T
	dir string
}

func newDisk(t *testing.T, megabytes int) disk {
	t.Helper()
	d := disk{t, filepath.Join(t.TempDir(), "disk")}
	if err := os.Mkdir(d.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", d.dir, "tmpfs", 0, fmt.Sprintf("mode=755,size=%dm", megabytes)); err != nil {
		t.Fatalf("mount a file system: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(d.dir, 0); err != nil {
			t.Errorf("unmount %s: something still uses it: %v", d.dir, err)
		}
	})
	return d
}

// grow makes space.
func (d disk) grow(megabytes int) {
	d.t.Helper()
	if err := unix.Mount("tmpfs", d.dir, "tmpfs", unix.MS_REMOUNT, fmt.Sprintf("size=%dm", megabytes)); err != nil {
		d.t.Fatalf("remount %s: %v", d.dir, err)
	}
}

// bigImage is an image of one file of noise.
func bigImage(t *testing.T) v1.Image {
	t.Helper()
	data := noise(20 << 20)
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "noise", Mode: 0o644, Size: int64(len(data))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	img, err := testimage.FromTar(buf.Bytes(), v1.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// TestFullDisk runs out of space at each kind of work. The error says so, and
// nothing of it stays: with space, the same build ends well.
func TestFullDisk(t *testing.T) {
	const plenty, says = 200, "no space left on device"
	host := testimage.Registry(t)
	sets := []string{
		"--set", "base=" + testimage.Push(t, host, "busybox:1", testimage.Busybox(t)),
		"--set", "big=" + testimage.Push(t, host, "big:1", bigImage(t)),
	}
	for _, c := range []struct {
		name, image string
		store, dest int // megabytes
	}{
		{"RUN", `{from: _base, steps: [{run: "dd if=/ctx/src/noise of=/big bs=1M", mounts: "/ctx": {}}]}`, 45, 1},
		{"COPY", `{from: _base, steps: [{copy: "src", to: "/src"}]}`, 12, 1},
		{"pull", `{from: _big, steps: [{mkdir: "/a"}]}`, 12, 1},
		{"unpack", `{from: _big, steps: [{mkdir: "/a"}]}`, 30, 1},
		{"pack", `{from: _base, steps: [{copy: "src", to: "/src"}]}`, 50, 1},
		{"export", `{from: _base, steps: [{copy: "src", to: "/src"}]}`, plenty, 8},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t)
			store, dest := newDisk(t, c.store), newDisk(t, c.dest)
			m.store = filepath.Join(store.dir, "strata")
			m.write("app.cue", "_base: string @tag(base)\n_big: string @tag(big)\nimages: app: "+c.image+"\n")
			m.write("src/noise", string(noise(20<<20)))
			tarball := filepath.Join(dest.dir, "app.tar")
			args := append([]string{"build", "--progress", "plain", "-o", "type=oci,dest=" + tarball, "./app.cue"}, sets...)
			m.fail([]string{says}, args...)
			if entries, err := os.ReadDir(dest.dir); err != nil || len(entries) != 0 {
				t.Errorf("the failed build left %v in the destination (%v)", entries, err)
			}
			m.nothingRuns()
			m.nothingHalfDone()
			store.grow(plenty)
			dest.grow(plenty)
			m.succeed(args...)
			want := m.fresh().digest(append([]string{"-o", "type=oci,dest=" + tarball, "./app.cue"}, sets...)...)
			if got := m.digest(args[3:]...); got != want {
				t.Errorf("after the full disk the image is %s, want %s", got, want)
			}
		})
	}
}
