package executor

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/strata-build/strata/internal/testenv"
	"github.com/strata-build/strata/runtime/executor/seccomp"
	"github.com/strata-build/strata/runtime/mount"
	"github.com/strata-build/strata/runtime/rootfs"
	"golang.org/x/sys/unix"
)

// CVE-2024-21626: a descriptor of the runtime reaches the command.
func TestOpenFiles(t *testing.T) {
	e := newExecutor(t)
	// One that the runtime itself would have inherited, not closed on exec.
	if err := unix.Dup3(1, 57, 0); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(57)
	list := `for f in $(seq 0 200); do [ -L /proc/$$/fd/$f ] && echo $f; done; true`
	if got := sh(t, e, nil, list); got != "0\n1\n2" {
		t.Errorf("open files: got %q", got)
	}
}

// CVE-2024-21626: the working directory is a descriptor of the runtime.
func TestWorkingDirectoryOutside(t *testing.T) {
	e := newExecutor(t)
	files := map[string]string{"root-link": "-> /proc/self/root", "cwd-link": "-> /proc/self/cwd"}
	dirs := []string{"/root-link", "/cwd-link", "/proc/self/root", "/proc/1/cwd", "/proc/thread-self/root/tmp"}
	for n := range 40 {
		files["link"+strconv.Itoa(n)] = "-> /proc/self/fd/" + strconv.Itoa(n)
		dirs = append(dirs, "/link"+strconv.Itoa(n), "/proc/self/fd/"+strconv.Itoa(n), "/proc/self/fd/"+strconv.Itoa(n)+"/../../..")
	}
	top := layer(t, files)
	for _, dir := range dirs {
		im := newImage(t, base(t), top)
		r := run(t, e, func(s *Spec) { s.Root, s.Cwd = im.root, dir }, "pwd")
		if !errors.Is(r.err, ErrCwd) {
			t.Errorf("%s: got %q, %v", dir, r.stdout, r.err)
		}
		im.root.Close()
	}
}

// CVE-2025-52881 and its kin: what is to be masked is somewhere else.
func TestSpecialDirectoriesAsSymlinks(t *testing.T) {
	e := newExecutor(t)
	for _, dir := range []string{"proc", "sys", "dev"} {
		for _, content := range []string{"-> tmp", "-> /tmp", "-> ../../../../../../tmp", "a file"} {
			lower := t.TempDir()
			if err := os.Symlink("busybox", filepath.Join(lower, "sh")); err != nil {
				t.Fatal(err)
			}
			// Without the base, whose directory would be merged with it.
			top := layer(t, map[string]string{dir: content, "tmp/": ""})
			r := run(t, e, func(s *Spec) { s.Root = newImage(t, lower, top).root }, "true")
			if !errors.Is(r.err, ErrMountTarget) || !strings.Contains(r.err.Error(), "/"+dir) {
				t.Errorf("/%s is %q: got %v", dir, content, r.err)
			}
		}
	}
}

func TestMaskedPaths(t *testing.T) {
	e := newExecutor(t)
	got := sh(t, e, nil, `
		for f in interrupts kcore keys timer_list latency_stats sched_debug; do
			[ -e /proc/$f ] && [ -n "$(head -c 1 /proc/$f)" ] && echo /proc/$f has content
		done
		for d in /proc/acpi /proc/scsi /proc/asound /sys/firmware /sys/devices/virtual/powercap; do
			[ -n "$(ls -A $d 2>/dev/null)" ] && echo $d has content
		done
		for f in /proc/sys/kernel/hostname /proc/sys/kernel/core_pattern /proc/sysrq-trigger /proc/irq/default_smp_affinity /sys/kernel/uevent_helper; do
			[ -e $f ] && (echo x > $f) 2>/dev/null && echo $f can be written
		done
		touch /sys/x /proc/acpi/x /sys/firmware/x 2>/dev/null && echo created
		umount /proc/sys /sys/firmware /proc 2>/dev/null && echo unmounted
		mount -o remount,rw /proc/sys 2>/dev/null && echo remounted
		true`)
	if got != "" {
		t.Errorf("got %q", got)
	}
	// The test would not notice if these paths were empty anyway.
	if n, err := os.ReadDir("/sys/firmware"); err == nil && len(n) == 0 {
		t.Error("this machine has nothing in /sys/firmware")
	}
	open := sh(t, e, func(s *Spec) { s.Security.Unmasked = true }, `head -c 1 /proc/interrupts | wc -c; grep -c ' /proc/sys ' /proc/mounts || true`)
	if open != "1\n0" {
		t.Errorf("unmasked: got %q", open)
	}
}

