package executor

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/strata-build/strata/runtime/mount"
	"golang.org/x/sys/unix"
)

// written lists what a step left in its upper directory.
func written(t *testing.T, im *image) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(im.upper, func(path string, _ os.DirEntry, err error) error {
		if path != im.upper {
			list = append(list, strings.TrimPrefix(path, im.upper))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func files(t *testing.T, names ...string) string {
	t.Helper()
	contents := map[string]string{}
	for _, n := range names {
		contents[n] = "content of " + n + "\n"
	}
	return layer(t, contents)
}

func TestMounts(t *testing.T) {
	e := newExecutor(t)
	dir := files(t, "f", "sub/g")
	im := newImage(t, base(t), layer(t, map[string]string{"var/run": "-> /run", "run/": ""}))
	got := sh(t, e, func(s *Spec) {
		s.Root = im.root
		s.Mounts = []Mount{
			{Target: "/etc/hosts", Source: bind(t, filepath.Join(dir, "f"))},
			{Target: "/new/deep/dir", Source: bind(t, dir)},
			{Target: "/var/run/x", Source: bind(t, dir), ReadOnly: true},
			{Target: "/new/deep/dir/sub", Source: bind(t, t.TempDir())},
		}
	}, `cat /etc/hosts /new/deep/dir/f /run/x/sub/g; ls /new/deep/dir/sub; (touch /run/x/no) 2>/dev/null || echo read-only; echo new > /new/deep/dir/sub/h`)
	want := "content of f\ncontent of f\ncontent of sub/g\nread-only"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	// The overlay has copied /etc up; nothing else is left.
	if got := written(t, im); !slices.Equal(got, []string{"/etc"}) && len(got) != 0 && !slices.Equal(got, []string{"/etc", "/run"}) {
		t.Errorf("left behind: %v", got)
	}
}

func TestMountOrder(t *testing.T) {
	e := newExecutor(t)
	a, b := files(t, "a"), files(t, "b")
	got := sh(t, e, func(s *Spec) {
		s.Mounts = []Mount{
			{Target: "/m", Source: bind(t, a)},
			{Target: "/m/", Source: bind(t, b)},
			{Target: "/dev/shm", Source: bind(t, a)},
			{Target: "/sys/firmware", Source: bind(t, b)},
		}
	}, "ls /m /dev/shm; grep -c ' /dev/shm ' /proc/mounts")
	if got != "/dev/shm:\na\n\n/m:\nb\n1" {
		t.Errorf("got %q", got)
	}
}

func TestMountInOwnTmpfs(t *testing.T) {
	e := newExecutor(t)
	m, err := mount.Tmpfs(mount.TmpfsOptions{Size: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	got := sh(t, e, func(s *Spec) {
		s.Mounts = []Mount{
			{Target: "/scratch", Source: m},
			{Target: "/scratch/in/it", Source: bind(t, files(t, "x"))},
		}
	}, "ls /scratch/in/it; df -P /scratch | tail -1 | cut -d' ' -f1")
	if got != "x\ntmpfs" {
		t.Errorf("got %q", got)
	}
}

func TestRefusedTargets(t *testing.T) {
	e := newExecutor(t)
	dir := files(t, "f")
	top := layer(t, map[string]string{"loop": "-> loop", "file": "x", "up": "-> ../../..", "self": "-> /proc/self/root"})
	for target, source := range map[string]string{
		"/":                  dir,
		"/up":                dir,
		"/../..":             dir,
		"relative":           dir,
		"/loop":              dir,
		"/loop/x":            dir,
		"/file":              dir,
		"/file/x":            dir,
		"/tmp":               filepath.Join(dir, "f"),
		"/proc":              dir,
		"/proc/self/attr":    dir,
		"/proc/sys":          dir,
		"/tmp/../proc/1":     dir,
		"/proc/1/attr/exec":  filepath.Join(dir, "f"),
		"/self/tmp":          dir,
		"/sys/kernel/absent": dir,
	} {
		r := run(t, e, func(s *Spec) {
			s.Root = newImage(t, base(t), top).root
			s.Mounts = []Mount{{Target: target, Source: bind(t, source)}}
		}, "true")
		if r.err == nil || (!errors.Is(r.err, ErrMountTarget) && target != "/sys/kernel/absent" && target != "/self/tmp") {
			t.Errorf("%s: got %v", target, r.err)
		}
	}
}

func TestMountOverProcFile(t *testing.T) {
	e := newExecutor(t)
	got := sh(t, e, func(s *Spec) {
		s.Mounts = []Mount{{Target: "/proc/meminfo", Source: bind(t, filepath.Join(files(t, "f"), "f"))}}
	}, "cat /proc/meminfo")
	if got != "content of f" {
		t.Errorf("got %q", got)
	}
}

func TestStubs(t *testing.T) {
	e := newExecutor(t)
	dir := files(t, "f")
	past := time.Unix(1000000000, 0)
	for name, c := range map[string]struct {
		target, script string
		left           []string // below /home
	}{
		"untouched":       {"/home/a/b", "true", nil},
		"file":            {"/home/a/f", "true", nil},
		"written through": {"/home/a/b", "echo > /home/a/b/new", nil},
		"neighbour":       {"/home/a/b", "echo > /home/a/new", []string{"/a", "/a/new"}},
		"mode":            {"/home/a/b", "chmod 700 /home/a", nil},
		"moved":           {"/home/a/b", "mv /home/a /home/c", []string{"/c", "/c/b"}},
		"made again":      {"/home/a/b", "mv /home/a /tmp/c; mkdir -p /home/a; echo -n >/home/a/b", nil},
		"filled":          {"/home/a/b", "mv /home/a /tmp/c; mkdir -p /home/a; echo >/home/a/b", []string{"/a", "/a/b"}},
		"existing":        {"/home", "true", nil},
	} {
		top := layer(t, map[string]string{"home/": ""})
		if err := os.Chtimes(filepath.Join(top, "home"), past, past); err != nil {
			t.Fatal(err)
		}
		im := newImage(t, base(t), top)
		source := dir
		if strings.HasSuffix(c.target, "/f") {
			source = filepath.Join(dir, "f")
		}
		sh(t, e, func(s *Spec) {
			s.Root = im.root
			s.Mounts = []Mount{{Target: c.target, Source: bind(t, source)}}
		}, c.script)
		var got []string
		for _, p := range written(t, im) {
			if rest, ok := strings.CutPrefix(p, "/home"); ok && rest != "" {
				got = append(got, rest)
			}
		}
		if !slices.Equal(got, c.left) {
			t.Errorf("%s: left behind: %v, want %v", name, got, c.left)
		}
		// What was changed only by us has its time back.
		st, err := os.Stat(filepath.Join(im.upper, "home"))
		if c.left == nil && !strings.HasPrefix(c.script, "mv ") && err == nil && !st.ModTime().Equal(past) {
			t.Errorf("%s: the parent's time is %v", name, st.ModTime())
		}
	}
}

func TestStubsAreRemovedAfterFailure(t *testing.T) {
	e := newExecutor(t)
	im := newImage(t, base(t), layer(t, map[string]string{"home/": ""}))
	r := run(t, e, func(s *Spec) {
		s.Root = im.root
		s.Mounts = []Mount{{Target: "/home/a/b", Source: bind(t, t.TempDir())}}
	}, "missing")
	if !errors.Is(r.err, ErrNotFound) {
		t.Errorf("got %v", r.err)
	}
	if got := written(t, im); slices.Contains(got, "/home/a") {
		t.Errorf("left behind: %v", got)
	}
}

// CVE-2024-23652: the step puts a symlink to a directory of the host where
// the mount point was, so that the clean-up removes it there.
func TestStubReplacedBySymlink(t *testing.T) {
	e := newExecutor(t)
	outside := t.TempDir()
	if err := os.MkdirAll(filepath.Join(outside, "b", "c"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, script := range map[string]string{
		"parent":      "mv /a /old && ln -s " + outside + " /a",
		"middle":      "mv /a/b /a/old && ln -s " + outside + "/b /a/b",
		"through /..": "mv /a /old && ln -s ../../../../../../../../.." + outside + " /a",
	} {
		im := newImage(t, base(t))
		sh(t, e, func(s *Spec) {
			s.Root = im.root
			s.Mounts = []Mount{{Target: "/a/b/c", Source: bind(t, t.TempDir())}}
		}, script)
		if _, err := os.Stat(filepath.Join(outside, "b", "c")); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
}

// CVE-2024-23651: of two steps that share a cache, one swaps a directory in it
// for a symlink, while the other has a mount below that directory.
func TestMountTargetSwapped(t *testing.T) {
	e := newExecutor(t)
	cache, outside := t.TempDir(), t.TempDir()
	dir, link := filepath.Join(cache, "dir"), filepath.Join(cache, "link")
	if err := errors.Join(os.Mkdir(dir, 0o755), os.Symlink(outside, link)); err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	swaps := make(chan int)
	go func() {
		n := 0
		for ; !stop.Load(); n++ {
			if err := unix.Renameat2(unix.AT_FDCWD, dir, unix.AT_FDCWD, link, unix.RENAME_EXCHANGE); err != nil {
				break
			}
		}
		swaps <- n
	}()
	ran := 0
	for range 150 {
		im := newImage(t, base(t))
		r := run(t, e, func(s *Spec) {
			s.Root = im.root
			s.Mounts = []Mount{
				{Target: "/cache", Source: bind(t, cache)},
				{Target: "/cache/dir/new", Source: bind(t, t.TempDir())},
			}
		}, "sh", "-c", "for d in /cache/dir/new /cache/link/new; do [ -d $d ] && echo x > $d/x; done; true")
		if r.err == nil {
			ran++
		} else if !errors.Is(r.err, ErrMountTarget) && !errors.Is(r.err, unix.ENOENT) {
			t.Error(r.err)
		}
		im.root.Close()
		if entries, err := os.ReadDir(outside); err != nil || len(entries) != 0 {
			t.Fatalf("the host's directory has %v, %v", entries, err)
		}
	}
	stop.Store(true)
	if n := <-swaps; n < 1000 || ran == 0 {
		t.Errorf("%d swaps and %d runs are too few to say anything", n, ran)
	}
}

func TestReadonlyRoot(t *testing.T) {
	e := newExecutor(t)
	im := newImage(t, base(t))
	got := sh(t, e, func(s *Spec) {
		s.Root, s.ReadonlyRoot = im.root, true
		s.Mounts = []Mount{{Target: "/data", Source: bind(t, t.TempDir())}}
	}, `(touch /x) 2>/dev/null && echo written; (touch /tmp/x) 2>/dev/null && echo written; touch /data/x /dev/shm/x && echo data`)
	if got != "data" {
		t.Errorf("got %q", got)
	}
}

func TestReadonlyTree(t *testing.T) {
	e := newExecutor(t)
	root, err := mount.Tree{Lower: []string{base(t), layer(t, map[string]string{"x": "y"})}, ReadOnly: true}.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if got := sh(t, e, func(s *Spec) { s.Root = root }, "(touch /y) 2>/dev/null || echo read-only; cat /x"); got != "read-only\ny" {
		t.Errorf("got %q", got)
	}
}

func TestShm(t *testing.T) {
	e := newExecutor(t)
	for size, want := range map[int64]string{0: "65536", 8 << 20: "8192"} {
		if got := sh(t, e, func(s *Spec) { s.ShmSize = size }, "df -Pk /dev/shm | tail -1 | awk '{print $2}'; stat -c %a /dev/shm"); got != want+"\n1777" {
			t.Errorf("%d: got %q, want %s", size, got, want)
		}
	}
}

// A mount that the host shares: what a step mounts below it must not appear on
// the host.
func TestNothingPropagates(t *testing.T) {
	e := newExecutor(t)
	dir := t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "sub"), 0o755), unix.Mount(dir, dir, "", unix.MS_BIND, "")); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	if err := unix.Mount("", dir, "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	source := os.NewFile(uintptr(fd), dir)
	defer source.Close()
	got := sh(t, e, func(s *Spec) {
		s.Security.Privileged = true
		s.Mounts = []Mount{{Target: "/shared", Source: source}}
	}, "mount -t tmpfs none /shared/sub && touch /shared/sub/x && grep -c shared: /proc/self/mountinfo; true")
	if got != "0" {
		t.Errorf("shared mounts: %s", got)
	}
	if _, err := os.Stat(filepath.Join(dir, "sub", "x")); err == nil {
		t.Error("the step's mount is on the host")
	}
}

// A root that is not empty below the default mounts hides nothing, and a root
// without them gets them for the time of the step.
func TestRootWithoutDirectories(t *testing.T) {
	e := newExecutor(t)
	lower := t.TempDir()
	text, err := os.ReadFile(filepath.Join(base(t), "bin/busybox"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(lower, "sh"), text, 0o755); err != nil {
		t.Fatal(err)
	}
	im := newImage(t, lower)
	r := run(t, e, func(s *Spec) { s.Root = im.root }, "/sh", "-c", "echo /proc/self /sys/class /dev/null")
	if r.stdout != "/proc/self /sys/class /dev/null\n" || r.err != nil {
		t.Errorf("got %q, %v", r.stdout, r.err)
	}
	if got := written(t, im); len(got) != 0 {
		t.Errorf("left behind: %v", got)
	}
}

// Under BuildKit, the layer of a step has the directories that the system's
// file systems were mounted on, and no other mount point.
func TestKeepSystemDirs(t *testing.T) {
	e := newExecutor(t)
	text, err := os.ReadFile(filepath.Join(base(t), "bin/busybox"))
	if err != nil {
		t.Fatal(err)
	}
	im := newImage(t, layer(t, map[string]string{"sh": string(text)}))
	hosts := filepath.Join(files(t, "f"), "f")
	r := run(t, e, func(s *Spec) {
		s.Root, s.KeepSystemDirs = im.root, true
		s.Mounts = []Mount{{Target: "/etc/hosts", Source: bind(t, hosts)}, {Target: "/new/m", Source: bind(t, filepath.Dir(hosts))}, {Target: "/dev/m", Source: bind(t, filepath.Dir(hosts))}}
	}, "/sh", "-c", "true")
	if r.err != nil {
		t.Fatal(r.err)
	}
	if got, want := written(t, im), []string{"/proc", "/sys"}; !slices.Equal(got, want) {
		t.Errorf("left behind: %v, want %v", got, want)
	}
}
