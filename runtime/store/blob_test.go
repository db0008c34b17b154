package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/strata-build/strata/internal/testenv"
	"github.com/strata-build/strata/runtime/mount"
	"github.com/strata-build/strata/runtime/store"
	"golang.org/x/sys/unix"
)

func putBlob(t testing.TB, s *store.Store, content string) digest.Digest {
	t.Helper()
	w, err := s.NewBlob(context.Background())
	must(t, err)
	_, err = io.WriteString(w, content)
	must(t, err)
	d, size, err := w.Commit(context.Background(), "", -1)
	must(t, err)
	if d != digest.FromString(content) || size != int64(len(content)) {
		t.Fatalf("committed %s, %d", d, size)
	}
	must(t, w.Close())
	return d
}

func readBlob(s *store.Store, d digest.Digest) (string, error) {
	b, err := s.OpenBlob(d)
	if err != nil {
		return "", err
	}
	data, err := io.ReadAll(b)
	return string(data), errors.Join(err, b.Close())
}

func TestBlob(t *testing.T) {
	s := newStore(t)
	for _, content := range []string{"hello", "", strings.Repeat("x", 1<<20)} {
		d := putBlob(t, s, content)
		if size, ok := s.HasBlob(d); !ok || size != int64(len(content)) {
			t.Errorf("HasBlob: %d, %v", size, ok)
		}
		if got, err := readBlob(s, d); err != nil || got != content {
			t.Errorf("read %d bytes, %v", len(got), err)
		}
		putBlob(t, s, content) // the same again
		must(t, s.DeleteBlob(d))
		if _, err := readBlob(s, d); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("read a deleted blob: %v", err)
		}
		if _, err := s.BlobPath(d); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("path of a deleted blob: %v", err)
		}
		must(t, s.DeleteBlob(d))
	}
	if rest := files(t, s, "tmp"); len(rest) != 0 {
		t.Errorf("temporary files left: %v", rest)
	}
}

func TestBlobMismatch(t *testing.T) {
	s := newStore(t)
	ctx := context.Background()
	right := digest.FromString("content")
	for name, c := range map[string]struct {
		want digest.Digest
		size int64
	}{
		"digest": {digest.FromString("other"), -1},
		"short":  {right, 8},
		"long":   {right, 6},
		"empty":  {"", 0},
	} {
		w, err := s.NewBlob(ctx)
		must(t, err)
		_, err = w.Write([]byte("content"))
		must(t, err)
		if _, _, err := w.Commit(ctx, c.want, c.size); !errors.Is(err, store.ErrMismatch) {
			t.Errorf("%s: %v, want ErrMismatch", name, err)
		}
		if _, _, err := w.Commit(ctx, "", -1); err == nil {
			t.Errorf("%s: committed after all", name)
		}
		if _, err := w.Write([]byte("x")); !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s: write afterwards: %v", name, err)
		}
		must(t, w.Close())
	}
	if got := files(t, s, "blobs"); len(got) != 0 {
		t.Errorf("in the store: %v", got)
	}
	if got := files(t, s, "tmp"); len(got) != 0 {
		t.Errorf("left over: %v", got)
	}
}

// A blob whose file was changed is an error on reading, never silent.
func TestBlobDamaged(t *testing.T) {
	s := newStore(t)
	for name, damage := range map[string]string{
		"flipped": "hellO world", "short": "hello", "long": "hello world!", "empty": "",
	} {
		d := putBlob(t, s, "hello world")
		path, err := s.BlobPath(d)
		must(t, err)
		must(t, os.Chmod(path, 0o600))
		must(t, os.WriteFile(path, []byte(damage), 0o600))
		if got, err := readBlob(s, d); !errors.Is(err, store.ErrMismatch) {
			t.Errorf("%s: read %q, %v, want ErrMismatch", name, got, err)
		}
		must(t, s.DeleteBlob(d))
	}
}

// A reader that stops at the size, without asking for the end, learns of
// the damage, too.
func TestBlobDamagedReadFull(t *testing.T) {
	s := newStore(t)
	d := putBlob(t, s, "hello")
	path, err := s.BlobPath(d)
	must(t, err)
	must(t, os.Chmod(path, 0o600))
	must(t, os.WriteFile(path, []byte("jello"), 0o600))
	b, err := s.OpenBlob(d)
	must(t, err)
	defer b.Close()
	buf := make([]byte, b.Size())
	n, err := b.Read(buf)
	if n != 5 || !errors.Is(err, store.ErrMismatch) {
		t.Errorf("read %d bytes, %v, want ErrMismatch", n, err)
	}
	at := make([]byte, 2)
	if n, err := b.ReadAt(at, 3); n != 2 || err != nil || string(at) != "lo" {
		t.Errorf("ReadAt: %q, %v", at, err)
	}
}

func TestBlobConcurrent(t *testing.T) {
	s := newStore(t)
	content := strings.Repeat("same ", 1000)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			d := putBlob(t, s, content)
			if got, err := readBlob(s, d); err != nil || got != content {
				t.Errorf("read %d bytes, %v", len(got), err)
			}
		})
	}
	wg.Wait()
	if got := files(t, s, "blobs/sha256"); len(got) != 1 {
		t.Errorf("files %v, want one", got)
	}
}

