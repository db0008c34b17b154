package localsource

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// later is a scan at a time when no file is racy any more.
func later(o Options) Options {
	o.now = func() time.Time { return time.Now().Add(time.Hour) }
	return o
}

func cacheFile(t *testing.T, cache string) string {
	t.Helper()
	entries, err := os.ReadDir(cache)
	must(t, err)
	if len(entries) != 1 {
		t.Fatalf("%d files in the cache directory", len(entries))
	}
	return filepath.Join(cache, entries[0].Name())
}

func hashed(t *testing.T, dir string, o Options, want int64) *Manifest {
	t.Helper()
	m := scan(t, dir, o)
	if got := m.Stats().Hashed; got != want {
		t.Errorf("hashed %d files, want %d", got, want)
	}
	if fresh := scan(t, dir, Options{Include: o.Include, Exclude: o.Exclude}); fresh.Digest() != m.Digest() {
		t.Errorf("the cache makes a difference: %v", Diff(fresh, m))
	}
	return m
}

func TestStatCache(t *testing.T) {
	dir := newTree(t, "a=1", "d/b=2", "d/c=3", "d/e/f=4", "x/y=5", "h1=s", "h2 == h1", "l -> a")
	must(t, unix.Setxattr(filepath.Join(dir, "a"), "user.x", []byte("y"), 0))
	o := later(Options{CacheDir: t.TempDir()})
	hashed(t, dir, o, 7)
	hashed(t, dir, o, 0)

	must(t, os.WriteFile(filepath.Join(dir, "d/b"), []byte("two"), 0o644))
	hashed(t, dir, o, 1)
	must(t, os.Chmod(filepath.Join(dir, "d/c"), 0o600))
	hashed(t, dir, o, 1)
	must(t, unix.Setxattr(filepath.Join(dir, "a"), "user.x", []byte("z"), 0))
	hashed(t, dir, o, 1)
	must(t, os.Rename(filepath.Join(dir, "d/e"), filepath.Join(dir, "d/g")))
	hashed(t, dir, o, 1)
	must(t, os.RemoveAll(filepath.Join(dir, "x")))
	hashed(t, dir, o, 0)
}

// The same size and modification time prove nothing: the change time does.
func TestStatCacheSeesRestoredTimes(t *testing.T) {
	dir := newTree(t, "a=1")
	o := later(Options{CacheDir: t.TempDir()})
	p := filepath.Join(dir, "a")
	past := []unix.Timespec{{Sec: 1000}, {Sec: 1000}}
	must(t, unix.UtimesNano(p, past))
	hashed(t, dir, o, 1)
	must(t, os.WriteFile(p, []byte("2"), 0o644))
	must(t, unix.UtimesNano(p, past))
	hashed(t, dir, o, 1)
}

// A file that was changed just before the scan could change again within the
// same tick of the clock: it is not recorded.
func TestStatCacheDoesNotTrustRacyFiles(t *testing.T) {
	dir := newTree(t, "a=1", "b=2")
	o := Options{CacheDir: t.TempDir(), now: func() time.Time { return fileTime(t, filepath.Join(dir, "a")) }}
	hashed(t, dir, o, 2)
	hashed(t, dir, o, 2)
	hashed(t, dir, later(o), 2)
	hashed(t, dir, o, 0)
}

func fileTime(t *testing.T, p string) time.Time {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Stat(p, &st))
	return time.Unix(st.Ctim.Unix())
}

func TestRacy(t *testing.T) {
	at := time.Unix(1000, 500)
	for name, c := range map[string]struct {
		mtime, ctime time.Time
		want         bool
	}{
		"long ago":             {at.Add(-time.Hour), at.Add(-time.Hour), false},
		"at the scan":          {at.Add(-time.Hour), at, true},
		"a tick ago":           {at.Add(-time.Hour), at.Add(-10 * time.Millisecond), true},
		"some ticks ago":       {at.Add(-time.Hour), at.Add(-100 * time.Millisecond), false},
		"in the future":        {at.Add(time.Hour), at.Add(-time.Hour), true},
		"a second ago, coarse": {time.Unix(999, 0), time.Unix(999, 0), true},
		"a minute ago, coarse": {time.Unix(940, 0), time.Unix(940, 0), false},
	} {
		s := stamp{mtime: c.mtime.UnixNano(), ctime: c.ctime.UnixNano()}
		if s.racy(at) != c.want {
			t.Errorf("%s: %v", name, !c.want)
		}
	}
}

