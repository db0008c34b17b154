package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/strata-build/strata/runtime/store"
)

type value struct {
	Name  string
	Count int
}

func TestRecord(t *testing.T) {
	s := newStore(t)
	want := value{"<&>\u2028", 3}
	must(t, s.PutRecord("b", "k", want, "layer:l", store.BlobRef("sha256:x")))
	var got value
	if ok, err := s.GetRecord("b", "k", &got); !ok || err != nil || got != want {
		t.Errorf("got %+v, %v, %v", got, ok, err)
	}
	if ok, err := s.GetRecord("b", "k", nil); !ok || err != nil {
		t.Errorf("without a value: %v, %v", ok, err)
	}
	for _, miss := range [][2]string{{"b", "other"}, {"other", "k"}} {
		if ok, err := s.GetRecord(miss[0], miss[1], &got); ok || err != nil {
			t.Errorf("%v: %v, %v, want a miss", miss, ok, err)
		}
	}
	var wrong []string
	if ok, err := s.GetRecord("b", "k", &wrong); ok || err != nil {
		t.Errorf("a value of another shape: %v, %v, want a miss", ok, err)
	}
	must(t, s.PutRecord("b", "k", value{Count: 4}))
	if ok, err := s.GetRecord("b", "k", &got); !ok || err != nil || got.Count != 4 {
		t.Errorf("replaced: %+v, %v, %v", got, ok, err)
	}
	must(t, s.DeleteRecord("b", "k"))
	must(t, s.DeleteRecord("b", "k"))
	if ok, err := s.GetRecord("b", "k", &got); ok || err != nil {
		t.Errorf("deleted: %v, %v", ok, err)
	}
	if err := s.PutRecord("b", "k", func() {}); err == nil {
		t.Error("a function was stored")
	}
}

// Any change of a record's file is a miss: each byte is flipped in turn, and
// the file is cut at each length.
func TestRecordDamaged(t *testing.T) {
	s := newStore(t)
	must(t, s.PutRecord("b", "k", value{"name", 1}, "layer:l"))
	path := files(t, s, "records")[0]
	whole, err := os.ReadFile(path)
	must(t, err)
	check := func(what string, data []byte) {
		must(t, os.WriteFile(path, data, 0o600))
		var v value
		if ok, err := s.GetRecord("b", "k", &v); ok || err != nil {
			t.Errorf("%s: %v, %v, want a miss", what, ok, err)
		}
	}
	for i := range whole {
		check(fmt.Sprint("cut at ", i), whole[:i])
		flipped := slices.Clone(whole)
		flipped[i] ^= 0x10
		check(fmt.Sprint("flipped at ", i), flipped)
	}
	check("longer", append(slices.Clone(whole), ' '))
	for _, err := range s.Records("b") {
		t.Errorf("a damaged record is listed: %v", err)
	}
	if _, err := s.Collect(context.Background(), store.Policy{}); err != nil {
		t.Error(err)
	}
	if left := files(t, s, "records"); len(left) != 0 {
		t.Errorf("a collection leaves the damaged record: %v", left)
	}
	must(t, s.PutRecord("b", "k", value{"name", 1}))
	if ok, err := s.GetRecord("b", "k", nil); !ok || err != nil {
		t.Errorf("put again: %v, %v", ok, err)
	}
}

// A whole record in another's place does not count.
func TestRecordMisplaced(t *testing.T) {
	s := newStore(t)
	must(t, s.PutRecord("b", "k", 1))
	data, err := os.ReadFile(files(t, s, "records")[0])
	must(t, err)
	for _, to := range [][2]string{{"b", "other"}, {"c", "k"}} {
		must(t, s.PutRecord(to[0], to[1], 2))
		for _, path := range files(t, s, "records") {
			must(t, os.WriteFile(path, data, 0o600))
		}
		if ok, err := s.GetRecord(to[0], to[1], nil); ok || err != nil {
			t.Errorf("%v: %v, %v, want a miss", to, ok, err)
		}
	}
}

func TestRecords(t *testing.T) {
	s := newStore(t)
	began := time.Now().Add(-time.Minute)
	for i := range 300 {
		must(t, s.PutRecord("b", fmt.Sprint(i), i, store.Ref(fmt.Sprint("layer:", i))))
	}
	must(t, s.PutRecord("other", "x", 1))
	old := time.Now().Add(-time.Hour)
	for _, path := range files(t, s, "records") {
		must(t, os.Chtimes(path, old, old))
	}
	s.TouchRecord("b", "7")
	s.TouchRecord("b", "missing")
	seen := make(map[string]bool)
	for e, err := range s.Records("b") {
		must(t, err)
		var v int
		must(t, e.Decode(&v))
		if fmt.Sprint(v) != e.Key || e.Bucket != "b" || len(e.Refs) != 1 || e.Refs[0] != store.Ref("layer:"+e.Key) || e.Created.Before(began) {
			t.Errorf("entry %+v of %d", e, v)
		}
		if recent := e.LastUsed.After(began); recent != (e.Key == "7") {
			t.Errorf("%s was last used %v", e.Key, e.LastUsed)
		}
		seen[e.Key] = true
	}
	if len(seen) != 300 {
		t.Errorf("%d records, want 300", len(seen))
	}
	for range s.Records("b") {
		break
	}
	if buckets, err := s.Buckets(); err != nil || !slices.Equal(buckets, []string{"b", "other"}) {
		t.Errorf("buckets %v, %v", buckets, err)
	}
}

