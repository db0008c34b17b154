package tree_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/internal/testenv"
	"github.com/strata-build/strata/runtime/rootfs"
	"github.com/strata-build/strata/runtime/tree"
	"github.com/strata-build/strata/runtime/tree/treetest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// format is the one that this user can write.
func format() tree.Format {
	ordinary := !treetest.Privileged()
	return tree.Format{UserXattr: ordinary, SingleID: ordinary}
}

func rng(seed int) *rand.Rand { return rand.New(rand.NewPCG(uint64(seed), 1)) }

func newDir(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "d")
	must(t, os.Mkdir(dir, 0o755))
	return dir
}

func open(t testing.TB, dir string) *rootfs.Root {
	t.Helper()
	r, err := rootfs.OpenDir(dir)
	must(t, err)
	t.Cleanup(func() { r.Close() })
	return r
}

func hideMarks(name string) bool { return strings.Contains(name, ".overlay.") }

func TestCopy(t *testing.T) {
	for seed := range 5 {
		src, dst := newDir(t), newDir(t)
		treetest.Random(t, rng(seed), src, treetest.Options{Files: 200})
		must(t, tree.Copy(t.Context(), open(t, dst), open(t, src)))
		want := treetest.Describe(t, src, treetest.DescribeOptions{})
		if d := treetest.Diff(want, treetest.Describe(t, dst, treetest.DescribeOptions{})); d != "" {
			t.Fatalf("seed %d: %s", seed, d)
		}
	}
}

func TestCopyReplaces(t *testing.T) {
	src, dst := newDir(t), newDir(t)
	must(t, os.MkdirAll(filepath.Join(src, "dir/sub"), 0o755))
	must(t, os.WriteFile(filepath.Join(src, "file"), []byte("new"), 0o600))
	must(t, os.Link(filepath.Join(src, "file"), filepath.Join(src, "link")))
	must(t, os.Symlink("x", filepath.Join(src, "sym")))
	outside := newDir(t)
	must(t, os.Symlink(outside, filepath.Join(dst, "dir")))
	must(t, os.MkdirAll(filepath.Join(dst, "file/full"), 0o755))
	must(t, os.WriteFile(filepath.Join(dst, "link"), nil, 0o600))
	must(t, os.WriteFile(filepath.Join(dst, "sym"), nil, 0o600))
	must(t, tree.Copy(t.Context(), open(t, dst), open(t, src)))
	want := treetest.Describe(t, src, treetest.DescribeOptions{})
	if d := treetest.Diff(want, treetest.Describe(t, dst, treetest.DescribeOptions{})); d != "" {
		t.Error(d)
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
		t.Errorf("written through a symlink: %v, %v", left, err)
	}
}

func TestCopyKeepsHoles(t *testing.T) {
	src, dst := newDir(t), newDir(t)
	f, err := os.Create(filepath.Join(src, "sparse"))
	must(t, err)
	_, err = f.WriteAt([]byte("data"), 512<<20)
	must(t, err)
	must(t, f.Truncate(1<<30))
	must(t, f.Close())
	must(t, tree.Copy(t.Context(), open(t, dst), open(t, src)))
	var st unix.Stat_t
	must(t, unix.Stat(filepath.Join(dst, "sparse"), &st))
	if st.Size != 1<<30 || st.Blocks > 1000 {
		t.Errorf("%d bytes in %d blocks", st.Size, st.Blocks)
	}
}

func TestTooDeep(t *testing.T) {
	src := newDir(t)
	at, err := open(t, src).OpenDir("/")
	must(t, err)
	for range 2100 {
		must(t, at.Mkdir("d", 0o755))
		next, err := at.OpenDir("d")
		must(t, err)
		must(t, at.Close())
		at = next
	}
	must(t, at.Close())
	err = tree.Copy(t.Context(), open(t, newDir(t)), open(t, src))
	if !errors.Is(err, tree.ErrTooDeep) {
		t.Errorf("error is %v", err)
	}
	must(t, open(t, src).RemoveAll("d"))
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := tree.Copy(ctx, open(t, newDir(t)), open(t, newDir(t))); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
}

