// Package solvertest helps to test what uses the solver: it has Records that
// live in memory, and that a test can damage.
package solvertest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/strata-build/strata/solver"
)

// Records are solver.Records in memory. Several solvers may share them, as
// several processes share a directory. The zero value is empty and ready.
type Records struct {
	// Fail, when set, is asked before each Get ("get"), Put ("put") and Touch
	// ("touch"); what it returns is the error of the call.
	Fail func(op, bucket, key string) error
	// Waiting, when set, is told the name of a lock before Lock waits for it.
	Waiting func(name string)

	mu      sync.Mutex
	records map[string]map[string]*entry // by bucket and key
	locks   map[string]chan struct{}
	counts  map[[2]string]int
}

type entry struct {
	data    []byte
	refs    []string
	damaged bool
}

var _ solver.Records = (*Records)(nil)

// Get implements solver.Records.
func (r *Records) Get(_ context.Context, bucket, key string) ([]byte, bool, error) {
	e, err := r.lookup("get", bucket, key)
	if err != nil {
		return nil, false, err
	}
	if e == nil {
		return nil, false, nil
	}
	if e.damaged {
		return nil, false, fmt.Errorf("%s/%s: %w", bucket, key, solver.ErrDamaged)
	}
	return slices.Clone(e.data), true, nil
}

// Put implements solver.Records.
func (r *Records) Put(_ context.Context, bucket, key string, data []byte, refs []string) error {
	if _, err := r.lookup("put", bucket, key); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.records == nil {
		r.records = map[string]map[string]*entry{}
	}
	if r.records[bucket] == nil {
		r.records[bucket] = map[string]*entry{}
	}
	r.records[bucket][key] = &entry{data: slices.Clone(data), refs: slices.Clone(refs)}
	return nil
}

// Touch implements solver.Records.
func (r *Records) Touch(_ context.Context, bucket, key string) error {
	_, err := r.lookup("touch", bucket, key)
	return err
}

// lookup counts a call, lets it fail, and finds the record.
func (r *Records) lookup(op, bucket, key string) (*entry, error) {
	if r.Fail != nil {
		if err := r.Fail(op, bucket, key); err != nil {
			return nil, err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counts == nil {
		r.counts = map[[2]string]int{}
	}
	r.counts[[2]string{op, bucket}]++
	return r.records[bucket][key], nil
}

// TryLock implements solver.Records.
func (r *Records) TryLock(_ context.Context, name string) (func(), bool, error) {
	lock := r.lock(name)
	select {
	case lock <- struct{}{}:
		return func() { <-lock }, true, nil
	default:
		return nil, false, nil
	}
}

// Lock implements solver.Records.
func (r *Records) Lock(ctx context.Context, name string) (func(), error) {
	if r.Waiting != nil {
		r.Waiting(name)
	}
	lock := r.lock(name)
	select {
	case lock <- struct{}{}:
		return func() { <-lock }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// lock returns the lock of a name: a channel that is full while it is held.
func (r *Records) lock(name string) chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.locks == nil {
		r.locks = map[string]chan struct{}{}
	}
	if r.locks[name] == nil {
		r.locks[name] = make(chan struct{}, 1)
	}
	return r.locks[name]
}

// Locked returns how many locks are held.
func (r *Records) Locked() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, lock := range r.locks {
		n += len(lock)
	}
	return n
}

// Count returns how often an operation ("get", "put", "touch") was called on a
// bucket.
func (r *Records) Count(op, bucket string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counts[[2]string{op, bucket}]
}

// Keys returns the keys in a bucket, sorted.
func (r *Records) Keys(bucket string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.records[bucket]))
}

// Delete removes a record, as a collection would.
func (r *Records) Delete(bucket, key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.records[bucket], key)
}

// Damage makes a record unreadable, as a bad disk would.
func (r *Records) Damage(bucket, key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.records[bucket][key]; e != nil {
		e.damaged = true
	}
}

// Refs returns the references that a record keeps.
func (r *Records) Refs(bucket, key string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.records[bucket][key]; e != nil {
		return slices.Clone(e.refs)
	}
	return nil
}