// Readers see the old or the new value, never none and never a mixture.
func TestRecordConcurrent(t *testing.T) {
	s := newStore(t)
	must(t, s.PutRecord("b", "k", value{"0", 0}))
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 50 {
				n := w*50 + i
				if err := s.PutRecord("b", "k", value{fmt.Sprint(n), n}); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for range 200 {
				var v value
				if ok, err := s.GetRecord("b", "k", &v); !ok || err != nil || v.Name != fmt.Sprint(v.Count) {
					t.Errorf("got %+v, %v, %v", v, ok, err)
				}
			}
		})
	}
	wg.Wait()
}

// What no Sync covers is a miss after the next boot; what one covers counts.
// TestRecordsThatComeAndGo leaves no directory of a bucket's records, and puts,
// deletes and lists them at once.
func TestRecordsThatComeAndGo(t *testing.T) {
	s := newStore(t)
	var all sync.WaitGroup
	for worker := range 4 {
		all.Go(func() {
			for i := range 200 {
				key := fmt.Sprint(i % 3) // the same few directories
				if err := s.PutRecord("b", key, worker); err != nil {
					t.Errorf("put: %v", err)
				}
				for _, err := range s.Records("b") {
					if err != nil {
						t.Errorf("list: %v", err)
					}
				}
				if err := s.DeleteRecord("b", key); err != nil {
					t.Errorf("delete: %v", err)
				}
			}
		})
	}
	all.Wait()
	left, err := os.ReadDir(filepath.Join(s.Root(), "records", "b"))
	must(t, err)
	if len(left) > 0 {
		t.Errorf("directories of records are left: %v", left)
	}
	must(t, s.PutRecord("b", "k", 1))
	if ok, err := s.GetRecord("b", "k", nil); !ok || err != nil {
		t.Errorf("after all: %v, %v", ok, err)
	}
}

func TestNextBoot(t *testing.T) {
	root := filepath.Join(t.TempDir(), "store")
	ctx := context.Background()
	first := openBoot(t, root, "boot-1")
	must(t, first.PutRecord("b", "early", 1))
	early := putBlob(t, first, "early")
	if !first.Unsynced() {
		t.Error("Unsynced is false after a put")
	}
	must(t, first.Sync(ctx))
	if first.Unsynced() {
		t.Error("Unsynced is true after a Sync")
	}
	must(t, first.PutRecord("b", "late", 1))
	late := putBlob(t, first, "late")
	damaged := putBlob(t, first, "damaged")
	path, err := first.BlobPath(damaged)
	must(t, err)

	same := openBoot(t, root, "boot-1")
	for _, key := range []string{"early", "late"} {
		if ok, err := same.GetRecord("b", key, nil); !ok || err != nil {
			t.Errorf("%s in the same boot: %v, %v", key, ok, err)
		}
	}
	// The power fails, and leaves one blob as long as it was, but empty.
	must(t, os.Chmod(path, 0o600))
	must(t, os.WriteFile(path, make([]byte, len("damaged")), 0o600))

	second := openBoot(t, root, "boot-2")
	for key, want := range map[string]bool{"early": true, "late": false} {
		if ok, err := second.GetRecord("b", key, nil); ok != want || err != nil {
			t.Errorf("%s in the next boot: %v, %v, want %v", key, ok, err, want)
		}
	}
	listed := 0
	for range second.Records("b") {
		listed++
	}
	if listed != 1 {
		t.Errorf("%d records listed in the next boot, want 1", listed)
	}
	// Blobs can be checked, so only the damaged one is lost.
	for d, want := range map[digest.Digest]bool{early: true, late: true, damaged: false} {
		if _, ok := second.HasBlob(d); ok != want {
			t.Errorf("blob %s in the next boot: %v, want %v", d, ok, want)
		}
	}
	if putBlob(t, second, "damaged") != damaged {
		t.Error("the blob could not be made again")
	}
	if got, err := readBlob(second, damaged); err != nil || got != "damaged" {
		t.Errorf("the blob that was made again: %q, %v", got, err)
	}
}

// What was put while a Sync was going on belongs to the next generation.
func TestSyncGenerations(t *testing.T) {
	root := filepath.Join(t.TempDir(), "store")
	ctx := context.Background()
	s := openBoot(t, root, "boot-1")
	for i := range 3 {
		must(t, s.PutRecord("b", fmt.Sprint("synced", i), 1))
		must(t, s.Sync(ctx))
		must(t, s.Sync(ctx)) // nothing to do, and no harm
	}
	must(t, s.PutRecord("b", "unsynced", 1))
	var stamp store.Stamp
	must(t, s.Stamped(func(st store.Stamp) error { stamp = st; return nil }))
	next := openBoot(t, root, "boot-2")
	for i := range 3 {
		if ok, err := next.GetRecord("b", fmt.Sprint("synced", i), nil); !ok || err != nil {
			t.Errorf("record %d: %v, %v", i, ok, err)
		}
	}
	if ok, _ := next.GetRecord("b", "unsynced", nil); ok || next.Trusts(stamp) {
		t.Error("what no Sync covers counts")
	}
	for _, bad := range []store.Stamp{"", ".", "boot-1", "boot-1.", "boot-1.x", "../boot-1.0", "boot-3.0", "boot-1.-1"} {
		if next.Trusts(bad) {
			t.Errorf("stamp %q is trusted", bad)
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	held, err := s.Lock(context.Background(), "store sync")
	must(t, err)
	if err := s.Sync(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	must(t, held.Unlock())
}
