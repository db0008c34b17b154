package fileop_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/solver/pb"
	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/internal/testenv"
	"github.com/strata-build/strata/runtime/fileop"
	"github.com/strata-build/strata/runtime/rootfs"
)

var ctx = context.Background()

// lines lists a tree without the root and without times that are now.
func lines(t *testing.T, dir string) string {
	t.Helper()
	var out []string
	for _, l := range list(t, dir, time.Now().Add(-time.Hour))[1:] {
		out = append(out, strings.TrimSuffix(strings.Join(strings.Fields(l), " "), " now"))
	}
	return strings.Join(out, "\n")
}

func byID(id uint32) *pb.UserOpt { return &pb.UserOpt{User: &pb.UserOpt_ByID{ByID: id}} }

func byName(name string, input int64) *pb.UserOpt {
	return &pb.UserOpt{User: &pb.UserOpt_ByName{ByName: &pb.NamedUserOpt{Name: name, Input: input}}}
}

func TestMkdir(t *testing.T) {
	testenv.Root(t)
	for name, c := range map[string]struct {
		dst   []string
		a     *pb.FileActionMkDir
		want  string
		fails bool
	}{
		"plain": {a: &pb.FileActionMkDir{Path: "/d", Mode: 0o1750, Timestamp: -1},
			want: "/d 040750 0:0"},
		"parents": {a: &pb.FileActionMkDir{Path: "/a/b", Mode: 0o700, MakeParents: true, Timestamp: 1e18, Owner: &pb.ChownOpt{User: byID(3)}},
			want: "/a 040700 3:3 2001-09-09T01:46:40Z\n/a/b 040700 3:3 2001-09-09T01:46:40Z"},
		"exists": {dst: []string{"d/ 0700"}, a: &pb.FileActionMkDir{Path: "/d", Mode: 0o755, Timestamp: -1, Owner: &pb.ChownOpt{User: byID(3)}},
			want: "/d 040700 0:0 2001-02-03T04:05:06Z"},
		"file exists": {dst: []string{"d=1 0600"}, a: &pb.FileActionMkDir{Path: "/d", Mode: 0o755, Timestamp: -1},
			want: "/d 100600 0:0 \"1\" 2001-02-03T04:05:06Z"},
		"file exists, parents": {dst: []string{"d=1"}, a: &pb.FileActionMkDir{Path: "/d", MakeParents: true, Mode: 0o755, Timestamp: -1}, fails: true},
		"below file":           {dst: []string{"d=1"}, a: &pb.FileActionMkDir{Path: "/d/e", MakeParents: true, Mode: 0o755, Timestamp: -1}, fails: true},
		"parent missing":       {a: &pb.FileActionMkDir{Path: "/a/b", Mode: 0o755, Timestamp: -1}, fails: true},
		"through link": {dst: []string{"l -> ../../t", "t/"}, a: &pb.FileActionMkDir{Path: "/l/d", Mode: 0o755, Timestamp: 0},
			want: "/l 120777 0:0 -> ../../t 2001-02-03T04:05:06Z\n/t 040755 0:0\n/t/d 040755 0:0 1970-01-01T00:00:00Z"},
		"through dangling link": {dst: []string{"l -> /t"}, a: &pb.FileActionMkDir{Path: "/l/d", MakeParents: true, Mode: 0o755, Timestamp: -1},
			want: "/l 120777 0:0 -> /t 2001-02-03T04:05:06Z\n/t 040755 0:0\n/t/d 040755 0:0"},
		"setgid": {dst: []string{"s/ 2775 0:50"}, a: &pb.FileActionMkDir{Path: "/s/a/b", MakeParents: true, Mode: 0o755, Timestamp: -1},
			want: "/s 042775 0:50\n/s/a 042755 0:50\n/s/a/b 042755 0:50"},
		"root":      {a: &pb.FileActionMkDir{Path: "/", Mode: 0o700, Timestamp: -1}},
		"dots":      {a: &pb.FileActionMkDir{Path: "/../../d", Mode: 0o700, Timestamp: -1}, want: "/d 040700 0:0"},
		"uid, gid":  {a: &pb.FileActionMkDir{Path: "/d", Mode: 0o700, Timestamp: -1, Owner: &pb.ChownOpt{User: byID(3), Group: byID(4)}}, want: "/d 040700 3:4"},
		"gid alone": {a: &pb.FileActionMkDir{Path: "/d", Mode: 0o700, Timestamp: -1, Owner: &pb.ChownOpt{Group: byID(4)}}, want: "/d 040700 0:4"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := newTree(t, c.dst...)
			err := fileop.Mkdir(ctx, openRoot(t, dir), c.a, fileop.Options{})
			checkAction(t, dir, err, c.fails, c.want)
		})
	}
}

