package executor

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/strata-build/strata/internal/testenv"
)

// ordinaryUser is a user ID that owns nothing, and that newuidmap finds in
// /etc/passwd: nobody.
const ordinaryUser = 65534

// Kinds of user namespaces that the suite, or a part of it, runs in again.
const (
	single  = "single"  // a single ID
	ranges  = "ranges"  // subordinate IDs
	covered = "covered" // a single ID, and parts of /proc and /sys covered, as in a container
)

// asUser runs this test program again as an ordinary user, in a mount namespace
// that is prepared for the kind.
func asUser(t *testing.T, kind string, args ...string) (string, error) {
	t.Helper()
	testenv.Root(t)
	setpriv := testenv.Tool(t, "setpriv")
	testenv.Tool(t, "newuidmap")
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	if err := copyFile("/proc/self/exe", program); err != nil {
		t.Fatal(err)
	}
	ids := ""
	if kind == ranges {
		ids = strconv.Itoa(ordinaryUser) + ":1000000:65536\n" + "other:2000000:1\n"
	}
	sub, tmp := filepath.Join(dir, "sub"), filepath.Join(dir, "tmp")
	for _, err := range []error{
		os.WriteFile(sub, []byte(ids), 0o644), os.Mkdir(tmp, 0o700), os.Chown(tmp, ordinaryUser, ordinaryUser),
		os.Chmod(dir, 0o755), os.Chmod(filepath.Dir(dir), 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	id := strconv.Itoa(ordinaryUser)
	script := `mount --bind $0 /etc/subuid && mount --bind $0 /etc/subgid`
	if kind == covered {
		script += ` && mount --bind /proc/sys /proc/sys && mount -t tmpfs none /sys/firmware`
	}
	script += ` && exec "$@"`
	cmd := exec.Command("unshare", append([]string{
		"-m", "sh", "-c", script, sub, setpriv, "--reuid", id, "--regid", id, "--clear-groups", program,
	}, args...)...)
	cmd.Env = append(os.Environ(), nestedVariable+"="+kind, "TMPDIR="+tmp, "HOME="+tmp)
	cmd.Dir, _ = os.Getwd()
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func copyFile(from, to string) error {
	r, err := os.Open(from)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, r); err != nil {
		return err
	}
	return w.Close()
}

// The suite again, as an ordinary user.
func TestRootless(t *testing.T) {
	if os.Getenv(nestedVariable) != "" {
		t.Skip("this is the suite again")
	}
	for kind, tests := range map[string]string{single: ".", ranges: ".", covered: "TestCovered"} {
		out, err := asUser(t, kind, "-test.v", "-test.run", tests)
		passed := strings.Count(out, "--- PASS")
		if err != nil || passed == 0 {
			t.Errorf("%s: %v\n%s", kind, err, testenv.Failures(out))
		}
		t.Logf("%s: %d passed", kind, passed)
	}
}

// What fails with a single ID, and takes a package manager with it, seems to
// work.
func TestSingleID(t *testing.T) {
	if !singleID() {
		t.Skip("this is part of TestRootless")
	}
	e := newExecutor(t)
	if !e.info.SingleID || !e.info.Rootless {
		t.Fatalf("got %+v", e.info)
	}
	apt := layer(t, map[string]string{"etc/apt/": ""})
	got := sh(t, e, func(s *Spec) { s.Root = newImage(t, base(t), apt).root }, `
		touch /f && chown 33:44 /f && chown -h daemon /f 2>/dev/null; stat -c %u:%g /f
		mknod /c c 1 3 && [ ! -e /c ] && mkfifo /p && [ -p /p ] && echo nodes
		setpriv --nnp true; echo root::0:0::/:/bin/sh > /etc/passwd; echo www:x:33:33::/:/bin/sh >> /etc/passwd
		su www -c 'echo as www; id -u'
		echo $APT_CONFIG; cat $APT_CONFIG
		tar c /f | tar x -C /tmp && stat -c %u /tmp/f`)
	want := "0:0\nnodes\nas www\n0\n/dev/.apt.conf\nAPT::Sandbox::User \"root\";\n0"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	got = sh(t, e, func(s *Spec) {
		s.Root, s.Env = newImage(t, base(t), apt).root, append(s.Env, "APT_CONFIG=/own")
	}, "echo $APT_CONFIG")
	if got != "/own" {
		t.Errorf("the image's APT_CONFIG became %q", got)
	}
}

func TestSubordinateIDs(t *testing.T) {
	if os.Getenv(nestedVariable) != ranges {
		t.Skip("this is part of TestRootless")
	}
	e := newExecutor(t)
	if e.info.SingleID || e.info.IDs != 65537 || e.info.UID != ordinaryUser {
		t.Fatalf("got %+v", e.info)
	}
	got := sh(t, e, nil, "touch /f && chown 33:44 /f && stat -c %u:%g /f; mknod /c c 1 3 2>/dev/null || echo no node; echo [$APT_CONFIG]")
	if got != "33:44\nno node\n[]" {
		t.Errorf("got %q", got)
	}
	r := run(t, e, func(s *Spec) { s.User.UID = 70000 }, "true")
	if r.err == nil || !strings.Contains(r.err.Error(), "user 70000:0 is not mapped: this user has the IDs 0 to 65536") {
		t.Errorf("got %v", r.err)
	}
}

// Where the kernel refuses a new proc, steps run only if the user accepts that
// they see the present one.
func TestCovered(t *testing.T) {
	if os.Getenv(nestedVariable) != covered {
		t.Skip("this is part of TestRootless")
	}
	if _, err := New(Options{}); err == nil || !strings.Contains(err.Error(), "the kernel refuses a new /proc here") {
		t.Errorf("got %v", err)
	}
	e, err := New(Options{SharedProc: true})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if !e.procRefused || !e.sysRefused {
		t.Errorf("refused: proc %v, sys %v", e.procRefused, e.sysRefused)
	}
	own := strconv.Itoa(os.Getpid())
	got := sh(t, e, nil, `[ -d /proc/`+own+` ] && echo shared; for f in kcore keys timer_list interrupts; do head -c 1 /proc/$f; done; ls -A /sys/firmware
		ls -d /sys/class /proc/self/fd/0; (echo x > /proc/sys/kernel/hostname) 2>/dev/null || echo read-only; touch /sys/x 2>/dev/null || echo read-only; kill -9 `+own+` 2>/dev/null || echo not killed`)
	if want := "shared\n/proc/self/fd/0\n/sys/class\nread-only\nread-only\nnot killed"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
