package localsource

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	gofs "io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tonistiigi/fsutil"
	fstypes "github.com/tonistiigi/fsutil/types"
	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/internal/testenv"
	"github.com/strata-build/strata/runtime/fileop"
)

var ctx = context.Background()

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newTree makes "dir/", "file=text", "link -> target", "other == file", "fifo |".
func newTree(t testing.TB, entries ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, e := range entries {
		must(t, makeEntry(dir, e))
	}
	return dir
}

func makeEntry(dir, e string) error {
	name, _, _ := strings.Cut(e, "=")
	name, target, isLink := strings.Cut(name, " -> ")
	name = strings.TrimSpace(strings.TrimSuffix(name, " |"))
	p := filepath.Join(dir, name)
	if strings.HasSuffix(name, "/") {
		return os.MkdirAll(p, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		return err
	}
	switch {
	case isLink:
		return os.Symlink(target, p)
	case strings.HasSuffix(e, " |"):
		return unix.Mkfifo(p, 0o640)
	case strings.Contains(e, " == "):
		_, old, _ := strings.Cut(e, " == ")
		return os.Link(filepath.Join(dir, old), p)
	}
	_, text, _ := strings.Cut(e, "=")
	return os.WriteFile(p, []byte(text), 0o644)
}

func scan(t testing.TB, dir string, o Options) *Manifest {
	t.Helper()
	m, err := Scan(ctx, dir, o)
	must(t, err)
	return m
}

func paths(m *Manifest) string {
	var out []string
	for _, e := range m.Entries() {
		out = append(out, e.Path)
	}
	return strings.Join(out, " ")
}

// oracle is what BuildKit's client sends.
func oracle(dir string, o Options) ([]string, error) {
	f, err := fsutil.NewFS(dir)
	if err != nil {
		return nil, err
	}
	f, err = fsutil.NewFilterFS(f, &fsutil.FilterOpt{Map: func(_ string, st *fstypes.Stat) fsutil.MapResult {
		st.Uid, st.Gid = 0, 0
		return fsutil.MapResultKeep
	}})
	if err != nil {
		return nil, err
	}
	f, err = fsutil.NewFilterFS(f, &fsutil.FilterOpt{
		IncludePatterns: o.Include, ExcludePatterns: o.Exclude, FollowPaths: o.FollowPaths,
	})
	if err != nil {
		return nil, err
	}
	var out []string
	err = fsutil.WithHardlinkReset(f).Walk(ctx, "/", func(p string, d gofs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		st := fi.Sys().(*fstypes.Stat)
		line := fmt.Sprintf("%s %v %d %q %d:%d", p, os.FileMode(st.Mode), st.ModTime, st.Linkname, st.Devmajor, st.Devminor)
		if os.FileMode(st.Mode).IsRegular() {
			data, _ := os.ReadFile(filepath.Join(dir, p))
			line += fmt.Sprintf(" %x", sha256.Sum256(data))
		}
		out = append(out, line)
		return nil
	})
	return out, err
}

// ours is the same list of a manifest.
func ours(m *Manifest) []string {
	var out []string
	for _, e := range m.Entries() {
		mode := os.FileMode(e.Mode & 0o777)
		switch e.Type() {
		case unix.S_IFDIR:
			mode |= os.ModeDir
		case unix.S_IFLNK:
			mode |= os.ModeSymlink
		case unix.S_IFIFO:
			mode |= os.ModeNamedPipe
		case unix.S_IFCHR:
			mode |= os.ModeDevice | os.ModeCharDevice
		case unix.S_IFBLK:
			mode |= os.ModeDevice
		}
		if e.Mode&unix.S_ISVTX != 0 {
			mode |= os.ModeSticky
		}
		line := fmt.Sprintf("%s %v %d %q %d:%d", e.Path, mode, e.Mtime, e.Link, unix.Major(e.Rdev), unix.Minor(e.Rdev))
		if e.IsRegular() {
			line += fmt.Sprintf(" %x", e.Sum)
		}
		out = append(out, line)
	}
	return out
}

func compare(t *testing.T, dir string, o Options) (*Manifest, bool) {
	t.Helper()
	want, wantErr := oracle(dir, o)
	m, err := Scan(ctx, dir, o)
	if (err != nil) != (wantErr != nil) {
		t.Errorf("BuildKit: %v, ours: %v", wantErr, err)
	}
	if err != nil {
		return nil, true
	}
	got := ours(m)
	for _, l := range want {
		if !slices.Contains(got, l) {
			t.Errorf("- %s", l)
		}
	}
	for _, l := range got {
		if !slices.Contains(want, l) {
			t.Errorf("+ %s", l)
		}
	}
	if !t.Failed() && !slices.Equal(got, want) {
		t.Errorf("order %q\nwant %q", got, want)
	}
	return m, false
}

var contextTree = []string{
	"Dockerfile=FROM x", "main.go=package main", "a.b=1", "a/x=2", "a/y/z=3", "a-b=4", "a/y/w/deep=5",
	"node_modules/m/index.js=6", "node_modules/m/package.json=7", ".git/HEAD=8", ".git/objects/ab/cd=9",
	"link -> a/x", "dirlink -> a/y", "abs -> /a", "up -> ../../a/x", "dangling -> nothing", "chain -> link", "loop -> loop",
	"vendor/lib/README.md=10", "vendor/lib/lib.go=11", "empty/", "fifo |", "h1=same", "a/h2 == h1", "zz/h3 == h1",
}

func TestScanSelectsWhatBuildKitDoes(t *testing.T) {
	for name, c := range map[string]struct {
		o     Options
		want  string // "" leaves it to BuildKit
		fails bool
	}{
		"all":                   {},
		"exclude":               {o: Options{Exclude: []string{"node_modules", ".git", "a*"}}},
		"exclude but":           {o: Options{Exclude: []string{"*", "!main.go", "!a/y"}}, want: "a a/y a/y/w a/y/w/deep a/y/z main.go"},
		"exclude but a pattern": {o: Options{Exclude: []string{"**", "!**/*.go"}}, want: "main.go vendor vendor/lib vendor/lib/lib.go"},
		"exclude again":         {o: Options{Exclude: []string{"vendor", "!vendor/lib", "vendor/lib/*.md"}}},
		"exclude deep":          {o: Options{Exclude: []string{"**/w", "*/m"}}},
		"include":               {o: Options{Include: []string{"a/y", "main.go"}}, want: "a a/y a/y/w a/y/w/deep a/y/z main.go"},
		"include pattern":       {o: Options{Include: []string{"**/*.js"}}, want: "node_modules node_modules/m node_modules/m/index.js"},
		"include question":      {o: Options{Include: []string{"a?b"}}, want: "a-b a.b"},
		"include and exclude":   {o: Options{Include: []string{"a"}, Exclude: []string{"a/y/*"}}},
		"include nothing":       {o: Options{Include: []string{"nope"}}},
		"include blank":         {o: Options{Include: []string{""}}},
		"include dot":           {o: Options{Include: []string{"."}}},
		"include slash":         {o: Options{Include: []string{"/a"}}},
		"include malformed":     {o: Options{Include: []string{"["}}, fails: true},
		"include but":           {o: Options{Include: []string{"a", "!a/y"}}},
		"one link of many":      {o: Options{Include: []string{"zz", "a/h2"}}},
		"follow file":           {o: Options{FollowPaths: []string{"main.go"}}, want: "main.go"},
		"follow link":           {o: Options{FollowPaths: []string{"link"}}, want: "a a/x link"},
		"follow chain":          {o: Options{FollowPaths: []string{"chain"}}, want: "a a/x chain link"},
		"follow dir link":       {o: Options{FollowPaths: []string{"dirlink/w"}}, want: "a a/y a/y/w a/y/w/deep dirlink"},
		"follow abs":            {o: Options{FollowPaths: []string{"/abs/y/z"}}, want: "a a/y a/y/z abs"},
		"follow up":             {o: Options{FollowPaths: []string{"up"}}, want: "a a/x up"},
		"follow loop":           {o: Options{FollowPaths: []string{"loop"}}, want: "loop"},
		"follow dangling":       {o: Options{FollowPaths: []string{"dangling", "nope/x", "main.go/x"}}, want: "dangling"},
		"follow wildcard":       {o: Options{FollowPaths: []string{"*link/z"}}},
		"follow deep wildcard":  {o: Options{FollowPaths: []string{"a/*/z"}}},
		"follow class":          {o: Options{FollowPaths: []string{"l[i]nk"}}},
		"follow all":            {o: Options{FollowPaths: []string{"main.go", "."}}},
		"follow none":           {o: Options{FollowPaths: []string{}}},
		"follow and include":    {o: Options{FollowPaths: []string{"link"}, Include: []string{"vendor/**/*.md"}}},
		"follow and exclude":    {o: Options{FollowPaths: []string{"link", "node_modules"}, Exclude: []string{"a/x", "**/*.json"}}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := newTree(t, contextTree...)
			m, failed := compare(t, dir, c.o)
			if failed != c.fails {
				t.Errorf("fails: %v", failed)
			}
			if c.want != "" && paths(m) != c.want {
				t.Errorf("selected %s", paths(m))
			}
		})
	}
}

