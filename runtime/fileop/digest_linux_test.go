package fileop_test

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/internal/testenv"
	"github.com/strata-build/strata/runtime/fileop"
)

func digestOf(t testing.TB, dir string, a *pb.FileActionCopy) (digest.Digest, error) {
	t.Helper()
	return fileop.Digest(context.Background(), fileop.RootTree(openRoot(t, dir), fileop.RootOptions{}), a)
}

var digestTree = []string{"d/ 0750", "d/f=text", "d/g=more 0600", "d/l -> f", "d/sub/h=deep", "other=x", "h1=same", "h2 == h1", "p |"}

func TestDigestSeesWhatIsSelected(t *testing.T) {
	all := action("/", "/", contents)
	sub := action("/d", "/", contents)
	itself := action("/d", "/")
	some := action("/", "/", contents, include("d/f", "**/h"), exclude("other"))
	glob := action("/d/*", "/x/", wildcard, create)
	cases := map[string]struct {
		change func(dir string) error
		differ []*pb.FileActionCopy
		same   []*pb.FileActionCopy
	}{
		"nothing": {func(string) error { return nil }, nil, []*pb.FileActionCopy{all, sub, itself, some, glob}},
		"time": {func(d string) error { return setTime(filepath.Join(d, "d/f"), time.Unix(5, 5)) },
			nil, []*pb.FileActionCopy{all, sub, itself, some, glob}},
		"contents": {func(d string) error { return os.WriteFile(filepath.Join(d, "d/f"), []byte("tExt"), 0o644) },
			[]*pb.FileActionCopy{all, sub, itself, some, glob}, nil},
		"contents of what is not selected": {func(d string) error { return os.WriteFile(filepath.Join(d, "other"), []byte("y"), 0o644) },
			[]*pb.FileActionCopy{all}, []*pb.FileActionCopy{sub, itself, some, glob}},
		"new file": {func(d string) error { return os.WriteFile(filepath.Join(d, "d/z"), nil, 0o644) },
			[]*pb.FileActionCopy{all, sub, itself, glob}, []*pb.FileActionCopy{some}},
		"removed file": {func(d string) error { return os.Remove(filepath.Join(d, "d/g")) },
			[]*pb.FileActionCopy{all, sub, itself, glob}, []*pb.FileActionCopy{some}},
		"renamed file": {func(d string) error { return os.Rename(filepath.Join(d, "d/g"), filepath.Join(d, "d/e")) },
			[]*pb.FileActionCopy{all, sub, itself, glob}, []*pb.FileActionCopy{some}},
		"mode": {func(d string) error { return os.Chmod(filepath.Join(d, "d/f"), 0o600) },
			[]*pb.FileActionCopy{all, sub, itself, some, glob}, nil},
		"mode of the directory": {func(d string) error { return os.Chmod(filepath.Join(d, "d"), 0o700) },
			[]*pb.FileActionCopy{all, itself, some}, []*pb.FileActionCopy{sub, glob}},
		"mode of the root": {func(d string) error { return os.Chmod(d, 0o711) },
			nil, []*pb.FileActionCopy{all, sub, itself, some, glob}},
		"link target": {func(d string) error { return relink(filepath.Join(d, "d/l"), "g") },
			[]*pb.FileActionCopy{all, sub, itself, glob}, []*pb.FileActionCopy{some}},
		"hard link broken": {func(d string) error { return relinkFile(filepath.Join(d, "h2"), "same") },
			[]*pb.FileActionCopy{all}, []*pb.FileActionCopy{sub, itself, some, glob}},
		"type": {func(d string) error {
			return errors.Join(os.Remove(filepath.Join(d, "p")), os.WriteFile(filepath.Join(d, "p"), nil, 0o640))
		}, []*pb.FileActionCopy{all}, []*pb.FileActionCopy{sub, itself, some, glob}},
		"xattr": {func(d string) error { return unix.Setxattr(filepath.Join(d, "d/f"), "user.x", []byte("y"), 0) },
			[]*pb.FileActionCopy{all, sub, itself, some, glob}, nil},
		"security label": {func(d string) error {
			return unix.Setxattr(filepath.Join(d, "d/f"), "user.overlay.origin", []byte("y"), 0)
		}, nil, []*pb.FileActionCopy{all, sub, itself, some, glob}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			dir := newTree(t, digestTree...)
			before := map[*pb.FileActionCopy]digest.Digest{}
			for _, a := range slices.Concat(c.differ, c.same) {
				d, err := digestOf(t, dir, a)
				must(t, err)
				before[a] = d
			}
			must(t, c.change(dir))
			for a, was := range before {
				d, err := digestOf(t, dir, a)
				must(t, err)
				if differs := d != was; differs != slices.Contains(c.differ, a) {
					t.Errorf("differs: %v, for %v", differs, a)
				}
			}
		})
	}
}

