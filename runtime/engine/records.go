package engine

import (
	"context"
	"encoding/json"

	"github.com/strata-build/strata/runtime/store"
	"github.com/strata-build/strata/solver"
)

// records is the store as the solver sees it.
type records struct{ st *store.Store }

// Records returns where the solver finds and keeps results.
func (e *Engine) Records() solver.Records { return records{e.Store} }

// Get implements solver.Records. The store takes what is damaged for absent.
func (r records) Get(_ context.Context, bucket, key string) ([]byte, bool, error) {
	var data json.RawMessage
	ok, err := r.st.GetRecord(bucket, key, &data)
	if err == nil && ok {
		r.st.TouchRecord(bucket, key)
	}
	return data, ok, err
}

// Put implements solver.Records.
func (r records) Put(_ context.Context, bucket, key string, data []byte, refs []string) error {
	kept := make([]store.Ref, len(refs))
	for i, ref := range refs {
		kept[i] = store.Ref(ref)
	}
	return r.st.PutRecord(bucket, key, json.RawMessage(data), kept...)
}

// Touch implements solver.Records.
func (r records) Touch(_ context.Context, bucket, key string) error {
	r.st.TouchRecord(bucket, key)
	return nil
}

// TryLock implements solver.Records.
func (r records) TryLock(_ context.Context, name string) (func(), bool, error) {
	lock, ok, err := r.st.TryLock(name)
	if err != nil || !ok {
		return nil, false, err
	}
	return unlocker(lock), true, nil
}

// Lock implements solver.Records.
func (r records) Lock(ctx context.Context, name string) (func(), error) {
	lock, err := r.st.Lock(ctx, name)
	if err != nil {
		return nil, err
	}
	return unlocker(lock), nil
}

// unlocker drops the error of closing a lock's file: the lock is gone with
// the descriptor in any case.
func unlocker(l *store.Lock) func() {
	return func() { _ = l.Unlock() }
}