func TestBlobCancelled(t *testing.T) {
	s := newStore(t)
	ctx, cancel := context.WithCancel(context.Background())
	w, err := s.NewBlob(ctx)
	must(t, err)
	cancel()
	if _, err := w.Write([]byte("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("write: %v, want canceled", err)
	}
	must(t, w.Close())
	if got := files(t, s, "tmp"); len(got) != 0 {
		t.Errorf("left over: %v", got)
	}
}

func TestResume(t *testing.T) {
	s := newStore(t)
	ctx := context.Background()
	content := "0123456789"
	d := digest.FromString(content)
	for i := range len(content) {
		w, offset, err := s.ResumeBlob(ctx, d)
		must(t, err)
		if offset != int64(i) || w.Size() != offset {
			t.Fatalf("offset %d, want %d", offset, i)
		}
		_, err = io.WriteString(w, content[i:i+1])
		must(t, err)
		must(t, w.Close())
		if _, ok := s.HasBlob(d); ok {
			t.Fatal("an unfinished blob counts")
		}
	}
	w, offset, err := s.ResumeBlob(ctx, d)
	must(t, err)
	if offset != int64(len(content)) {
		t.Errorf("offset %d", offset)
	}
	if _, _, err := w.Commit(ctx, "", int64(len(content))); err != nil {
		t.Error(err)
	}
	must(t, w.Close())
	if got, err := readBlob(s, d); err != nil || got != content {
		t.Errorf("read %q, %v", got, err)
	}
	if _, _, err := s.ResumeBlob(ctx, d); !errors.Is(err, store.ErrExists) {
		t.Errorf("resume what is there: %v, want ErrExists", err)
	}
	if got := files(t, s, "ingest"); len(got) != 0 {
		t.Errorf("left over: %v", got)
	}
}

func TestResumeWrongContent(t *testing.T) {
	s := newStore(t)
	ctx := context.Background()
	d := digest.FromString("right")
	w, _, err := s.ResumeBlob(ctx, d)
	must(t, err)
	_, err = io.WriteString(w, "wrong")
	must(t, err)
	// The digest that was promised counts, whatever Commit is told.
	if _, _, err := w.Commit(ctx, "", -1); !errors.Is(err, store.ErrMismatch) {
		t.Errorf("commit: %v, want ErrMismatch", err)
	}
	must(t, w.Close())
	w, offset, err := s.ResumeBlob(ctx, d)
	must(t, err)
	if offset != 0 {
		t.Errorf("the wrong content is resumed at %d", offset)
	}
	_, err = io.WriteString(w, "half")
	must(t, err)
	must(t, w.Discard())
	must(t, w.Close())
	if got := files(t, s, "ingest"); len(got) != 0 {
		t.Errorf("after Discard: %v", got)
	}
}

// Two that want the same blob: the second waits, and finds it.
func TestResumeWaits(t *testing.T) {
	s := newStore(t)
	ctx := context.Background()
	d := digest.FromString("content")
	w, _, err := s.ResumeBlob(ctx, d)
	must(t, err)
	second := make(chan error)
	go func() {
		_, _, err := s.ResumeBlob(ctx, d)
		second <- err
	}()
	_, err = io.WriteString(w, "content")
	must(t, err)
	_, _, err = w.Commit(ctx, d, -1)
	must(t, err)
	must(t, w.Close())
	if err := <-second; !errors.Is(err, store.ErrExists) {
		t.Errorf("the second: %v, want ErrExists", err)
	}
}

// A full disk gives a sentence that helps, and leaves nothing half-written.
func TestDiskFull(t *testing.T) {
	testenv.Root(t)
	m, err := mount.Tmpfs(mount.TmpfsOptions{Size: 1 << 20, Mode: 0o700})
	must(t, err)
	t.Cleanup(func() { m.Close() })
	s := open(t, fmt.Sprintf("/proc/self/fd/%d", m.Fd()))
	ctx := context.Background()
	must(t, s.PutRecord("b", "before", "value"))
	w, err := s.NewBlob(ctx)
	must(t, err)
	_, err = w.Write(bytes.Repeat([]byte("x"), 2<<20))
	if !errors.Is(err, unix.ENOSPC) || strings.Count(err.Error(), "strata prune") != 1 {
		t.Errorf("write: %v, want ENOSPC and advice", err)
	}
	fill(t, filepath.Join(s.Root(), "fill"))
	err = s.PutRecord("b", "k", strings.Repeat("v", 100_000))
	if !errors.Is(err, unix.ENOSPC) || strings.Count(err.Error(), "strata prune") != 1 {
		t.Errorf("put: %v, want ENOSPC and advice", err)
	}
	if ok, err := s.GetRecord("b", "k", nil); ok || err != nil {
		t.Errorf("the half-written record: %v, %v", ok, err)
	}
	must(t, w.Close())
	if got := files(t, s, "tmp"); len(got) != 0 {
		t.Errorf("left over: %v", got)
	}
	if got := files(t, s, "blobs"); len(got) != 0 {
		t.Errorf("half-written blobs: %v", got)
	}
	var v string
	if ok, err := s.GetRecord("b", "before", &v); !ok || err != nil || v != "value" {
		t.Errorf("the record of before: %q, %v, %v", v, ok, err)
	}
	// Collecting needs no space.
	if _, err := s.Collect(ctx, store.Policy{Caches: []string{"b"}, All: true}); err != nil {
		t.Errorf("collect on the full disk: %v", err)
	}
}

// fill writes until the disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	for {
		if _, err := f.Write(make([]byte, 4096)); err != nil {
			return
		}
	}
}