// Two images with different patterns share the cache of their directory.
func TestStatCacheKeepsWhatAScanIgnores(t *testing.T) {
	dir := newTree(t, "a=1", "b=2", "d/c=3", "d/e/f=4", "g/h=5")
	o := later(Options{CacheDir: t.TempDir()})
	hashed(t, dir, o, 5)
	small := o
	small.Exclude = []string{"b", "d"}
	must(t, os.WriteFile(filepath.Join(dir, "a"), []byte("one"), 0o644)) // the cache is written again
	hashed(t, dir, small, 1)
	hashed(t, dir, o, 0)

	// What is gone is dropped: a new directory of its name is not it.
	must(t, os.RemoveAll(filepath.Join(dir, "d")))
	must(t, os.WriteFile(filepath.Join(dir, "a"), []byte("eins"), 0o644))
	hashed(t, dir, small, 1)
	data, err := os.ReadFile(cacheFile(t, o.CacheDir))
	must(t, err)
	if strings.Contains(string(data), "d/e") {
		t.Error("a removed directory is kept in the cache")
	}
}

func TestDamagedStatCacheIsEmpty(t *testing.T) {
	dir := newTree(t, "a=1", "d/b=2")
	o := later(Options{CacheDir: t.TempDir()})
	hashed(t, dir, o, 2)
	name := cacheFile(t, o.CacheDir)
	whole, err := os.ReadFile(name)
	must(t, err)
	for n := range whole {
		must(t, os.WriteFile(name, whole[:n], 0o600))
		if got := scan(t, dir, o).Stats().Hashed; got != 2 {
			t.Fatalf("cut to %d bytes: hashed %d", n, got)
		}
	}
	for i := range whole {
		broken := append([]byte(nil), whole...)
		broken[i] ^= 0x20
		must(t, os.WriteFile(name, broken, 0o600))
		if got := scan(t, dir, o).Stats().Hashed; got != 2 {
			t.Fatalf("byte %d changed: hashed %d", i, got)
		}
	}
	// That of another directory, moved here.
	other := newTree(t, "a=1", "d/b=2")
	elsewhere := later(Options{CacheDir: t.TempDir()})
	hashed(t, other, elsewhere, 2)
	must(t, os.Rename(cacheFile(t, elsewhere.CacheDir), name))
	hashed(t, dir, o, 2)
}

func TestConcurrentScansShareACache(t *testing.T) {
	dir := t.TempDir()
	for i := range 300 {
		must(t, makeEntry(dir, fmt.Sprintf("d%d/f%d=%d", i%7, i, i)))
	}
	o := later(Options{CacheDir: t.TempDir()})
	want := scan(t, dir, Options{}).Digest()
	var done sync.WaitGroup
	for range 6 {
		done.Go(func() {
			for range 5 {
				m, err := Scan(ctx, dir, o)
				if err != nil || m.Digest() != want {
					t.Errorf("%v", err)
				}
			}
		})
	}
	done.Wait()
	hashed(t, dir, o, 0)
}

func TestSaveAndLoad(t *testing.T) {
	dir := newTree(t, contextTree...)
	must(t, unix.Setxattr(filepath.Join(dir, "main.go"), "user.x", []byte("y\x00"), 0))
	m := scan(t, dir, Options{})
	keep := t.TempDir()
	must(t, m.Save(keep))
	must(t, m.Save(keep))
	got, err := Load(keep, m.Digest())
	must(t, err)
	if got.Digest() != m.Digest() || len(Diff(m, got)) > 0 || len(got.Entries()) != len(m.Entries()) {
		t.Errorf("loaded %v", Diff(m, got))
	}
	for i, e := range m.Entries() {
		if g := got.Entries()[i]; g.Mtime != e.Mtime || g.Size != e.Size {
			t.Errorf("%s: %+v", e.Path, g)
		}
	}
	name := manifestFile(keep, m.Digest())
	data, err := os.ReadFile(name)
	must(t, err)
	data[len(data)/2] ^= 1
	must(t, os.WriteFile(name, data, 0o600))
	if _, err := Load(keep, m.Digest()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a damaged manifest: %v", err)
	}
	must(t, m.Save(keep))
	if _, err := Load(keep, m.Digest()); err != nil {
		t.Errorf("after it was saved again: %v", err)
	}
	if _, err := Load(keep, "sha256:../../etc"); err == nil {
		t.Error("a digest that is a path")
	}
}

func FuzzDecode(f *testing.F) {
	dir := f.TempDir()
	must(f, os.WriteFile(filepath.Join(dir, "a"), []byte("1"), 0o644))
	m, err := Scan(ctx, dir, later(Options{CacheDir: filepath.Join(dir, "cache"), Exclude: []string{"cache"}}))
	must(f, err)
	f.Add(m.encode()[len(magicManifest)+4:])
	f.Add([]byte{})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, payload []byte) {
		if m, err := decodeManifest(seal(magicManifest, payload)); err == nil {
			again, err := decodeManifest(m.encode())
			if err != nil || again.Digest() != m.Digest() {
				t.Errorf("does not survive: %v", err)
			}
		}
		if dirs, err := decodeCache(seal(magicCache, append(appendString(nil, "/x"), payload...)), "/x"); err == nil {
			c := &statCache{dirs: dirs}
			for dir := range dirs {
				c.records(dir)
			}
		}
	})
}
