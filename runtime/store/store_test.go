package store_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/strata-build/strata/runtime/store"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// open opens a new store, or an existing one again.
func open(t testing.TB, root string) *store.Store {
	t.Helper()
	return openBoot(t, root, "")
}

// openBoot opens a store as another boot of the machine.
func openBoot(t testing.TB, root, boot string) *store.Store {
	t.Helper()
	s, err := store.New(store.Options{Root: root, BootID: boot})
	must(t, err)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close store: %v", err)
		}
	})
	return s
}

func newStore(t testing.TB) *store.Store { return open(t, filepath.Join(t.TempDir(), "store")) }

// files lists the regular files below a directory of the store.
func files(t testing.TB, s *store.Store, dir string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(filepath.Join(s.Root(), dir), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			list = append(list, path)
		}
		return err
	})
	must(t, err)
	return list
}

func TestOpenTwice(t *testing.T) {
	root := filepath.Join(t.TempDir(), "a/b")
	a, b := open(t, root), open(t, root)
	must(t, a.PutRecord("bucket", "key", "value"))
	var v string
	if ok, err := b.GetRecord("bucket", "key", &v); !ok || err != nil || v != "value" {
		t.Errorf("got %q, %v, %v", v, ok, err)
	}
	if fi, err := os.Stat(root); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("mode of the root %v, %v, want 0700", fi.Mode(), err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(dir string) error
		want    string
	}{
		"not-empty": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "thesis.doc"), nil, 0o600)
		}, "not a strata store"},
		"writable-by-all": {func(dir string) error { return os.Chmod(dir, 0o777) }, "writable by everybody"},
		"other-layout": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "version"), []byte("strata store 99\n"), 0o600)
		}, "strata store 99"},
		"file": {func(dir string) error {
			return errors.Join(os.Remove(dir), os.WriteFile(dir, nil, 0o600))
		}, "not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "root")
			must(t, os.Mkdir(dir, 0o700))
			must(t, c.prepare(dir))
			_, err := store.Open(dir)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("error %v, want one with %q and %s", err, c.want, dir)
			}
		})
	}
}

// A creation that was cut short is completed by the next one.
func TestOpenCompletes(t *testing.T) {
	root := filepath.Join(t.TempDir(), "store")
	must(t, os.MkdirAll(filepath.Join(root, "blobs"), 0o700))
	must(t, os.WriteFile(filepath.Join(root, "version"), nil, 0o600))
	must(t, open(t, root).PutRecord("b", "k", 1))
}

func TestDir(t *testing.T) {
	s := newStore(t)
	dir, err := s.Dir("snapshots")
	must(t, err)
	again, err := s.Dir("snapshots")
	if err != nil || again != dir || dir != filepath.Join(s.Root(), "snapshots") {
		t.Errorf("%q, then %q, %v", dir, again, err)
	}
	if fi, err := os.Stat(dir); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
	for _, name := range []string{"blobs", "records", "tmp", "locks"} {
		if _, err := s.Dir(name); !errors.Is(err, store.ErrInvalidName) {
			t.Errorf("Dir(%q): %v, want ErrInvalidName: it is the store's own", name, err)
		}
	}
}

// hostileNames are names that would leave their directory, or break a path.
func hostileNames() []string {
	return []string{
		"", ".", "..", "../x", "../../../../tmp/x", "/etc/passwd", "a/b", "a/../../b", "a\x00b",
		".hidden", "-rf", "a b", "ü", "a\nb", strings.Repeat("x", 129), "..\\x", "%2e%2e",
	}
}