// layers makes a random stack, bottom first.
func layers(t testing.TB, r *rand.Rand, n int) []string {
	t.Helper()
	var dirs []string
	for i := range n {
		dir := newDir(t)
		o := treetest.Options{Whiteouts: i > 0}
		if i > 0 {
			o.Opaque = format().OpaqueXattr()
		}
		treetest.Overlapping(t, r, dir, o)
		dirs = append(dirs, dir)
	}
	return dirs
}

// TestFlattenIsOverlay compares our merged views with the kernel's.
func TestFlattenIsOverlay(t *testing.T) {
	testenv.Root(t)
	for seed := range 12 {
		stack := layers(t, rng(seed), 2+seed%4)
		merged, flat, applied := newDir(t), newDir(t), newDir(t)
		var lower []string
		for _, dir := range stack {
			lower = append([]string{dir}, lower...)
		}
		must(t, unix.Mount("overlay", merged, "overlay", unix.MS_RDONLY, "lowerdir="+strings.Join(lower, ":")))
		o := treetest.DescribeOptions{HideXattr: hideMarks, NoWhiteouts: true}
		want := treetest.Describe(t, merged, o)
		must(t, unix.Unmount(merged, 0))

		must(t, tree.Flatten(t.Context(), tree.FlattenRequest{Layers: stack, Dst: open(t, flat), Format: format()}))
		if d := treetest.Diff(want, treetest.Describe(t, flat, o)); d != "" {
			t.Fatalf("seed %d, flatten: %s", seed, d)
		}
		for _, dir := range stack {
			must(t, tree.ApplyLayerDir(t.Context(), dir, open(t, applied), format()))
		}
		if d := treetest.Diff(want, treetest.Describe(t, applied, o)); d != "" {
			t.Fatalf("seed %d, apply: %s", seed, d)
		}
	}
}

// TestFlattenAgrees needs no privileges: the two ways to the merged view agree.
func TestFlattenAgrees(t *testing.T) {
	o := treetest.DescribeOptions{HideXattr: hideMarks, NoWhiteouts: true}
	for seed := range 12 {
		stack := layers(t, rng(seed), 1+seed%5)
		flat, applied := newDir(t), newDir(t)
		must(t, tree.Flatten(t.Context(), tree.FlattenRequest{Layers: stack, Dst: open(t, flat), Format: format()}))
		for _, dir := range stack {
			must(t, tree.ApplyLayerDir(t.Context(), dir, open(t, applied), format()))
		}
		if d := treetest.Diff(treetest.Describe(t, flat, o), treetest.Describe(t, applied, o)); d != "" {
			t.Fatalf("seed %d: %s", seed, d)
		}
	}
}

// TestCompare: applying the difference of two trees to the one gives the other.
func TestCompare(t *testing.T) {
	o := treetest.DescribeOptions{NoDirTimes: true}
	for seed := range 25 {
		lower, upper, diff := newDir(t), newDir(t), newDir(t)
		treetest.Overlapping(t, rng(seed), lower, treetest.Options{})
		treetest.Overlapping(t, rng(seed+1000), upper, treetest.Options{})
		must(t, tree.Compare(t.Context(), tree.CompareRequest{Lower: open(t, lower), Upper: open(t, upper), Dst: diff}))
		must(t, tree.ApplyLayerDir(t.Context(), diff, open(t, lower), format()))
		if d := treetest.Diff(treetest.Describe(t, upper, o), treetest.Describe(t, lower, o)); d != "" {
			t.Fatalf("seed %d: %s", seed, d)
		}
	}
}

// change is what a step does to a copied tree.
type change struct {
	name string
	do   func(t *testing.T, dir string)
	want []string // paths in the difference
}

