package fileop_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/internal/testenv"
)

// overlay mounts a tree as the lower directory of an overlay.
func overlay(t *testing.T, entries []string) string {
	t.Helper()
	dir := t.TempDir()
	for _, sub := range []string{"lower", "upper", "work", "merged"} {
		must(t, os.Mkdir(filepath.Join(dir, sub), 0o755))
	}
	fill(t, filepath.Join(dir, "lower"), entries...)
	data := "lowerdir=" + dir + "/lower,upperdir=" + dir + "/upper,workdir=" + dir + "/work"
	merged := filepath.Join(dir, "merged")
	if err := unix.Mount("overlay", merged, "overlay", 0, data); err != nil {
		t.Skipf("MISSING: overlayfs on %s: %v", dir, err)
	}
	t.Cleanup(func() { must(t, unix.Unmount(merged, 0)) })
	return merged
}

// The same cases again, where most destinations are: on an overlay.
func TestCopyOntoOverlayDoesWhatBuildKitDoes(t *testing.T) {
	testenv.Root(t)
	now := time.Now().Add(-time.Hour)
	for name, c := range copyCases {
		t.Run(name, func(t *testing.T) {
			if c.src == nil {
				c.src = source
			}
			from, want, got := newTree(t, c.src...), newTree(t, c.dst...), overlay(t, c.dst)
			a := action(c.from, c.to, append(c.action, dockerfile)...)
			wantErr, gotErr := oracleCopy(from, want, a), copyDirs(t, from, got, a)
			if wantErr != nil || gotErr != nil {
				if (wantErr == nil) != (gotErr == nil) && !errors.Is(wantErr, unix.ENOTDIR) {
					t.Errorf("BuildKit: %v; ours: %v", wantErr, gotErr)
				}
				return
			}
			// The tops were made in different ways.
			if diff := sameTree(list(t, want, now)[1:], list(t, got, now)[1:]); diff != "" {
				t.Errorf("differs from BuildKit:\n%s", diff)
			}
		})
	}
}
