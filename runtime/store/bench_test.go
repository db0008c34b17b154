package store_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/strata-build/strata/runtime/store"
)

// filled returns a store with 10,000 records of the size of a step's result.
func filled(b *testing.B) *store.Store {
	b.Helper()
	s := newStore(b)
	for i := range 10_000 {
		must(b, s.PutRecord("results", fmt.Sprint(i), value{"a step's result", i}, "layer:base", store.Ref(fmt.Sprint("layer:", i))))
	}
	return s
}

func BenchmarkGetRecord(b *testing.B) {
	s := filled(b)
	i := 0
	for b.Loop() {
		var v value
		i = (i + 7919) % 10_000
		if ok, err := s.GetRecord("results", fmt.Sprint(i), &v); !ok || err != nil || v.Count != i {
			b.Fatal(v, ok, err)
		}
	}
}

func BenchmarkPutRecord(b *testing.B) {
	s := filled(b)
	i := 10_000
	for b.Loop() {
		i++
		must(b, s.PutRecord("results", fmt.Sprint(i), value{"a step's result", i}, "layer:base"))
	}
}

func BenchmarkReplaceRecord(b *testing.B) {
	s := filled(b)
	i := 0
	for b.Loop() {
		i = (i + 7919) % 10_000
		must(b, s.PutRecord("results", fmt.Sprint(i), value{"a step's result", i}, "layer:base"))
	}
}

func BenchmarkLock(b *testing.B) {
	s := newStore(b)
	for b.Loop() {
		l, err := s.Lock(context.Background(), "name")
		must(b, err)
		must(b, l.Unlock())
	}
}

func BenchmarkAcquire(b *testing.B) {
	s := newStore(b)
	for b.Loop() {
		must(b, s.Acquire(func() error { return nil }))
	}
}

func BenchmarkOpen(b *testing.B) {
	root := newStore(b).Root()
	for b.Loop() {
		s, err := store.Open(root)
		must(b, err)
		must(b, s.Close())
	}
}

// BenchmarkCollect looks through 10,000 records and finds nothing to remove.
func BenchmarkCollect(b *testing.B) {
	s := filled(b)
	for b.Loop() {
		_, err := s.Collect(context.Background(), store.Policy{})
		must(b, err)
	}
}
