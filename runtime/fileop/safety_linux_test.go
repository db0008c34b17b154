package fileop_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/moby/buildkit/solver/pb"
	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/fileop"
)

// swapper exchanges two names of a directory again and again, as a parallel
// step could, until it is stopped.
func swapper(one, two string) (halt func()) {
	stop := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				unix.Renameat2(unix.AT_FDCWD, one, unix.AT_FDCWD, two, unix.RENAME_EXCHANGE)
			}
		}
	})
	return func() { close(stop); done.Wait() }
}

// CVE-2024-23651, CVE-2026-55686 and their like: a directory of the source, or
// of the destination, becomes a symlink that leaves the root while it is used.
func TestCopyNeverLeavesItsRoots(t *testing.T) {
	outside := newTree(t, "canary=secret", "deep/canary=secret")
	src := newTree(t, "d/a=1", "d/deep/canary=public", "d/b=2")
	must(t, os.Symlink(filepath.Join(outside, "deep"), filepath.Join(src, "d/evil")))
	haltSource := swapper(filepath.Join(src, "d/deep"), filepath.Join(src, "d/evil"))

	dst := newTree(t, "into/d/deep/")
	must(t, os.Symlink(outside, filepath.Join(dst, "into/d/evil")))
	haltTarget := swapper(filepath.Join(dst, "into/d/deep"), filepath.Join(dst, "into/d/evil"))

	for i := range 120 {
		a := action("/d", "/into")
		switch i % 4 {
		case 1:
			a = action("/d/deep/canary", fmt.Sprintf("/into/d/deep/f%d", i), create)
		case 2:
			a = action("/d/*/canary", "/into/d/deep/", wildcard, follow, empty, create)
		case 3:
			a = action("/", "/into", contents, include("d/deep/*"), replace)
		}
		_ = copyDirs(t, src, dst, a) // it may fail: the tree changes
		_, _ = digestOf(t, src, a)
		r := openRoot(t, dst)
		_ = fileop.Mkfile(ctx, r, &pb.FileActionMkFile{Path: "/into/d/deep/made", Mode: 0o644, Timestamp: -1}, fileop.Options{})
		_ = fileop.Mkdir(ctx, r, &pb.FileActionMkDir{Path: "/into/d/deep/x/y", Mode: 0o755, MakeParents: true, Timestamp: -1}, fileop.Options{})
		_ = fileop.Rm(ctx, r, &pb.FileActionRm{Path: "/into/d/deep/*", AllowWildcard: true, AllowNotFound: true})
	}
	haltSource()
	haltTarget()
	for _, l := range strings.Split(lines(t, dst), "\n") {
		if strings.Contains(l, "secret") {
			t.Errorf("the copy read outside: %s", l)
		}
	}
	want := []string{"/canary 100644", "/deep 040755", "/deep/canary 100644"}
	got := strings.Split(lines(t, outside), "\n")
	if len(got) != len(want) {
		t.Fatalf("the copy wrote outside: %q", got)
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("outside: %q, want %q", got[i], want[i])
		}
	}
}

func TestCopyStopsWhenCancelled(t *testing.T) {
	src := newTree(t, "d/a=1", "d/b=2")
	canceled, cancel := context.WithCancelCause(ctx)
	reason := errors.New("the user pressed ctrl-c")
	cancel(reason)
	from := fileop.RootTree(openRoot(t, src), fileop.RootOptions{})
	err := fileop.Copy(canceled, openRoot(t, t.TempDir()), from, action("/", "/x", contents), fileop.Options{})
	if !errors.Is(err, reason) {
		t.Error(err)
	}
	if _, err := fileop.Digest(canceled, from, action("/", "/x", contents)); !errors.Is(err, reason) {
		t.Error(err)
	}
}