// A name before a slash sorts as in BuildKit, also where bytes are smaller
// than the slash.
func TestScanOfOddNames(t *testing.T) {
	compare(t, newTree(t, "a/b=1", "a.b=2", "a-b/c=3", "a b=4", "a!=5", "é/x=6", "\xff\xfe=7", "z\n=8", strings.Repeat("n", 255)+"=9"), Options{})
}

func TestScanOfLargeDirectory(t *testing.T) {
	dir := t.TempDir()
	for i := range 3*chunk + 7 {
		must(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("f%d", i)), []byte{byte(i)}, 0o600))
	}
	compare(t, dir, Options{})
	compare(t, dir, Options{CacheDir: t.TempDir(), Exclude: []string{"f?1"}})
}

func TestScanOfRandomTrees(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	pick := func(from ...string) string { return from[r.IntN(len(from))] }
	name := func() string { return pick("a", "b", "c", "d") }
	long := func() string {
		p := name()
		for r.IntN(3) > 0 {
			p += "/" + name()
		}
		return p
	}
	patterns := func() (out []string) {
		for range r.IntN(4) {
			p := pick("", "!") + long()
			switch r.IntN(6) {
			case 0:
				p = strings.Replace(p, name(), "*", 1)
			case 1:
				p = pick("", "!") + "**/" + name()
			case 2:
				p += "/**"
			case 3:
				p = strings.Replace(p, name(), "[a-c]", 1)
			}
			out = append(out, p)
		}
		return out
	}
	for i := range 250 {
		dir := t.TempDir()
		for range 12 {
			p := long()
			_ = makeEntry(dir, pick(p+"="+p, p+"="+p, p+"/", p+" -> "+pick("/", "../", "")+long())) // names can clash
		}
		o := Options{Include: patterns(), Exclude: patterns()}
		for range r.IntN(3) {
			o.FollowPaths = append(o.FollowPaths, strings.Replace(long(), name(), pick("*", "a", "b"), 1))
		}
		if compare(t, dir, o); t.Failed() {
			t.Fatalf("case %d: %+v", i, o)
		}
	}
}