// CVE-2026-33747: ids that become paths.
func TestHostileNames(t *testing.T) {
	base := t.TempDir()
	s := open(t, filepath.Join(base, "store"))
	for _, name := range hostileNames() {
		calls := map[string]error{"ValidName": store.ValidName(name)}
		_, calls["Dir"] = s.Dir(name)
		calls["PutRecord"] = s.PutRecord(name, "key", 1)
		_, calls["GetRecord"] = s.GetRecord(name, "key", nil)
		calls["DeleteRecord"] = s.DeleteRecord(name, "key")
		_, calls["OwnerAlive"] = s.OwnerAlive(name)
		for _, err := range s.Records(name) {
			calls["Records"] = err
		}
		if calls["Records"] == nil {
			t.Errorf("Records(%q) gave no error", name)
		}
		for _, d := range []digest.Digest{digest.Digest(name), digest.Digest("sha256:" + name)} {
			_, calls["OpenBlob"] = s.OpenBlob(d)
			_, calls["BlobPath"] = s.BlobPath(d)
			calls["DeleteBlob"] = s.DeleteBlob(d)
			_, _, calls["ResumeBlob"] = s.ResumeBlob(context.Background(), d)
			if _, ok := s.HasBlob(d); ok {
				t.Errorf("HasBlob(%q)", d)
			}
		}
		for call, err := range calls {
			if !errors.Is(err, store.ErrInvalidName) {
				t.Errorf("%s(%q): %v, want ErrInvalidName", call, name, err)
			}
		}
		s.TouchRecord(name, "key")
	}
	if entries, err := os.ReadDir(base); err != nil || len(entries) != 1 {
		t.Errorf("beside the store there is %v, %v", entries, err)
	}
}

// Keys and lock names may be any text: they are hashed.
func TestHostileKeys(t *testing.T) {
	base := t.TempDir()
	s := open(t, filepath.Join(base, "store"))
	for _, key := range []string{"..", "../../x", "/etc/passwd", "a/b", strings.Repeat("x", 1<<16), "ü\t"} {
		must(t, s.PutRecord("b", key, key))
		var v string
		if ok, err := s.GetRecord("b", key, &v); !ok || err != nil || v != key {
			t.Errorf("key %.20q: %v, %v", key, ok, err)
		}
		l, err := s.Lock(context.Background(), key)
		must(t, err)
		must(t, l.Unlock())
	}
	for _, key := range []string{"", "a\xffb", "a\x00b", "a\nb"} {
		if err := s.PutRecord("b", key, 1); !errors.Is(err, store.ErrInvalidName) {
			t.Errorf("key %q: %v, want ErrInvalidName", key, err)
		}
	}
	for _, ref := range []store.Ref{"", "layer:", ":x", "x", "layer:a\nlayer:b", "layer:\xff"} {
		if err := s.PutRecord("b", "k", 1, ref); !errors.Is(err, store.ErrInvalidName) {
			t.Errorf("ref %q: %v, want ErrInvalidName", ref, err)
		}
		if err := s.LeaseMade(ref); !errors.Is(err, store.ErrInvalidName) {
			t.Errorf("lease of %q: %v, want ErrInvalidName", ref, err)
		}
	}
	if entries, err := os.ReadDir(base); err != nil || len(entries) != 1 {
		t.Errorf("beside the store there is %v, %v", entries, err)
	}
}

func TestTempBelongsToProcess(t *testing.T) {
	root := filepath.Join(t.TempDir(), "store")
	other := open(t, root)
	s, err := store.Open(root)
	must(t, err)
	dir, err := s.TempDir()
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "f"), nil, 0o600))
	f, err := s.TempFile()
	must(t, err)
	must(t, f.Close())
	must(t, other.Reap(context.Background()))
	if got := files(t, s, "tmp"); len(got) != 2 {
		t.Errorf("after a Reap, a living process has %v", got)
	}
	must(t, s.Close())
	if got := files(t, other, "tmp"); len(got) != 0 {
		t.Errorf("after Close there is %v", got)
	}
}

// A Reap that runs while a process registers must not take it for dead.
func TestRegisterDuringReap(t *testing.T) {
	root := filepath.Join(t.TempDir(), "store")
	s := open(t, root)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if err := s.Reap(context.Background()); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for range 300 {
		p, err := store.Open(root)
		must(t, err)
		dir, err := p.TempDir()
		must(t, err)
		name, err := p.Owner()
		must(t, err)
		if alive, err := s.OwnerAlive(name); !alive || err != nil {
			t.Fatalf("a living owner counts as dead: %v", err)
		}
		if _, err := os.Stat(dir); err != nil {
			t.Fatal(err)
		}
		must(t, p.Close())
	}
	close(stop)
	<-stopped
}
