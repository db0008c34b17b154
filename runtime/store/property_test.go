package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/strata-build/strata/internal/testenv"
	"github.com/strata-build/strata/runtime/store"
)

// The property: whatever several processes, each with several goroutines, do
// at once, a builder never misses what it has leased or made, nor what a root
// refers to, while others collect as hard as they can.

const propertyKeys = 12

func propertyPolicy(r *rand.Rand) store.Policy {
	p := store.Policy{Caches: []string{"results"}, Attached: []string{"facts"}}
	if r.IntN(2) == 0 {
		p.All = true
	} else {
		p.KeepBytes = 1 + r.Int64N(20_000)
	}
	return p
}

func ownObjects(s *store.Store) (objects, error) {
	dir, err := s.Dir("objects")
	return objects{dir}, err
}

// collect runs n collections.
func collect(s *store.Store, n int) error {
	o, err := ownObjects(s)
	if err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(uint64(os.Getpid()), 1))
	for range n {
		if _, err := s.Collect(context.Background(), propertyPolicy(r), o); err != nil {
			return err
		}
	}
	return nil
}

// build runs n build steps in each of a few goroutines.
func build(s *store.Store, seed, n int) error {
	o, err := ownObjects(s)
	if err != nil {
		return err
	}
	errs := make([]error, 3)
	var wg sync.WaitGroup
	for g := range errs {
		b := &builder{s: s, o: o, r: rand.New(rand.NewPCG(uint64(seed), uint64(g))), name: fmt.Sprint(seed, "-", g)}
		wg.Go(func() { errs[g] = b.run(n) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

type builder struct {
	s    *store.Store
	o    objects
	r    *rand.Rand
	name string
	// rooted is the last result that this builder made a root of.
	rooted *result
}

// result is what a step makes: a layer, its blob, and a record of both.
type result struct {
	Layer string
	Blob  digest.Digest
}

func (b *builder) run(n int) error {
	for i := range n {
		if err := b.step(); err != nil {
			return fmt.Errorf("builder %s, step %d: %w", b.name, i, err)
		}
	}
	return nil
}

func (b *builder) step() error {
	key := fmt.Sprint("key", b.r.IntN(propertyKeys))
	lease, err := b.s.NewLease(context.Background())
	if err != nil {
		return err
	}
	res, err := b.reuse(key, lease)
	if err == nil && res == nil {
		res, err = b.make(key, lease)
	}
	if err == nil {
		err = b.use(res)
	}
	return errors.Join(err, lease.Close(), b.checkRoot())
}

// reuse finds and leases a result in one step.
func (b *builder) reuse(key string, lease *store.Lease) (*result, error) {
	var res result
	found := false
	err := b.s.Acquire(func() error {
		ok, err := b.s.GetRecord("results", key, &res)
		if !ok || err != nil {
			return err
		}
		if _, ok := b.s.HasBlob(res.Blob); !ok || !b.o.has(res.Layer) {
			return fmt.Errorf("a record outlived its layer %s or blob", res.Layer)
		}
		found = true
		return lease.Add(store.RecordRef("results", key), store.Ref("layer:"+res.Layer), store.BlobRef(res.Blob))
	})
	if !found || err != nil {
		return nil, err
	}
	b.s.TouchRecord("results", key)
	return &res, nil
}

// make makes a result anew: a layer as the snapshotter does, a blob, and the
// records.
func (b *builder) make(key string, lease *store.Lease) (*result, error) {
	id := fmt.Sprintf("%s-%d", b.name, b.r.Uint64())
	ref := store.Ref("layer:" + id)
	if err := lease.Add(ref); err != nil {
		return nil, err
	}
	if err := b.commitLayer(id); err != nil {
		return nil, err
	}
	w, err := b.s.NewBlob(context.Background())
	if err != nil {
		return nil, err
	}
	_, err = w.Write(make([]byte, b.r.IntN(3000)))
	if err != nil {
		return nil, err
	}
	// It is leased only after this, but what is made is the process's.
	d, _, err := w.Commit(context.Background(), "", -1)
	if err := errors.Join(err, w.Close(), lease.Add(store.BlobRef(d))); err != nil {
		return nil, err
	}
	res := &result{Layer: id, Blob: d}
	err = errors.Join(
		b.s.PutRecord("facts", id, 1, ref, store.BlobRef(d)),
		b.s.PutRecord("results", key, res, ref, store.BlobRef(d)),
	)
	return res, err
}

func (b *builder) commitLayer(id string) error {
	dir, err := b.s.TempDir()
	if err != nil {
		return err
	}
	if err := os.WriteFile(dir+"/l", make([]byte, 1000), 0o600); err != nil {
		return err
	}
	return b.s.Stamped(func(store.Stamp) error {
		return errors.Join(b.s.LeaseMade(store.Ref("layer:"+id)), os.Rename(dir+"/l", b.o.path(id)))
	})
}

// use works with a result, and perhaps names it as an image.
func (b *builder) use(res *result) error {
	for range 5 {
		if !b.o.has(res.Layer) {
			return fmt.Errorf("the leased layer %s is gone", res.Layer)
		}
		if _, err := readBlob(b.s, res.Blob); err != nil {
			return fmt.Errorf("the leased blob is gone: %w", err)
		}
	}
	if b.r.IntN(4) > 0 {
		return nil
	}
	b.rooted = res
	return b.s.PutRecord("images", b.name, res, store.Ref("layer:"+res.Layer), store.BlobRef(res.Blob))
}

// checkRoot looks at what the builder named as an image.
func (b *builder) checkRoot() error {
	if b.rooted == nil {
		return nil
	}
	var res result
	if ok, err := b.s.GetRecord("images", b.name, &res); !ok || err != nil || res != *b.rooted {
		return fmt.Errorf("the root is gone: %v, %w", ok, err)
	}
	if !b.o.has(res.Layer) {
		return fmt.Errorf("the root's layer %s is gone", res.Layer)
	}
	if _, err := readBlob(b.s, res.Blob); err != nil {
		return fmt.Errorf("the root's blob is gone: %w", err)
	}
	return nil
}

func TestBuildersAndCollectors(t *testing.T) {
	testenv.Full(t, "several processes for some seconds")
	s := newStore(t)
	o := newObjects(t, s)
	var others []*exec.Cmd
	for _, role := range []string{"builder", "builder", "collector", "builder"} {
		cmd := start(t, s, role)
		must(t, cmd.Start())
		others = append(others, cmd)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := collect(s, 30); err != nil {
			t.Error(err)
		}
	})
	if err := build(s, 1, 60); err != nil {
		t.Error(err)
	}
	wg.Wait()
	for _, cmd := range others {
		if err := cmd.Wait(); err != nil {
			t.Errorf("another process: %v", err)
		}
	}
	checkAfterwards(t, s, o)
}

// checkAfterwards looks at what is left once everybody is gone: a cap is
// obeyed, and no more than what the images need survives a cap of one byte.
func checkAfterwards(t *testing.T, s *store.Store, o objects) {
	t.Helper()
	ctx := context.Background()
	must(t, s.ReleaseMade())
	p := store.Policy{Caches: []string{"results"}, Attached: []string{"facts"}}
	full, err := s.Usage(ctx, p, o)
	must(t, err)
	p.KeepBytes = full.Total - full.Reclaimable/2
	_, err = s.Collect(ctx, p, o)
	must(t, err)
	capped, err := s.Usage(ctx, p, o)
	must(t, err)
	if capped.Total > p.KeepBytes {
		t.Errorf("the store holds %d bytes, more than the cap of %d", capped.Total, p.KeepBytes)
	}
	p.KeepBytes = 1
	_, err = s.Collect(ctx, p, o)
	must(t, err)
	least, err := s.Usage(ctx, p, o)
	must(t, err)
	if least.Reclaimable != 0 || least.Total == 0 {
		t.Errorf("after a cap of one byte %d of %d bytes are not needed", least.Reclaimable, least.Total)
	}
	if rest := append(files(t, s, "tmp"), files(t, s, "trash")...); len(rest) != 0 {
		t.Errorf("litter: %v", rest)
	}
}