func TestScanOfSocketAndDevices(t *testing.T) {
	testenv.Root(t)
	dir := newTree(t, "f=1")
	must(t, unix.Mknod(filepath.Join(dir, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	must(t, err)
	defer unix.Close(fd)
	t.Chdir(dir) // the path of a socket must be short
	must(t, unix.Bind(fd, &unix.SockaddrUnix{Name: "sock"}))
	m, _ := compare(t, dir, Options{})
	e := m.Entries()[2]
	if e.Path != "sock" || !e.IsRegular() || e.Size != 0 {
		t.Errorf("%+v", e)
	}
}

func TestScanErrors(t *testing.T) {
	dir := newTree(t, "file=1", "secret/f=2", "closed=3")
	for name, c := range map[string]struct{ dir, want string }{
		"missing":         {filepath.Join(dir, "nope"), "does not exist"},
		"not a directory": {filepath.Join(dir, "file"), "is not a directory"},
		"below a file":    {filepath.Join(dir, "file/x"), "is not a directory"},
	} {
		if _, err := Scan(ctx, c.dir, Options{}); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.dir) {
			t.Errorf("%s: %v", name, err)
		}
	}
	canceled, cancel := context.WithCancelCause(ctx)
	reason := errors.New("stopped by the user")
	cancel(reason)
	if _, err := Scan(canceled, dir, Options{}); !errors.Is(err, reason) {
		t.Error(err)
	}
}

func TestPortable(t *testing.T) {
	got := portable(map[string]string{"user.b": "2", "security.capability": "x", "user.a": "1", "security.selinux": "label"})
	if want := []fileop.Xattr{{Name: "user.a", Value: "1"}, {Name: "user.b", Value: "2"}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestDigestOfManifest(t *testing.T) {
	files := []string{"a=1", "d/b=2", "l -> a", "h1=x", "h2 == h1"}
	same := func(dir string) error { return nil }
	base := scan(t, newTree(t, files...), Options{}).Digest()
	for name, c := range map[string]struct {
		change func(dir string) error
		same   bool
		what   string
	}{
		"copy of it": {same, true, ""},
		"time": {func(d string) error {
			return unix.UtimesNano(filepath.Join(d, "a"), []unix.Timespec{{Sec: 1}, {Sec: 2}})
		}, true, ""},
		"contents":    {func(d string) error { return os.WriteFile(filepath.Join(d, "a"), []byte("2"), 0o644) }, false, "modified a contents"},
		"mode":        {func(d string) error { return os.Chmod(filepath.Join(d, "d"), 0o700) }, false, "modified d mode"},
		"name":        {func(d string) error { return os.Rename(filepath.Join(d, "a"), filepath.Join(d, "b")) }, false, "removed a ,added b "},
		"target":      {func(d string) error { return relink(filepath.Join(d, "l"), "b") }, false, "modified l link target"},
		"type":        {func(d string) error { return retype(filepath.Join(d, "l")) }, false, "modified l type"},
		"hard link":   {func(d string) error { return rewrite(filepath.Join(d, "h2"), "x") }, false, "modified h2 link target"},
		"new":         {func(d string) error { return os.Mkdir(filepath.Join(d, "d", "new"), 0o755) }, false, "added d/new "},
		"removed":     {func(d string) error { return os.Remove(filepath.Join(d, "d/b")) }, false, "removed d/b "},
		"xattr":       {func(d string) error { return unix.Setxattr(filepath.Join(d, "a"), "user.a", []byte("b"), 0) }, false, "modified a extended attributes"},
		"other xattr": {func(d string) error { return unix.Setxattr(filepath.Join(d, "a"), "user.strata.stat", []byte("b"), 0) }, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := newTree(t, files...)
			before := scan(t, dir, Options{})
			must(t, c.change(dir))
			after := scan(t, dir, Options{})
			if (after.Digest() == base) != c.same {
				t.Errorf("same digest: %v", !c.same)
			}
			var got []string
			for _, ch := range Diff(before, after) {
				got = append(got, fmt.Sprintf("%s %s %s", ch.Kind, ch.Path, ch.What))
			}
			if s := strings.Join(got, ","); s != c.what {
				t.Errorf("diff %q, want %q", s, c.what)
			}
		})
	}
}

func relink(p, target string) error { return errors.Join(os.Remove(p), os.Symlink(target, p)) }
func retype(p string) error         { return errors.Join(os.Remove(p), os.WriteFile(p, nil, 0o777)) }
func rewrite(p, text string) error {
	return errors.Join(os.Remove(p), os.WriteFile(p, []byte(text), 0o644))
}
