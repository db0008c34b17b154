package layer

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/internal/testenv"
	"github.com/strata-build/strata/runtime/rootfs"
	"github.com/strata-build/strata/runtime/tree"
	"github.com/strata-build/strata/runtime/tree/treetest"
)

// childVariable makes the test binary the child of TestRootless, in a user
// namespace; its value is the directory to work in.
const childVariable = "STRATA_LAYER_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		if err := rootlessChild(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// rootlessChild unpacks in.tar and packs it again; and packs a copy, and a
// difference, of what was unpacked.
func rootlessChild(dir string) error {
	ctx := context.Background()
	single := strings.HasSuffix(dir, "single")
	f := tree.Format{UserXattr: true, SingleID: single}
	in, err := os.ReadFile(filepath.Join(dir, "in.tar"))
	if err != nil {
		return err
	}
	layer, copied, empty, diff := filepath.Join(dir, "layer"), filepath.Join(dir, "copy"), filepath.Join(dir, "empty"), filepath.Join(dir, "diff")
	for _, d := range []string{layer, copied, empty, diff} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
	}
	result, err := Apply(ctx, bytes.NewReader(in), layer, ApplyOptions{Format: f})
	if err != nil || result.NeedsLower || len(result.Skipped) > 0 {
		return fmt.Errorf("apply: %+v, %w", result, err)
	}
	if err := withRoots(layer, copied, empty, func(layer, copied, empty *rootfs.Root) error {
		if err := tree.Copy(ctx, copied, layer); err != nil {
			return err
		}
		return tree.Compare(ctx, tree.CompareRequest{Lower: empty, Upper: copied, Dst: diff})
	}); err != nil {
		return err
	}
	for _, name := range []string{"layer", "copy", "diff"} {
		var out bytes.Buffer
		if err := WriteTar(ctx, &out, filepath.Join(dir, name), WriteOptions{Format: f}); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name+".tar"), out.Bytes(), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func withRoots(a, b, c string, fn func(a, b, c *rootfs.Root) error) error {
	var roots []*rootfs.Root
	for _, dir := range []string{a, b, c} {
		r, err := rootfs.OpenDir(dir)
		if err != nil {
			return err
		}
		defer r.Close()
		roots = append(roots, r)
	}
	return fn(roots[0], roots[1], roots[2])
}

// TestRootless: in a user namespace a layer of root's is unpacked, and packed
// again to the same bytes; whoever owns its files, and whatever devices it has.
func TestRootless(t *testing.T) {
	testenv.Root(t)
	src := newDir(t)
	treetest.Random(t, rng(42), src, treetest.Options{Files: 150, Seconds: true})
	must(t, filepath.WalkDir(src, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		// Links and FIFOs can carry no override, and larger ids are not mapped.
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		if !d.IsDir() && !d.Type().IsRegular() && d.Type()&os.ModeDevice == 0 {
			return os.Lchown(p, 0, 0)
		}
		if st.Uid < 65536 && st.Gid < 65536 {
			return nil
		}
		return rechown(p, &st)
	}))
	in := tarOf(t, src, WriteOptions{})
	for name, size := range map[string]int{"single": 1, "range": 65536} {
		t.Run(name, func(t *testing.T) {
			top := newDir(t)
			must(t, os.Chmod(filepath.Dir(filepath.Dir(top)), 0o755)) // the child is somebody else
			dir := filepath.Join(top, name)
			must(t, os.Mkdir(dir, 0o755))
			must(t, os.WriteFile(filepath.Join(dir, "in.tar"), in, 0o644))
			must(t, os.Chown(dir, 100000, 100000))
			runChild(t, dir, size)
			for _, out := range []string{"layer", "copy", "diff"} {
				data, err := os.ReadFile(filepath.Join(dir, out+".tar"))
				must(t, err)
				if !bytes.Equal(data, in) {
					t.Errorf("the tar of %s is another one: %s", out, tarDifference(t, in, data))
				}
			}
		})
	}
}

// rechown gives a file to small ids, and again the mode that chown took away.
func rechown(p string, st *unix.Stat_t) error {
	capability := make([]byte, 64)
	n, capErr := unix.Lgetxattr(p, "security.capability", capability)
	if err := os.Lchown(p, int(st.Uid%1000), int(st.Gid%1000)); err != nil {
		return err
	}
	if capErr == nil {
		if err := unix.Lsetxattr(p, "security.capability", capability[:n], 0); err != nil {
			return err
		}
	}
	if err := unix.Chmod(p, st.Mode&0o7777); err != nil {
		return err
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

func runChild(t *testing.T, dir string, ids int) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childVariable+"="+dir)
	maps := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 100000, Size: ids}}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS, UidMappings: maps, GidMappings: maps,
		Credential: &syscall.Credential{}, GidMappingsEnableSetgroups: true,
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// tarDifference describes where two tars differ.
func tarDifference(t *testing.T, want, got []byte) string {
	t.Helper()
	a, b := newDir(t), newDir(t)
	for dir, data := range map[string][]byte{a: want, b: got} {
		if _, err := Apply(t.Context(), bytes.NewReader(data), dir, ApplyOptions{}); err != nil {
			return err.Error()
		}
	}
	return treetest.Diff(described(t, a), described(t, b))
}