func TestCopyReportsProgress(t *testing.T) {
	src := t.TempDir()
	for i := range 600 {
		must(t, os.WriteFile(filepath.Join(src, fmt.Sprint(i)), []byte("0123456789"), 0o644))
	}
	var got []fileop.Progress
	from := fileop.RootTree(openRoot(t, src), fileop.RootOptions{})
	must(t, fileop.Copy(ctx, openRoot(t, t.TempDir()), from, action("/", "/x", contents), fileop.Options{
		Progress: func(p fileop.Progress) { got = append(got, p) },
	}))
	if len(got) != 3 || got[2] != (fileop.Progress{Files: 600, Bytes: 6000}) {
		t.Errorf("progress %v", got)
	}
}

// A file is copied whole when it is larger than the buffers, and shares no
// more than it should with a file that is being written.
func TestCopyLargeFile(t *testing.T) {
	src := t.TempDir()
	data := make([]byte, 5<<20+123)
	for i := range data {
		data[i] = byte(i * 7 >> 3)
	}
	must(t, os.WriteFile(filepath.Join(src, "f"), data, 0o644))
	dst := t.TempDir()
	must(t, copyDirs(t, src, dst, action("/f", "/g")))
	got, err := os.ReadFile(filepath.Join(dst, "g"))
	if err != nil || string(got) != string(data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestSingleIDRecordsOwners(t *testing.T) {
	src := newTree(t, "d/ 0750", "d/f=x 4711", "d/l -> f")
	dst := t.TempDir()
	o := fileop.Options{SingleID: true}
	from := fileop.RootTree(openRoot(t, src), fileop.RootOptions{SingleID: true})
	r := openRoot(t, dst)
	if err := fileop.Copy(ctx, r, from, action("/", "/o", contents, chown(3, 4)), o); errors.Is(err, unix.EOPNOTSUPP) {
		t.Skipf("MISSING: extended attributes: %v", err)
	} else {
		must(t, err)
	}
	if got := xattrsOf(filepath.Join(dst, "o/d/f")); got != `user.strata.stat="3:4:104711"` {
		t.Errorf("file: %s", got)
	}
	if got := xattrsOf(filepath.Join(dst, "o/d")); got != `user.strata.stat="3:4:40750"` {
		t.Errorf("directory: %s", got)
	}
	// What is recorded is what a copy of it and its digest see.
	made := fileop.RootTree(r, fileop.RootOptions{SingleID: true})
	must(t, fileop.Copy(ctx, r, made, action("/o/d", "/p"), o))
	if got := xattrsOf(filepath.Join(dst, "p/f")); got != `user.strata.stat="3:4:104711"` {
		t.Errorf("copy of a copy: %s", got)
	}
	must(t, fileop.Copy(ctx, r, made, action("/o/d", "/p", chown(0, 0), contents), o))
	if got := xattrsOf(filepath.Join(dst, "p/f")); got != "" {
		t.Errorf("given back to root: %s", got)
	}
	must(t, fileop.Mkfile(ctx, r, &pb.FileActionMkFile{Path: "/q", Mode: 0o600, Timestamp: -1, Owner: &pb.ChownOpt{User: byID(9)}}, o))
	if got := xattrsOf(filepath.Join(dst, "q")); got != `user.strata.stat="9:9:100600"` {
		t.Errorf("mkfile: %s", got)
	}
}

func TestSingleIDRecordsDevices(t *testing.T) {
	dst := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dst, "null"), nil, 0o600))
	if err := unix.Setxattr(filepath.Join(dst, "null"), "user.strata.stat", []byte("5:6:20666:1:3"), 0); err != nil {
		t.Skipf("MISSING: extended attributes: %v", err)
	}
	r := openRoot(t, dst)
	made := fileop.RootTree(r, fileop.RootOptions{SingleID: true})
	must(t, fileop.Copy(ctx, r, made, action("/null", "/copy"), fileop.Options{SingleID: true}))
	if got := xattrsOf(filepath.Join(dst, "copy")); got != `user.strata.stat="5:6:20666:1:3"` {
		t.Error(got)
	}
	if fi, err := os.Lstat(filepath.Join(dst, "copy")); err != nil || !fi.Mode().IsRegular() {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
}
