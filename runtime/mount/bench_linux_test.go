package mount_test

import (
	"fmt"
	"testing"

	"github.com/strata-build/strata/internal/testenv"
	"github.com/strata-build/strata/runtime/mount"
)

// BenchmarkView opens and closes read-only trees, so that no directory has
// to be made or removed inside the loop.
func BenchmarkView(b *testing.B) {
	testenv.Root(b)
	for _, n := range []int{2, 20, 400} {
		base := b.TempDir()
		var tree mount.Tree
		for i := range n {
			tree.Lower = append(tree.Lower, mkdir(b, base, fmt.Sprint(i)))
		}
		tree.ReadOnly = true
		b.Run(fmt.Sprint("appending-", n), func(b *testing.B) {
			for b.Loop() {
				m, err := tree.Open()
				if err != nil {
					b.Fatal(err)
				}
				m.Close()
			}
		})
		b.Run(fmt.Sprint("legacy-", n), func(b *testing.B) {
			for b.Loop() {
				m, err := mount.OpenLegacy(tree)
				if err != nil {
					b.Fatal(err)
				}
				m.Close()
			}
		})
	}
}