func relink(p, target string) error { return errors.Join(os.Remove(p), os.Symlink(target, p)) }

func relinkFile(p, text string) error {
	return errors.Join(os.Remove(p), os.WriteFile(p, []byte(text), 0o644))
}

func TestDigestSeesOwners(t *testing.T) {
	testenv.Root(t)
	dir := newTree(t, "f=x")
	a := action("/", "/", contents)
	before, err := digestOf(t, dir, a)
	must(t, err)
	must(t, os.Chown(filepath.Join(dir, "f"), 1, 0))
	middle, err := digestOf(t, dir, a)
	must(t, err)
	must(t, os.Chown(filepath.Join(dir, "f"), 0, 1))
	after, err := digestOf(t, dir, a)
	must(t, err)
	if before == middle || middle == after || before == after {
		t.Error("an owner makes no difference")
	}
}

// The name of the match takes part, where the destination is a directory.
func TestDigestSeesTheName(t *testing.T) {
	dir := newTree(t, "a/x=1 0644", "b/x=1 0644", "f=1", "g=1")
	digests := map[digest.Digest]bool{}
	for _, src := range []string{"/a", "/b", "/f", "/g"} {
		d, err := digestOf(t, dir, action(src, "/"))
		must(t, err)
		digests[d] = true
	}
	if len(digests) != 4 {
		t.Errorf("%d digests of 4 names", len(digests))
	}
	one, err := digestOf(t, dir, action("/a", "/", contents))
	must(t, err)
	two, err := digestOf(t, dir, action("/b", "/", contents))
	must(t, err)
	if one != two {
		t.Error("the name of a directory whose contents are copied makes a difference")
	}
}

func TestDigestErrors(t *testing.T) {
	dir := newTree(t, "a/x=1")
	for name, a := range map[string]*pb.FileActionCopy{
		"missing":          action("/nope", "/"),
		"missing wildcard": action("/n*", "/", wildcard),
		"required":         action("/", "/", contents, include("a/y"), required("/a/y")),
		"required missing": action("/", "/", contents, include("z"), required("/z")),
	} {
		if _, err := digestOf(t, dir, a); !errors.Is(err, fileop.ErrNotFound) {
			t.Errorf("%s: digest: %v", name, err)
		}
		if err := copyDirs(t, dir, t.TempDir(), a); !errors.Is(err, fileop.ErrNotFound) {
			t.Errorf("%s: copy: %v", name, err)
		}
	}
	ok := action("/", "/", contents, include("a/x"), required("/a/x"))
	if _, err := digestOf(t, dir, ok); err != nil {
		t.Error(err)
	}
	must(t, copyDirs(t, dir, t.TempDir(), ok))
}

// What a copy makes differs only if the digest does.
func FuzzDigestTellsResultsApart(f *testing.F) {
	testenv.Root(f) // the trees have directories without rights
	for seed := range uint64(60) {
		f.Add(binary.LittleEndian.AppendUint64(nil, seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		seed := make([]byte, 16)
		copy(seed, data)
		g := generator{rand.New(rand.NewPCG(binary.LittleEndian.Uint64(seed), binary.LittleEndian.Uint64(seed[8:])))}
		one := g.tree()
		two := slices.Clone(one)
		for range 1 + g.IntN(2) {
			if len(two) > 0 {
				i := g.IntN(len(two))
				two[i] = strings.Replace(two[i], pick(g, "0 ", "1 ", "2 ", "755", "0600", "a", "b"), pick(g, "1 ", "7 ", "711", "a", "c"), 1)
			}
		}
		a := g.action()
		results, digests := [2][]string{}, [2]digest.Digest{}
		for i, entries := range [][]string{one, two} {
			src := t.TempDir()
			for _, e := range entries {
				if makeEntry(src, e) != nil {
					return // the change made no sense
				}
			}
			fill(t, src)
			dst := t.TempDir()
			if copyDirs(t, src, dst, a) != nil {
				return
			}
			var err error
			digests[i], err = digestOf(t, src, a)
			must(t, err)
			results[i] = list(t, dst, time.Unix(0, 0)) // every time is "now"
		}
		if diff := sameTree(results[0], results[1]); diff != "" && digests[0] == digests[1] {
			t.Errorf("equal digests of\n%q\n%q\nby %v, but\n%s", one, two, a, diff)
		}
	})
}
