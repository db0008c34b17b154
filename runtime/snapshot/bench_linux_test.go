package snapshot_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/strata-build/strata/internal/testenv"
	"github.com/strata-build/strata/runtime/snapshot"
)

// BenchmarkStep is what a step pays for its file system: prepare, mount,
// write a file, unmount, commit.
func BenchmarkStep(b *testing.B) {
	testenv.Root(b)
	for _, depth := range []int{1, 20} {
		b.Run(fmt.Sprint("layers-", depth), func(b *testing.B) {
			s, ids := stack(b, depth)
			ctx := context.Background()
			i := 0
			for b.Loop() {
				i++
				key := fmt.Sprint("k", i)
				tree, err := s.Prepare(ctx, key, ids)
				must(b, err)
				f, err := tree.Open()
				must(b, err)
				must(b, os.WriteFile(fmt.Sprintf("/proc/self/fd/%d/f", f.Fd()), nil, 0o600))
				must(b, f.Close())
				must(b, s.Commit(ctx, key, key))
			}
		})
	}
}

// BenchmarkPrepare makes actives without mounting them.
func BenchmarkPrepare(b *testing.B) {
	testenv.Root(b)
	s, ids := stack(b, 20)
	i := 0
	for b.Loop() {
		i++
		_, err := s.Prepare(context.Background(), fmt.Sprint("k", i), ids)
		must(b, err)
	}
}

// BenchmarkLayer looks a layer up, as each cache hit does.
func BenchmarkLayer(b *testing.B) {
	testenv.Root(b)
	s, ids := stack(b, 1)
	for b.Loop() {
		_, err := s.Layer(ids[0])
		must(b, err)
	}
}

// stack makes a snapshotter with layers that lie on each other.
func stack(b *testing.B, depth int) (snapshot.Snapshotter, []string) {
	b.Helper()
	s, err := snapshot.Open(newStore(b), snapshot.Options{Driver: snapshot.DriverOverlay})
	must(b, err)
	ids := make([]string, depth)
	for i := range ids {
		ids[i] = fmt.Sprint("base", i)
		dir, err := s.NewLayer(context.Background(), ids[i])
		must(b, err)
		must(b, os.WriteFile(filepath.Join(dir, fmt.Sprint("f", i)), nil, 0o600))
		must(b, s.Commit(context.Background(), ids[i], ids[i]))
	}
	return s, ids
}
