// Package snapshottest is the conformance suite of snapshotters.
package snapshottest

import (
	"testing"

	"github.com/strata-build/strata/runtime/snapshot"
	"github.com/strata-build/strata/runtime/store"
)

// OpenFunc opens the snapshotter under test on a store.
type OpenFunc func(t *testing.T, st *store.Store) snapshot.Snapshotter

// Run runs the whole suite.
func Run(t *testing.T, open OpenFunc) {}