func changes() []change {
	const old = "usr/bin/tool"
	return []change{
		{"nothing", func(*testing.T, string) {}, nil},
		{"new file", func(t *testing.T, dir string) { must(t, os.WriteFile(dir+"/usr/new", nil, 0o600)) }, []string{"usr", "usr/new"}},
		{"removed", func(t *testing.T, dir string) { must(t, os.Remove(dir+"/"+old)) }, []string{"usr", "usr/bin", old}},
		{"mode", func(t *testing.T, dir string) { must(t, os.Chmod(dir+"/"+old, 0o700)) }, []string{"usr", "usr/bin", old}},
		{"mode of a directory", func(t *testing.T, dir string) { must(t, os.Chmod(dir+"/usr/lib", 0o700)) }, []string{"usr", "usr/lib"}},
		{"mode of the root", func(t *testing.T, dir string) { must(t, os.Chmod(dir, 0o700)) }, nil},
		{"attribute", func(t *testing.T, dir string) { must(t, unix.Setxattr(dir+"/"+old, "user.x", nil, 0)) }, []string{"usr", "usr/bin", old}},
		{"content with the same size and time", func(t *testing.T, dir string) {
			var st unix.Stat_t
			must(t, unix.Stat(dir+"/"+old, &st))
			must(t, os.WriteFile(dir+"/"+old, []byte("TOOL"), 0))
			must(t, unix.UtimesNano(dir+"/"+old, []unix.Timespec{st.Atim, st.Mtim}))
		}, []string{"usr", "usr/bin", old}},
		{"twins exchanged", func(t *testing.T, dir string) {
			must(t, unix.Renameat2(unix.AT_FDCWD, dir+"/usr/bin/one", unix.AT_FDCWD, dir+"/usr/bin/two", unix.RENAME_EXCHANGE))
		}, []string{"usr", "usr/bin", "usr/bin/one", "usr/bin/two"}},
		{"directories of twins exchanged", func(t *testing.T, dir string) {
			must(t, unix.Renameat2(unix.AT_FDCWD, dir+"/usr/d1", unix.AT_FDCWD, dir+"/usr/d2", unix.RENAME_EXCHANGE))
		}, []string{"usr", "usr/d1", "usr/d1/in", "usr/d1/in/f", "usr/d2", "usr/d2/in", "usr/d2/in/f"}},
		{"another name of an old file", func(t *testing.T, dir string) {
			must(t, os.Link(dir+"/"+old, dir+"/usr/lib/alias"))
		}, []string{"usr", "usr/bin", old, "usr/lib", "usr/lib/alias"}},
		{"directory replaced by a link", func(t *testing.T, dir string) {
			must(t, os.RemoveAll(dir+"/usr/d1"))
			must(t, os.Symlink("d2", dir+"/usr/d1"))
		}, []string{"usr", "usr/d1"}},
		{"file replaced by a directory", func(t *testing.T, dir string) {
			must(t, os.Remove(dir+"/"+old))
			must(t, os.Mkdir(dir+"/"+old, 0o755))
		}, []string{"usr", "usr/bin", old}},
	}
}

// original makes the tree that changes change.
func original(t *testing.T) string {
	dir := newDir(t)
	for name, text := range map[string]string{
		"etc/conf": "x", "usr/bin/tool": "tool", "usr/bin/one": "1", "usr/bin/two": "2",
		"usr/lib/lib": "lib", "usr/d1/in/f": "1", "usr/d2/in/f": "2",
	} {
		p := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		must(t, os.WriteFile(p, []byte(text), 0o644))
		ts := []unix.Timespec{{Sec: 1000}, {Sec: 1000}}
		must(t, unix.UtimesNano(p, ts))
	}
	return dir
}