func checkAction(t *testing.T, dir string, err error, fails bool, want string) {
	t.Helper()
	if (err != nil) != fails {
		t.Errorf("error %v", err)
	}
	if got := lines(t, dir); !fails && got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestMkfile(t *testing.T) {
	testenv.Root(t)
	for name, c := range map[string]struct {
		dst   []string
		a     *pb.FileActionMkFile
		want  string
		fails bool
	}{
		"new": {a: &pb.FileActionMkFile{Path: "/f", Mode: 0o4640, Data: []byte("x"), Timestamp: 1e18, Owner: &pb.ChownOpt{User: byID(3)}},
			want: `/f 100640 3:3 "x" 2001-09-09T01:46:40Z`},
		"over file": {dst: []string{"f=old 0777"}, a: &pb.FileActionMkFile{Path: "f", Mode: 0o600, Data: []byte("new"), Timestamp: -1},
			want: `/f 100600 0:0 "new"`},
		"over hard link": {dst: []string{"f=old", "g == f"}, a: &pb.FileActionMkFile{Path: "f", Mode: 0o600, Data: []byte("new"), Timestamp: -1},
			want: "/f 100600 0:0 \"new\"\n/g 100644 0:0 \"old\" 2001-02-03T04:05:06Z"},
		"over device": {dst: []string{"f %c"}, a: &pb.FileActionMkFile{Path: "f", Mode: 0o600, Data: []byte("new"), Timestamp: -1},
			want: `/f 100600 0:0 "new"`},
		"through link": {dst: []string{"l -> f", "f=old"}, a: &pb.FileActionMkFile{Path: "l", Mode: 0o600, Data: []byte("new"), Timestamp: -1},
			want: "/f 100600 0:0 \"new\"\n/l 120777 0:0 -> f 2001-02-03T04:05:06Z"},
		"through link out": {dst: []string{"l -> ../../../../../../f"}, a: &pb.FileActionMkFile{Path: "l", Mode: 0o600, Data: []byte("new"), Timestamp: -1},
			want: "/f 100600 0:0 \"new\"\n/l 120777 0:0 -> ../../../../../../f 2001-02-03T04:05:06Z"},
		"over dir":       {dst: []string{"f/x=1"}, a: &pb.FileActionMkFile{Path: "f", Timestamp: -1}, fails: true},
		"root":           {a: &pb.FileActionMkFile{Path: "/", Timestamp: -1}, fails: true},
		"parent missing": {a: &pb.FileActionMkFile{Path: "/a/f", Timestamp: -1}, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := newTree(t, c.dst...)
			err := fileop.Mkfile(ctx, openRoot(t, dir), c.a, fileop.Options{})
			checkAction(t, dir, err, c.fails, c.want)
			if strings.Contains(lines(t, dir), ".tmp") {
				t.Error("a temporary file is left")
			}
		})
	}
}

