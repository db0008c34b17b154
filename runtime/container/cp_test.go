package container

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/strata-build/strata/internal/testenv"
	"github.com/strata-build/strata/runtime/engine"
)

// stopped makes a container of an image that has the file /etc/motd, with a
// volume at /data, and does not run it.
func stopped(t *testing.T, change func(*Config)) (*Set, Record) {
	t.Helper()
	testenv.Root(t)
	ctx := context.Background()
	e, err := engine.Open(ctx, engine.Options{Root: filepath.Join(t.TempDir(), "store")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	header := &tar.Header{Typeflag: tar.TypeReg, Name: "etc/motd", Mode: 0o644, Size: 5}
	if err := w.WriteHeader(header); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := e.ImportTar(ctx, &b, engine.AssembleRequest{Names: []string{"motd:1"}}); err != nil {
		t.Fatal(err)
	}
	s := New(e)
	req := Request{Image: "motd:1", Args: []string{"/none"}, Config: Config{Mounts: []Mount{{Type: MountVolume, Source: "data", Target: "/data"}}}}
	if change != nil {
		change(&req.Config)
	}
	rec, err := s.Create(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	return s, rec
}

// TestFilesHoldOffStart: while the files of a stopped container are open, it
// is not started; afterwards nothing is left mounted.
func TestFilesHoldOffStart(t *testing.T) {
	s, rec := stopped(t, nil)
	ctx := context.Background()
	f, err := s.files(ctx, rec.ID)
	if err != nil {
		t.Fatal(err)
	}
	if data, err := f.ReadFile("/etc/motd", 10); err != nil || string(data) != "hello" {
		t.Errorf("/etc/motd is %q, error %v", data, err)
	}
	if _, err := s.Run(ctx, RunRequest{ID: rec.ID}); !errors.Is(err, ErrRunning) {
		t.Errorf("run gives %v, want %v", err, ErrRunning)
	}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if err := s.Remove(short, rec.ID, RemoveOptions{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("remove does not wait: %v", err)
	}
	if err := f.close(); err != nil {
		t.Error(err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), s.e.Root()) {
		t.Errorf("something is left mounted:\n%s", mounts)
	}
	if err := s.Remove(ctx, rec.ID, RemoveOptions{}); err != nil {
		t.Errorf("remove afterwards: %v", err)
	}
	if _, err := s.files(ctx, rec.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("the files of a removed container: %v", err)
	}
}

// TestCopiesWait: copies to one stopped container wait for each other, and all
// of them land; who does not want to wait any longer goes.
func TestCopiesWait(t *testing.T) {
	s, rec := stopped(t, nil)
	ctx := context.Background()
	local := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(local, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	const copies = 6
	for i := range copies {
		wg.Go(func() {
			path := fmt.Sprintf("/data/f%d", i)
			if _, err := s.CopyTo(ctx, CopyRequest{ID: rec.ID, Path: path, Local: local}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	f, err := s.files(ctx, rec.ID)
	if err != nil {
		t.Fatal(err)
	}
	for i := range copies {
		if _, err := f.Stat(fmt.Sprintf("/data/f%d", i)); err != nil {
			t.Error(err)
		}
	}
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := s.CopyFrom(short, CopyRequest{ID: rec.ID, Path: "/etc", Local: t.TempDir()}); err == nil {
		t.Error("a copy had the files that another one had open")
	}
	if waited := time.Since(began); waited > 10*time.Second {
		t.Errorf("it waited for %s", waited)
	}
	if err := f.close(); err != nil {
		t.Error(err)
	}
}

// TestReadOnlyFiles: what the container could not write, a copy cannot either.
func TestReadOnlyFiles(t *testing.T) {
	s, rec := stopped(t, func(c *Config) {
		c.ReadOnly = true
		c.Mounts = append(c.Mounts, Mount{Type: MountVolume, Source: "fixed", Target: "/fixed", ReadOnly: true})
	})
	local := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(local, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, writable := range map[string]bool{"/etc/f": false, "/fixed/f": false, "/data/f": true, "/etc/motd": false} {
		_, err := s.CopyTo(context.Background(), CopyRequest{ID: rec.ID, Path: path, Local: local})
		if (err == nil) != writable {
			t.Errorf("copy to %s: %v", path, err)
		}
	}
	dir := t.TempDir()
	n, err := s.CopyFrom(context.Background(), CopyRequest{ID: rec.ID, Path: "/etc/motd", Local: dir})
	if err != nil || n != 5 {
		t.Errorf("copied %d bytes out, error %v", n, err)
	}
}

// TestUpdate: limits of a container that does not run are its next start's.
func TestUpdate(t *testing.T) {
	s, rec := stopped(t, func(c *Config) { c.Restart.Policy = RestartNo })
	ctx := context.Background()
	change := UpdateRequest{ID: rec.ID, Restart: &Restart{Policy: RestartOnFailure, Max: 2}}
	change.Resources.Memory = 64 << 20
	change.Resources.MemorySwap = 64 << 20
	if err := s.Update(ctx, change); err != nil {
		t.Fatal(err)
	}
	// The other limit of memory would no longer hold.
	change = UpdateRequest{ID: rec.ID}
	change.Resources.Memory = 128 << 20
	if err := s.Update(ctx, change); err == nil {
		t.Error("the limit of memory and swap is below that of memory")
	}
	got, err := s.Get(rec.ID)
	if err != nil {
		t.Fatal(err)
	}
	if got.Config.Resources.Memory != 64<<20 || got.Config.Restart != (Restart{Policy: RestartOnFailure, Max: 2}) {
		t.Errorf("got %+v and %+v", got.Config.Resources, got.Config.Restart)
	}
}
