package rootfs_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/rootfs"
)

const (
	passwd = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:100::/home/app:\n# note\nbig:x:4294967294:5::/:\n" +
		"over:x:4294967295:5::/:\nminus:x:-1:5::/:\n77:x:12:12::/seven:\n"
	group = "root:x:0:\nusers:x:100:\ndocker:x:999:app,other\nwheel:x:10:root,app\nbad:x:99999999999:app2\n"
)

func TestLookupUser(t *testing.T) {
	r, dir := newRoot(t)
	write(t, dir, "usr/passwd", passwd)
	symlink(t, dir, "etc/passwd", "/usr/passwd") // an absolute link stays inside
	write(t, dir, "etc/group", group)
	for spec, want := range map[string]rootfs.User{
		"":            {Groups: []uint32{0, 10}, Home: "/root"},
		"root":        {Groups: []uint32{0, 10}, Home: "/root"},
		"0":           {Groups: []uint32{0, 10}, Home: "/root"},
		"app":         {UID: 1000, GID: 100, Groups: []uint32{100, 999, 10}, Home: "/home/app"},
		"1000":        {UID: 1000, GID: 100, Groups: []uint32{100, 999, 10}, Home: "/home/app"},
		"app:docker":  {UID: 1000, GID: 999, Groups: []uint32{999}, Home: "/home/app"},
		"app:7":       {UID: 1000, GID: 7, Groups: []uint32{7}, Home: "/home/app"},
		"5000":        {UID: 5000, Groups: []uint32{0}},
		"5000:5001":   {UID: 5000, GID: 5001, Groups: []uint32{5001}},
		"5000:docker": {UID: 5000, GID: 999, Groups: []uint32{999}},
		"77":          {UID: 77, Groups: []uint32{0}},
		"big":         {UID: 4294967294, GID: 5, Groups: []uint32{5}, Home: "/"},
	} {
		got, err := r.LookupUser(spec)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("user %q: %+v, %v\nwant %+v", spec, got, err, want)
		}
	}
	for _, spec := range []string{"nobody", "app:nogroup", "-1", "2147483648", "99999999999999999999", "0:-1", "over", "minus", "app:bad"} {
		if got, err := r.LookupUser(spec); err == nil || !strings.Contains(err.Error(), spec) {
			t.Errorf("user %q: %+v, %v", spec, got, err)
		}
	}
}

// What is wrong is said with the file that was looked into.
func TestLookupUserSays(t *testing.T) {
	r, dir := newRoot(t)
	write(t, dir, "etc/passwd", passwd)
	write(t, dir, "etc/group", group)
	for spec, want := range map[string]string{
		"nobody":      `user "nobody": there is no user "nobody" in the image's /etc/passwd`,
		"app:nogroup": `user "app:nogroup": there is no group "nogroup" in the image's /etc/group`,
		"2147483648":  `user "2147483648": users and groups have numbers from 0 to 2147483647`,
	} {
		if _, err := r.LookupUser(spec); err == nil || err.Error() != want {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
}

func TestLookupIDs(t *testing.T) {
	r, dir := newRoot(t)
	if _, _, ok, err := r.LookupUID("app"); ok || err != nil {
		t.Errorf("without a file: %v, %v", ok, err)
	}
	write(t, dir, "etc/passwd", passwd)
	write(t, dir, "etc/group", group)
	if uid, gid, ok, err := r.LookupUID("app"); uid != 1000 || gid != 100 || !ok || err != nil {
		t.Errorf("app: %d %d %v %v", uid, gid, ok, err)
	}
	if _, _, ok, err := r.LookupUID("nobody"); ok || err != nil {
		t.Errorf("nobody: %v %v", ok, err)
	}
	if _, _, ok, err := r.LookupUID("over"); ok || err == nil {
		t.Errorf("over: %v %v", ok, err)
	}
	if gid, ok, err := r.LookupGID("docker"); gid != 999 || !ok || err != nil {
		t.Errorf("docker: %d %v %v", gid, ok, err)
	}
	if _, ok, err := r.LookupGID("bad"); ok || err == nil {
		t.Errorf("bad: %v %v", ok, err)
	}
}

// TestHostileUserFiles: CVE-2024-9676 and CVE-2026-47262.
func TestHostileUserFiles(t *testing.T) {
	for name, plant := range map[string]func(t *testing.T, p string){
		"fifo":      func(t *testing.T, p string) { must(t, unix.Mkfifo(p, 0o644)) },
		"directory": func(t *testing.T, p string) { must(t, os.Mkdir(p, 0o755)) },
		"loop":      func(t *testing.T, p string) { must(t, os.Symlink("passwd", p)) },
		"host file": func(t *testing.T, p string) { must(t, os.Symlink("../../../../../../etc/passwd", p)) },
		"huge": func(t *testing.T, p string) {
			must(t, os.WriteFile(p, nil, 0o644))
			must(t, os.Truncate(p, 10<<30))
		},
		"long line": func(t *testing.T, p string) {
			must(t, os.WriteFile(p, []byte("root:"+strings.Repeat("x", 1<<20)), 0o644))
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, dir := newRoot(t)
			must(t, os.Mkdir(filepath.Join(dir, "etc"), 0o755))
			plant(t, filepath.Join(dir, "etc/passwd"))
			if u, err := r.LookupUser("root"); err == nil {
				t.Errorf("a name was found: %+v", u)
			}
			if name == "long line" {
				return
			}
			if u, err := r.LookupUser("5:6"); err != nil || u.UID != 5 || u.GID != 6 {
				t.Errorf("a number needs no file: %+v, %v", u, err)
			}
		})
	}
}