// TestCompareFindsChanges with and without a baseline, and exactly.
func TestCompareFindsChanges(t *testing.T) {
	for _, baseline := range []bool{false, true} {
		for _, c := range changes() {
			t.Run(fmt.Sprintf("%s, baseline %v", c.name, baseline), func(t *testing.T) {
				lower, upper, diff := original(t), newDir(t), newDir(t)
				must(t, tree.Copy(t.Context(), open(t, upper), open(t, lower)))
				req := tree.CompareRequest{Lower: open(t, lower), Upper: open(t, upper), Dst: diff}
				if baseline {
					req.Baseline = tickAfter(t, upper)
				}
				c.do(t, upper)
				must(t, tree.Compare(t.Context(), req))
				got := treetest.Describe(t, diff, treetest.DescribeOptions{})
				if len(got) != len(c.want) {
					t.Errorf("the difference is %v, want %v", got, c.want)
				}
				for _, p := range c.want {
					if _, ok := got[p]; !ok {
						t.Errorf("%s is not in the difference %v", p, got)
					}
				}
				must(t, tree.ApplyLayerDir(t.Context(), diff, open(t, lower), format()))
				o := treetest.DescribeOptions{NoDirTimes: true}
				if d := treetest.Diff(treetest.Describe(t, upper, o), treetest.Describe(t, lower, o)); d != "" {
					t.Error(d)
				}
			})
		}
	}
}

// tickAfter returns a change time that is later than that of every file in dir:
// the clock of the file system has moved on.
func tickAfter(t *testing.T, dir string) time.Time {
	t.Helper()
	var first, st unix.Stat_t
	probe := filepath.Join(filepath.Dir(dir), "probe")
	for {
		must(t, os.WriteFile(probe, nil, 0o600))
		must(t, unix.Stat(probe, &st))
		must(t, os.Remove(probe))
		if first.Ino == 0 {
			first = st
		}
		if st.Ctim != first.Ctim {
			return time.Unix(st.Ctim.Unix())
		}
	}
}

// TestBaselineSparesReading: a file that cannot be read is not read.
func TestBaselineSparesReading(t *testing.T) {
	lower, upper, diff := original(t), newDir(t), newDir(t)
	must(t, tree.Copy(t.Context(), open(t, upper), open(t, lower)))
	baseline := tickAfter(t, upper)
	// What only the content would tell is not seen in a file that is older:
	// the lower one is changed here, which nobody does.
	must(t, os.WriteFile(filepath.Join(lower, "etc/conf"), []byte("y"), 0))
	must(t, unix.UtimesNano(filepath.Join(lower, "etc/conf"), []unix.Timespec{{Sec: 1000}, {Sec: 1000}}))
	must(t, tree.Compare(t.Context(), tree.CompareRequest{
		Lower: open(t, lower), Upper: open(t, upper), Dst: diff, Baseline: baseline,
	}))
	if got := treetest.Describe(t, diff, treetest.DescribeOptions{}); len(got) > 0 {
		t.Errorf("the content was read: %v", got)
	}
}

// TestCompareOverlays compares two overlay mounts that share a layer.
func TestCompareOverlays(t *testing.T) {
	testenv.Root(t)
	base, empty, top, diff := original(t), newDir(t), newDir(t), newDir(t)
	must(t, os.MkdirAll(filepath.Join(top, "usr/bin"), 0o755))
	must(t, os.WriteFile(filepath.Join(top, "usr/bin/tool"), []byte("TOOL"), 0o644))
	must(t, unix.UtimesNano(filepath.Join(top, "usr/bin/tool"), []unix.Timespec{{Sec: 1000}, {Sec: 1000}}))
	a, b := mountOverlay(t, base, empty), mountOverlay(t, base, top)
	must(t, tree.Compare(t.Context(), tree.CompareRequest{Lower: open(t, a), Upper: open(t, b), Dst: diff}))
	got := treetest.Describe(t, diff, treetest.DescribeOptions{})
	if len(got) != 3 || got["usr/bin/tool"] == "" {
		t.Errorf("the difference is %v", got)
	}
}

func mountOverlay(t *testing.T, lower, upper string) string {
	t.Helper()
	m := newDir(t)
	must(t, unix.Mount("overlay", m, "overlay", unix.MS_RDONLY, "lowerdir="+upper+":"+lower))
	t.Cleanup(func() { must(t, unix.Unmount(m, unix.MNT_DETACH)) })
	return m
}