func TestSymlink(t *testing.T) {
	testenv.Root(t)
	for name, c := range map[string]struct {
		dst   []string
		a     *pb.FileActionSymlink
		want  string
		fails bool
	}{
		"new": {a: &pb.FileActionSymlink{Oldpath: "../any where", Newpath: "/l", Timestamp: 1e18, Owner: &pb.ChownOpt{User: byID(3)}},
			want: "/l 120777 3:3 -> ../any where 2001-09-09T01:46:40Z"},
		"exists": {dst: []string{"l=1"}, a: &pb.FileActionSymlink{Oldpath: "x", Newpath: "/l", Timestamp: -1}, fails: true},
		"dangling link there": {dst: []string{"l -> m"}, a: &pb.FileActionSymlink{Oldpath: "x", Newpath: "/l", Timestamp: -1},
			want: "/l 120777 0:0 -> m 2001-02-03T04:05:06Z\n/m 120777 0:0 -> x"},
		"root":           {a: &pb.FileActionSymlink{Oldpath: "x", Newpath: "/", Timestamp: -1}, fails: true},
		"parent missing": {a: &pb.FileActionSymlink{Oldpath: "x", Newpath: "/a/l", Timestamp: -1}, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := newTree(t, c.dst...)
			err := fileop.Symlink(ctx, openRoot(t, dir), c.a, fileop.Options{})
			checkAction(t, dir, err, c.fails, c.want)
		})
	}
}

func TestRm(t *testing.T) {
	tree := []string{"f=1", "d/x=2", "d/y=3", "d/sub/z=4", "l -> d", "out -> ../../..", "dangling -> nowhere"}
	for name, c := range map[string]struct {
		a     *pb.FileActionRm
		gone  []string
		fails bool
	}{
		"file":                       {a: &pb.FileActionRm{Path: "/f"}, gone: []string{"f"}},
		"slash":                      {a: &pb.FileActionRm{Path: "/d/"}, gone: []string{"d"}},
		"dir":                        {a: &pb.FileActionRm{Path: "d"}, gone: []string{"d"}},
		"link itself":                {a: &pb.FileActionRm{Path: "l"}, gone: []string{"l"}},
		"dangling link":              {a: &pb.FileActionRm{Path: "dangling"}, gone: []string{"dangling"}},
		"through link":               {a: &pb.FileActionRm{Path: "l/x"}, gone: []string{"d/x"}},
		"through link out":           {a: &pb.FileActionRm{Path: "out/f"}, gone: []string{"f"}},
		"dots":                       {a: &pb.FileActionRm{Path: "../../f"}, gone: []string{"f"}},
		"missing":                    {a: &pb.FileActionRm{Path: "nope"}, fails: true},
		"missing allowed":            {a: &pb.FileActionRm{Path: "nope", AllowNotFound: true}},
		"missing dir":                {a: &pb.FileActionRm{Path: "nope/x"}, fails: true},
		"missing dir allowed":        {a: &pb.FileActionRm{Path: "nope/x", AllowNotFound: true}},
		"below file":                 {a: &pb.FileActionRm{Path: "f/x"}, fails: true},
		"root":                       {a: &pb.FileActionRm{Path: "/"}, fails: true},
		"wildcard":                   {a: &pb.FileActionRm{Path: "d/[xy]", AllowWildcard: true}, gone: []string{"d/x", "d/y"}},
		"wildcard through link":      {a: &pb.FileActionRm{Path: "l/*/z", AllowWildcard: true}},
		"wildcard through link base": {a: &pb.FileActionRm{Path: "l/sub/*", AllowWildcard: true}, gone: []string{"d/sub/z"}},
		"wildcard matches nothing":   {a: &pb.FileActionRm{Path: "q*", AllowWildcard: true}},
		"wildcard without one":       {a: &pb.FileActionRm{Path: "f", AllowWildcard: true}, gone: []string{"f"}},
		"wildcard off":               {a: &pb.FileActionRm{Path: "d/*"}, fails: true},
		"all":                        {a: &pb.FileActionRm{Path: "*", AllowWildcard: true}, gone: []string{"f", "d", "l", "out", "dangling"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := newTree(t, tree...)
			err := fileop.Rm(ctx, openRoot(t, dir), c.a)
			if (err != nil) != c.fails {
				t.Errorf("error %v", err)
			}
			for _, e := range []string{"f", "d", "d/x", "d/y", "d/sub/z", "l", "out", "dangling"} {
				_, err := os.Lstat(filepath.Join(dir, e))
				want := slices.ContainsFunc(c.gone, func(g string) bool { return g == e || strings.HasPrefix(e, g+"/") })
				if gone := err != nil; gone != want {
					t.Errorf("%s gone: %v", e, gone)
				}
			}
		})
	}
}

