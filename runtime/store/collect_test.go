package store_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/strata-build/strata/runtime/store"
)

// objects is an Owner whose objects are files, of "layer:".
type objects struct{ dir string }

func newObjects(t testing.TB, s *store.Store) objects {
	t.Helper()
	dir, err := s.Dir("objects")
	must(t, err)
	return objects{dir}
}

func (o objects) path(id string) string { return filepath.Join(o.dir, id) }

func (o objects) Prefix() string { return "layer:" }

func (o objects) IDs(context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		entries, err := os.ReadDir(o.dir)
		if err != nil {
			yield("", err)
			return
		}
		for _, e := range entries {
			if !yield(e.Name(), nil) {
				return
			}
		}
	}
}

func (o objects) Size(_ context.Context, id string) (int64, error) {
	fi, err := os.Stat(o.path(id))
	if errors.Is(err, os.ErrNotExist) {
		return 0, store.ErrNotFound
	}
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}

func (o objects) Remove(_ context.Context, id string) error {
	if err := os.Remove(o.path(id)); errors.Is(err, os.ErrNotExist) {
		return store.ErrNotFound
	}
	return nil
}

func (o objects) has(id string) bool {
	_, err := os.Stat(o.path(id))
	return err == nil
}

// make adds an object of a size, as a snapshotter does, but unleased.
func (o objects) make(t testing.TB, size int, ids ...string) {
	t.Helper()
	for _, id := range ids {
		must(t, os.WriteFile(o.path(id), make([]byte, size), 0o600))
	}
}

// touch sets when a record was last used, in hours ago.
func touch(t testing.TB, s *store.Store, bucket, key string, hours int) {
	t.Helper()
	for _, path := range files(t, s, "records/"+bucket) {
		data, err := os.ReadFile(path)
		must(t, err)
		if strings.Contains(string(data), fmt.Sprintf("%q:%q", "key", key)) {
			then := time.Now().Add(-time.Duration(hours) * time.Hour)
			must(t, os.Chtimes(path, then, then))
			return
		}
	}
	t.Fatalf("no record %s/%s", bucket, key)
}

// kilo is a size beside which that of records does not matter.
const kilo = 100_000

// scene is a store with roots and caches:
//
//	images/app ─▶ layer:base, layer:app, blob "config"
//	results/r1 ─▶ layer:base, layer:r1           used 1 hour ago
//	results/r2 ─▶ layer:base, layer:r2           used 2 hours ago
//	results/r3 ─▶ record:results/r2, layer:r3    used 30 hours ago
//	results/broken ─▶ layer:missing              used now
//	facts/base ─▶ layer:base, blob "base.tar"    attached
//	facts/r1 ─▶ layer:r1, blob "r1.tar"          attached
//	layer:orphan, blob "orphan"
func scene(t *testing.T) (*store.Store, objects, map[string]digest.Digest) {
	t.Helper()
	s := newStore(t)
	o := newObjects(t, s)
	o.make(t, kilo, "base", "app", "r1", "r2", "r3", "orphan")
	blobs := make(map[string]digest.Digest)
	for _, name := range []string{"config", "base.tar", "r1.tar", "orphan"} {
		blobs[name] = putBlob(t, s, name)
	}
	must(t, s.ReleaseMade())
	put := func(bucket, key string, hours int, refs ...store.Ref) {
		must(t, s.PutRecord(bucket, key, key, refs...))
		touch(t, s, bucket, key, hours)
	}
	put("images", "app", 1000, "layer:base", "layer:app", store.BlobRef(blobs["config"]))
	put("results", "r1", 1, "layer:base", "layer:r1")
	put("results", "r2", 2, "layer:base", "layer:r2")
	put("results", "r3", 30, "record:results/r2", "layer:r3")
	put("results", "broken", 0, "layer:missing")
	put("facts", "base", 1000, "layer:base", store.BlobRef(blobs["base.tar"]))
	put("facts", "r1", 1000, "layer:r1", store.BlobRef(blobs["r1.tar"]))
	return s, o, blobs
}

func scenePolicy() store.Policy {
	return store.Policy{Roots: []string{"images"}, Caches: []string{"results"}, Attached: []string{"facts"}}
}