// What covers the paths is the null device and our own directory, on the proc
// and sysfs of this very step.
func TestMasksAreWhatTheyShould(t *testing.T) {
	e := newExecutor(t)
	got := sh(t, e, nil, `stat -c '%F %t:%T' /proc/keys; stat -f -c %T /proc /proc/sys /sys /sys/firmware /dev/pts`)
	want := "character special file 1:3\nproc\nproc\nsysfs\ntmpfs\ndevpts"
	if strings.ReplaceAll(got, "UNKNOWN", "devpts") != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestCapabilities(t *testing.T) {
	e := newExecutor(t)
	own, err := ownCaps()
	if err != nil {
		t.Fatal(err)
	}
	// docker's fourteen, as `docker run busybox grep Cap /proc/self/status` shows.
	const standard = "00000000a80425fb"
	ordinary := rootfs.User{UID: 1000, GID: 1000}
	for name, c := range map[string]struct {
		change     func(*Spec)
		prm, bound string
	}{
		"default":    {func(*Spec) {}, standard, standard},
		"user":       {func(s *Spec) { s.User = ordinary }, none, standard},
		"none":       {func(s *Spec) { s.Security.Capabilities = []string{} }, none, none},
		"one":        {func(s *Spec) { s.Security.Capabilities = []string{"CAP_NET_ADMIN"} }, "0000000000001000", "0000000000001000"},
		"privileged": {func(s *Spec) { s.Security.Privileged = true }, fmt.Sprintf("%016x", uint64(own)), fmt.Sprintf("%016x", uint64(own))},
		"privileged user": {
			func(s *Spec) { s.Security.Privileged, s.User = true, ordinary }, none, fmt.Sprintf("%016x", uint64(own)),
		},
		"no new privileges": {func(s *Spec) { s.Security.NoNewPrivileges = true }, standard, standard},
		"user without new privileges": {
			func(s *Spec) { s.Security.NoNewPrivileges, s.User = true, ordinary }, none, standard,
		},
	} {
		got := sh(t, e, c.change, `cut -f2 /proc/self/status | head -c 0; grep ^Cap /proc/self/status | cut -f2`)
		want := strings.Join([]string{none, c.prm, c.prm, c.bound, none}, "\n")
		if got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

const none = "0000000000000000"

func TestCapabilityThatStrataLacks(t *testing.T) {
	e := newExecutor(t)
	e.caps &^= 1 << unix.CAP_SYS_TIME
	r := run(t, e, func(s *Spec) { s.Security.Capabilities = []string{"CAP_CHOWN", "CAP_SYS_TIME"} }, "true")
	if r.err == nil || !strings.Contains(r.err.Error(), "capabilities CAP_SYS_TIME were asked for") {
		t.Errorf("got %v", r.err)
	}
}

// probe builds testdata/probe.c and runs it.
func probe(t *testing.T, e *Executor, change func(*Spec)) map[string]string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command(testenv.Tool(t, "gcc"), "-static", "-o", filepath.Join(dir, "probe"), "testdata/probe.c").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	r := run(t, e, func(s *Spec) {
		s.Root = newImage(t, base(t), dir).root
		if change != nil {
			change(s)
		}
	}, "/probe")
	if r.err != nil {
		t.Fatal(r.err)
	}
	results := map[string]string{}
	for line := range strings.Lines(r.stdout) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		results[name] = value
	}
	return results
}

func TestSeccomp(t *testing.T) {
	e := newExecutor(t)
	eperm, enosys := strconv.Itoa(int(unix.EPERM)), strconv.Itoa(int(unix.ENOSYS))
	want := map[string]string{
		"getpid": "ok", "unix": "ok", "personality": "ok",
		"keyctl": eperm, "unshare-user": eperm, "clone-user": eperm, "mount": eperm, "bpf": eperm,
		"vsock": eperm, "personality-other": eperm, "clone3": enosys, "future": enosys,
	}
	if runtime.GOARCH == "amd64" {
		want["i386-getpid"], want["i386-keyctl"], want["i386-unshare-user"], want["x32-getpid"] = "ok", eperm, eperm, enosys
	}
	got := probe(t, e, nil)
	for name, w := range want {
		if got[name] != w {
			t.Errorf("%s: got %q, want %q", name, got[name], w)
		}
	}
	// Without the filter, these would have worked.
	for name, change := range map[string]func(*Spec){
		"unconfined": func(s *Spec) { s.Security.Seccomp = seccomp.Unconfined() },
		"privileged": func(s *Spec) { s.Security.Privileged = true },
	} {
		open := probe(t, e, change)
		if open["unshare-user"] != "ok" || open["keyctl"] == eperm {
			t.Errorf("%s: got %v", name, open)
		}
	}
}

func TestCustomSeccomp(t *testing.T) {
	e := newExecutor(t)
	f, err := seccomp.Load([]byte(`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":28}]}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range []rootfs.User{{}, {UID: 1000, GID: 1000}} {
		for _, nnp := range []bool{false, true} {
			r := run(t, e, func(s *Spec) {
				s.User, s.Security.Seccomp, s.Security.NoNewPrivileges = user, f, nnp
			}, "sh", "-c", "grep -E 'Seccomp:|NoNew' /proc/self/status; mkdir /tmp/x")
			flag := map[bool]string{false: "0", true: "1"}[nnp]
			if r.stdout != "NoNewPrivs:\t"+flag+"\nSeccomp:\t2\n" || !strings.Contains(r.stderr, "No space left") {
				t.Errorf("user %d, no new privileges %v: got %q, %q, %v", user.UID, nnp, r.stdout, r.stderr, r.err)
			}
		}
	}
}

// A setuid program gains nothing under no_new_privs, and something without.
func TestNoNewPrivileges(t *testing.T) {
	e := newExecutor(t)
	if singleID() {
		t.Skip("with a single ID, there is nobody else that a program could be")
	}
	text, err := os.ReadFile(filepath.Join(base(t), "bin/busybox"))
	if err != nil {
		t.Fatal(err)
	}
	// busybox gives its privileges up, except for su; as `sh` it is a wrapper.
	top := layer(t, map[string]string{"bin/su": string(text), "etc/passwd": "root::0:0::/:/bin/sh\nu::1000:1000::/:/bin/sh\n"})
	if err := os.Chmod(filepath.Join(top, "bin/su"), 0o755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	for nnp, want := range map[bool]string{false: "0\n", true: ""} {
		r := run(t, e, func(s *Spec) {
			s.Root = newImage(t, base(t), top).root
			s.User, s.Security.NoNewPrivileges = rootfs.User{UID: 1000, GID: 1000}, nnp
		}, "su", "-c", "id -u")
		if r.stdout != want || r.err != nil {
			t.Errorf("no new privileges %v: got %q, %q, %v", nnp, r.stdout, r.stderr, r.err)
		}
	}
}

// A device node that a step makes cannot be opened, wherever it lies.
func TestOwnDeviceNodes(t *testing.T) {
	initial(t) // mknod of a device is impossible in the first place
	e := newExecutor(t)
	volume := bind(t, t.TempDir())
	got := sh(t, e, func(s *Spec) { s.Mounts = []Mount{{Target: "/volume", Source: volume}} }, `
		for d in /tmp /dev /dev/shm /volume /; do
			mknod $d/node c 1 3 || echo no node in $d
			(echo x > $d/node) 2>/dev/null && echo $d/node opened
		done
		echo x > /dev/null && head -c 1 /dev/zero | wc -c; head -c 1 /dev/urandom | wc -c`)
	if got != "1\n1" {
		t.Errorf("got %q", got)
	}
	privileged := func(s *Spec) { s.Security.Privileged = true }
	if got := sh(t, e, privileged, "mknod /tmp/node c 1 3 && echo x > /tmp/node && echo opened"); got != "opened" {
		t.Errorf("privileged: got %q", got)
	}
}

func TestPrivileged(t *testing.T) {
	initial(t)
	e := newExecutor(t)
	got := sh(t, e, func(s *Spec) { s.Security.Privileged = true }, `
		ls /dev | wc -l; head -c 1 /proc/interrupts | wc -c; ls -A /sys/firmware | wc -l
		mount -t tmpfs none /tmp && echo mounted; grep -E '^Seccomp:' /proc/self/status; echo p > /proc/sys/kernel/hostname && hostname`)
	f := strings.Fields(got)
	if len(f) != 7 || f[1] != "1" || f[2] == "0" || f[3] != "mounted" || f[5] != "0" || f[6] != "p" {
		t.Errorf("got %q", got)
	}
	host, err := os.ReadDir("/dev")
	if err != nil {
		t.Fatal(err)
	}
	if n, _ := strconv.Atoi(f[0]); n < len(host)-3 {
		t.Errorf("a privileged step has %d devices, the host %d", n, len(host))
	}
}

// CVE-2019-5736: the program of the host is reached through /proc/1/exe.
func TestInitCannotBeReplaced(t *testing.T) {
	static(t)
	e := newExecutor(t)
	r := run(t, e, func(s *Spec) { s.Init = true }, "sh", "-c", "echo x > /proc/1/exe")
	if r.ExitCode == 0 || !strings.Contains(r.stderr, "Read-only file system") {
		t.Errorf("got %+v", r)
	}
}

func TestThisProcessIsNotDumpable(t *testing.T) {
	newExecutor(t)
	n, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if n != 0 || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
}

func TestDevicesOfTheSpec(t *testing.T) {
	e := newExecutor(t)
	got := sh(t, e, func(s *Spec) { s.Devices = []Device{{"/dev/full", "/dev/mine"}, {"/dev/zero", "/opt/z"}} },
		"(echo x > /dev/mine) 2>&1 | grep -o 'No space'; head -c 2 /opt/z | wc -c")
	if got != "No space\n2" {
		t.Errorf("got %q", got)
	}
	for _, source := range []string{"/dev/none", "/etc/passwd", "/etc"} {
		r := run(t, e, func(s *Spec) { s.Devices = []Device{{source, "/dev/mine"}} }, "true")
		if r.err == nil || !strings.Contains(r.err.Error(), source) {
			t.Errorf("%s: got %v", source, r.err)
		}
	}
}

func TestDefaultDev(t *testing.T) {
	e := newExecutor(t)
	got := strings.Fields(sh(t, e, nil, "ls /dev"))
	want := strings.Fields("fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero")
	if _, err := os.Lstat("/proc/kcore"); err == nil {
		want = append([]string{"core"}, want...)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestKeyring(t *testing.T) {
	e := newExecutor(t)
	own, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, true)
	if err != nil {
		t.Fatal(err)
	}
	got := probe(t, e, func(s *Spec) { s.Security.Privileged = true })["session-keyring"]
	if n, err := strconv.Atoi(got); err != nil || n <= 0 || n == own {
		t.Errorf("the step has the session keyring %q, this process %d", got, own)
	}
}

// bind makes a detached mount of a host path.
func bind(t testing.TB, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := mount.Bind(f, mount.BindOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}