func TestOwnerByName(t *testing.T) {
	testenv.Root(t)
	image := newTree(t,
		"etc/passwd=root:x:0:0::/:/bin/sh\napp:x:1000:2000::/:/bin/sh\n", "etc/group=root:x:0:\nstaff:x:50:\n")
	for name, c := range map[string]struct {
		owner *pb.ChownOpt
		want  string
		warn  string
	}{
		"user":          {&pb.ChownOpt{User: byName("app", 7)}, "1000:2000", ""},
		"user, group":   {&pb.ChownOpt{User: byName("app", 7), Group: byName("staff", 7)}, "1000:50", ""},
		"user, gid":     {&pb.ChownOpt{User: byName("app", 7), Group: byID(9)}, "1000:9", ""},
		"uid, group":    {&pb.ChownOpt{User: byID(9), Group: byName("staff", 7)}, "9:50", ""},
		"unknown":       {&pb.ChownOpt{User: byName("nobody", 7)}, "0:0", `"nobody"`},
		"unknown group": {&pb.ChownOpt{User: byName("app", 7), Group: byName("q", 7)}, "1000:2000", `"q"`},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			var warned strings.Builder
			o := fileop.Options{
				Input: func(_ context.Context, index int64) (*rootfs.Root, error) {
					if index != 7 {
						t.Errorf("input %d", index)
					}
					return openRoot(t, image), nil
				},
				Warn: func(m string) { warned.WriteString(m) },
			}
			must(t, fileop.Mkdir(ctx, openRoot(t, dir), &pb.FileActionMkDir{Path: "/d", Mode: 0o755, Timestamp: -1, Owner: c.owner}, o))
			if got := lines(t, dir); got != "/d 040755 "+c.want {
				t.Error(got)
			}
			if !strings.Contains(warned.String(), c.warn) || c.warn == "" && warned.Len() > 0 {
				t.Errorf("warned %q", warned.String())
			}
		})
	}
}

// CVE-2024-9676, CVE-2026-47262: the user files of a hostile image.
func TestHostileUserFiles(t *testing.T) {
	testenv.Root(t)
	secret := filepath.Join(t.TempDir(), "passwd")
	must(t, os.WriteFile(secret, []byte("app:x:4242:4242::/:/bin/sh\n"), 0o600))
	for name, c := range map[string]struct {
		make  func(p string) error
		fails bool
	}{
		"link out":  {func(p string) error { return os.Symlink(secret, p) }, false},
		"fifo":      {func(p string) error { return unix.Mkfifo(p, 0o600) }, true},
		"device":    {func(p string) error { return unix.Mknod(p, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5))) }, true},
		"huge":      {func(p string) error { return errors.Join(os.WriteFile(p, nil, 0o600), os.Truncate(p, 10<<30)) }, true},
		"directory": {func(p string) error { return os.Mkdir(p, 0o755) }, true},
		"missing":   {func(string) error { return nil }, false},
	} {
		t.Run(name, func(t *testing.T) {
			image := newTree(t, "etc/")
			must(t, c.make(filepath.Join(image, "etc/passwd")))
			dir := t.TempDir()
			err := fileop.Mkdir(ctx, openRoot(t, dir), &pb.FileActionMkDir{
				Path: "/d", Mode: 0o755, Timestamp: -1, Owner: &pb.ChownOpt{User: byName("app", 0)},
			}, fileop.Options{Input: func(context.Context, int64) (*rootfs.Root, error) { return openRoot(t, image), nil }})
			if (err != nil) != c.fails {
				t.Errorf("error %v", err)
			}
			if got := lines(t, dir); !c.fails && got != "/d 040755 0:0" {
				t.Error(got)
			}
		})
	}
}

func TestOwnerByNameNeedsAnInput(t *testing.T) {
	for _, u := range []*pb.UserOpt{byName("app", -1), byName("app", 0), {User: &pb.UserOpt_ByName{}}} {
		err := fileop.Mkdir(ctx, openRoot(t, t.TempDir()), &pb.FileActionMkDir{Path: "/d", Owner: &pb.ChownOpt{User: u}}, fileop.Options{})
		if err == nil {
			t.Errorf("no error for %v", u)
		}
	}
}