// left lists what the scene still has.
func left(t *testing.T, s *store.Store, o objects, blobs map[string]digest.Digest) string {
	t.Helper()
	var list []string
	for id, err := range o.IDs(context.Background()) {
		must(t, err)
		list = append(list, id)
	}
	for name, d := range blobs {
		if _, ok := s.HasBlob(d); ok {
			list = append(list, "blob-"+name)
		}
	}
	for _, bucket := range []string{"images", "results", "facts"} {
		for e, err := range s.Records(bucket) {
			must(t, err)
			list = append(list, bucket+"/"+e.Key)
		}
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

func TestCollect(t *testing.T) {
	const (
		image = "app base blob-base.tar blob-config facts/base images/app"
		all   = "app base blob-base.tar blob-config blob-r1.tar facts/base facts/r1 images/app " +
			"r1 r2 r3 results/r1 results/r2 results/r3"
	)
	for name, c := range map[string]struct {
		change func(*store.Policy)
		want   string
	}{
		"garbage": {func(*store.Policy) {}, all},
		"all":     {func(p *store.Policy) { p.All = true }, image},
		"roomy":   {func(p *store.Policy) { p.KeepBytes = 6 * kilo }, all},
		"cap": {func(p *store.Policy) { p.KeepBytes = 4.5 * kilo },
			"app base blob-base.tar blob-config blob-r1.tar facts/base facts/r1 images/app r1 r2 results/r1 results/r2"},
		"smaller-cap": {func(p *store.Policy) { p.KeepBytes = 3.5 * kilo },
			"app base blob-base.tar blob-config blob-r1.tar facts/base facts/r1 images/app r1 results/r1"},
		"all-down-to": {func(p *store.Policy) { p.KeepBytes, p.All = 3.5*kilo, true },
			"app base blob-base.tar blob-config blob-r1.tar facts/base facts/r1 images/app r1 results/r1"},
		"cap-below-roots": {func(p *store.Policy) { p.KeepBytes = 1 }, image},
		"until": {func(p *store.Policy) { p.Filter.Until = 24 * time.Hour },
			"app base blob-base.tar blob-config blob-r1.tar facts/base facts/r1 images/app r1 r2 results/r1 results/r2"},
		// r3 was not used for long, but r2, which it needs, stays with it.
		"id-needed": {func(p *store.Policy) { p.Filter.IDs = []string{"r2"} }, all},
		"id": {func(p *store.Policy) { p.Filter.IDs = []string{"r1", "record:results/r3"} },
			"app base blob-base.tar blob-config facts/base images/app r2 results/r2"},
		"type":       {func(p *store.Policy) { p.Filter.Types = []string{"results"} }, image},
		"other-type": {func(p *store.Policy) { p.Filter.Types = []string{"caches"}; p.All = true }, all},
		"two-filters": {func(p *store.Policy) {
			p.Filter = store.Filter{Until: 90 * time.Minute, IDs: []string{"r1", "r3"}}
		}, "app base blob-base.tar blob-config blob-r1.tar facts/base facts/r1 images/app r1 r2 results/r1 results/r2"},
		// A bucket that no list names is kept.
		"forgotten": {func(p *store.Policy) { p.Caches, p.All = nil, true }, all + " results/broken"},
	} {
		t.Run(name, func(t *testing.T) {
			s, o, blobs := scene(t)
			before, err := s.Usage(context.Background(), scenePolicy(), o)
			must(t, err)
			p := scenePolicy()
			c.change(&p)
			report, err := s.Collect(context.Background(), p, o)
			must(t, err)
			want := strings.Fields(c.want)
			slices.Sort(want)
			if got := left(t, s, o, blobs); got != strings.Join(want, " ") {
				t.Errorf("left   %s\nwanted %s", got, strings.Join(want, " "))
			}
			after, err := s.Usage(context.Background(), scenePolicy(), o)
			must(t, err)
			if before.Total-after.Total != report.Bytes || report.Bytes <= kilo || len(before.Items)-len(after.Items) != len(report.Removed) {
				t.Errorf("reported %d bytes, %d items; the store went from %d to %d, %d to %d",
					report.Bytes, len(report.Removed), before.Total, after.Total, len(before.Items), len(after.Items))
			}
			if trash := files(t, s, "trash"); len(trash) != 0 {
				t.Errorf("in the trash: %v", trash)
			}
		})
	}
}

func TestUsage(t *testing.T) {
	s, o, blobs := scene(t)
	u, err := s.Usage(context.Background(), scenePolicy(), o)
	must(t, err)
	items := make(map[store.Ref]store.Item)
	for _, i := range u.Items {
		items[i.Ref] = i
	}
	for ref, inUse := range map[store.Ref]bool{
		"layer:base": true, "layer:app": true, "layer:r1": false, "layer:orphan": false,
		"record:images/app": true, "record:results/r1": false, "record:facts/base": true,
		store.BlobRef(blobs["base.tar"]): true, store.BlobRef(blobs["r1.tar"]): false,
	} {
		if i, ok := items[ref]; !ok || i.InUse != inUse {
			t.Errorf("%s: %+v, want InUse %v", ref, i, inUse)
		}
	}
	if i := items["layer:r1"]; i.Size != kilo || i.Type != "layer" || time.Since(i.LastUsed).Round(time.Hour) != time.Hour {
		t.Errorf("layer:r1: %+v, want the time of results/r1", i)
	}
	if i := items["layer:base"]; time.Since(i.LastUsed).Round(time.Hour) != time.Hour {
		t.Errorf("layer:base: %+v, want the time of its latest user", i)
	}
	if !items["layer:orphan"].LastUsed.IsZero() {
		t.Errorf("layer:orphan was last used %v", items["layer:orphan"].LastUsed)
	}
	if u.Total < 6*kilo || u.Reclaimable < 4*kilo || u.Reclaimable > 5*kilo {
		t.Errorf("total %d, reclaimable %d", u.Total, u.Reclaimable)
	}
}

func TestLease(t *testing.T) {
	s, o, blobs := scene(t)
	ctx := context.Background()
	l, err := s.NewLease(ctx)
	must(t, err)
	must(t, l.Add("record:results/r3", store.BlobRef(blobs["orphan"]), "layer:not-yet"))
	must(t, l.Add("record:results/r3"))
	p := scenePolicy()
	p.All = true
	_, err = s.Collect(ctx, p, o)
	must(t, err)
	const image = "app base blob-base.tar blob-config "
	want := image + "blob-orphan facts/base images/app r2 r3 results/r2 results/r3"
	if got := left(t, s, o, blobs); got != want {
		t.Errorf("left   %s\nwanted %s", got, want)
	}
	// What is leased before it exists is kept once it does.
	o.make(t, kilo, "not-yet")
	_, err = s.Collect(ctx, p, o)
	must(t, err)
	if !o.has("not-yet") {
		t.Error("a leased layer is gone")
	}
	must(t, l.Close())
	must(t, l.Close())
	if err := l.Add("layer:x"); !errors.Is(err, os.ErrClosed) {
		t.Errorf("add to a closed lease: %v", err)
	}
	_, err = s.Collect(ctx, p, o)
	must(t, err)
	if got := left(t, s, o, blobs); got != image+"facts/base images/app" {
		t.Errorf("left %s", got)
	}
}

// What a process makes is its own until it lets go.
func TestLeaseMade(t *testing.T) {
	s := newStore(t)
	ctx := context.Background()
	d := putBlob(t, s, "made")
	other := open(t, s.Root())
	_, err := other.Collect(ctx, store.Policy{All: true})
	must(t, err)
	if _, ok := s.HasBlob(d); !ok {
		t.Fatal("a blob was collected before anything could refer to it")
	}
	must(t, s.ReleaseMade())
	must(t, s.ReleaseMade())
	_, err = other.Collect(ctx, store.Policy{All: true})
	must(t, err)
	if _, ok := s.HasBlob(d); ok {
		t.Error("a blob that nobody needs was kept")
	}
}

// A lease is void when its process is dead.
func TestLeaseOfKilledProcess(t *testing.T) {
	s := newStore(t)
	o := newObjects(t, s)
	ctx := context.Background()
	_, kill := startHolder(t, s)
	o.make(t, kilo, "leased")
	_, err := s.Collect(ctx, store.Policy{All: true}, o)
	must(t, err)
	if !o.has("leased") {
		t.Error("the layer of a living process is gone")
	}
	kill()
	_, err = s.Collect(ctx, store.Policy{All: true}, o)
	must(t, err)
	if o.has("leased") {
		t.Error("the layer of a dead process was kept")
	}
}

// An unfinished download goes like a cache record, but not while it is being
// written.
func TestCollectDownloads(t *testing.T) {
	s := newStore(t)
	ctx := context.Background()
	w, _, err := s.ResumeBlob(ctx, digest.FromString("content"))
	must(t, err)
	_, err = w.Write([]byte("con"))
	must(t, err)
	for range 2 {
		_, err = s.Collect(ctx, store.Policy{All: true})
		must(t, err)
	}
	if got := files(t, s, "ingest"); len(got) != 1 {
		t.Errorf("the download that goes on: %v", got)
	}
	must(t, w.Close())
	_, err = s.Collect(ctx, store.Policy{})
	must(t, err)
	if got := files(t, s, "ingest"); len(got) != 1 {
		t.Errorf("the download that can be resumed: %v", got)
	}
	r, err := s.Collect(ctx, store.Policy{Filter: store.Filter{Types: []string{"download"}}})
	must(t, err)
	if got := files(t, s, "ingest"); len(got) != 0 || r.Bytes != 3 {
		t.Errorf("the collected download: %v, %+v", got, r)
	}
}

// Without the owner of what they are attached to, facts are kept.
func TestCollectWithoutOwner(t *testing.T) {
	s, o, blobs := scene(t)
	before := left(t, s, o, blobs)
	_, err := s.Collect(context.Background(), scenePolicy())
	must(t, err)
	if got := left(t, s, o, blobs); got != strings.Replace(before, "blob-orphan ", "", 1) {
		t.Errorf("left   %s\nbefore %s", got, before)
	}
}

// Records that refer to each other in a circle are collected.
func TestCollectCircle(t *testing.T) {
	s := newStore(t)
	must(t, s.PutRecord("results", "a", 1, "record:results/b"))
	must(t, s.PutRecord("results", "b", 1, "record:results/a"))
	r, err := s.Collect(context.Background(), store.Policy{Caches: []string{"results"}, KeepBytes: 1})
	if err != nil || len(r.Removed) != 2 {
		t.Errorf("%+v, %v, want both", r, err)
	}
}

// A bucket cannot be a root and a cache.
func TestPolicyContradiction(t *testing.T) {
	s := newStore(t)
	p := store.Policy{Roots: []string{"images"}, Caches: []string{"results", "images"}}
	if _, err := s.Collect(context.Background(), p); err == nil || !strings.Contains(err.Error(), `"images"`) {
		t.Errorf("collect: %v, want an error that names the bucket", err)
	}
}

func TestParseFilter(t *testing.T) {
	f, err := store.ParseFilter([]string{"until=24h", "id=a", "id=b", "type=results"})
	if err != nil || f.Until != 24*time.Hour || !slices.Equal(f.IDs, []string{"a", "b"}) || !slices.Equal(f.Types, []string{"results"}) {
		t.Errorf("%+v, %v", f, err)
	}
	for _, bad := range []string{"until", "until=", "until=soon", "until=-1h", "label=x", "=x"} {
		if _, err := store.ParseFilter([]string{bad}); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v, want an error that quotes it", bad, err)
		}
	}
}

func TestFsck(t *testing.T) {
	s, o, blobs := scene(t)
	ctx := context.Background()
	path, err := s.BlobPath(blobs["r1.tar"])
	must(t, err)
	must(t, os.Chmod(path, 0o600))
	must(t, os.WriteFile(path, []byte("R1.tar"), 0o600))
	must(t, o.Remove(ctx, "app")) // which an image needs
	must(t, s.PutRecord("results", "damaged", 1))
	for _, path := range files(t, s, "records/results") {
		data, err := os.ReadFile(path)
		must(t, err)
		if strings.Contains(string(data), `"damaged"`) {
			must(t, os.WriteFile(path, data[1:], 0o600))
		}
	}
	check := func(repair bool, want ...string) {
		t.Helper()
		problems, err := s.Fsck(ctx, store.FsckOptions{Policy: scenePolicy(), Repair: repair}, o)
		must(t, err)
		var got []string
		for _, p := range problems {
			got = append(got, fmt.Sprintf("%s %t", p.Ref, p.Repaired))
			if p.What == "" {
				t.Errorf("%s: nothing said", p.Ref)
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("problems %q, want %q", got, want)
		}
	}
	r1 := string(store.BlobRef(blobs["r1.tar"]))
	check(false, r1+" false", "record:images/app false", "record:results false", "record:results/broken false")
	check(true, r1+" true", "record:images/app false", "record:results true", "record:results/broken true")
	check(true, "record:images/app false", "record:facts/r1 true")
	check(false, "record:images/app false")
}
