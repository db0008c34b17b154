package userns

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/strata-build/strata/internal/testenv"
	"golang.org/x/sys/unix"
)

// roleVariable makes this test program one that uses the package.
const roleVariable = "STRATA_TEST_ROLE"

const nobody = 65534

func TestMain(m *testing.M) {
	role, args, _ := strings.Cut(os.Getenv(roleVariable), " ")
	if role == "" {
		os.Exit(m.Run())
	}
	code, err := play(role, args)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 99
	}
	os.Exit(code)
}

// facts is what a program in the namespace tells.
type facts struct {
	Info      Info
	PID       int
	UID       int
	Namespace string
	Dir       string
	Args      []string
	Word      string
	Ignored   bool
	Mounts    bool
}

func play(role, args string) (int, error) {
	var out Outcome
	var err error
	if role == "join" {
		pid, _ := strconv.Atoi(args)
		out, err = Join(context.Background(), pid)
	} else {
		out, err = Ensure(context.Background())
	}
	if err != nil {
		return 0, err
	}
	if out.Replaced {
		return out.ExitCode, nil
	}
	signals := make(chan os.Signal, 8)
	ignored := signal.Ignored(unix.SIGHUP)
	signal.Notify(signals, unix.SIGTERM, unix.SIGUSR1)
	if err := tell(out.Info, ignored); err != nil {
		return 0, err
	}
	switch role {
	case "exit":
		return strconv.Atoi(args)
	case "kill":
		return 0, unix.Kill(os.Getpid(), unix.SIGKILL)
	case "wait":
		fmt.Println("got", <-signals)
		return 9, nil
	}
	return 0, nil
}

func tell(info Info, ignored bool) error {
	ns, err := os.Readlink("/proc/self/ns/user")
	if err != nil {
		return err
	}
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	mounts := unix.Mount("none", "/tmp", "tmpfs", 0, "") == nil
	return json.NewEncoder(os.Stdout).Encode(facts{
		info, os.Getpid(), os.Getuid(), ns, dir, os.Args[1:], os.Getenv("WORD"), ignored, mounts,
	})
}

// asNobody runs this test program as an ordinary user.
func asNobody(t *testing.T, role string, args ...string) *exec.Cmd {
	t.Helper()
	testenv.Root(t)
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	text, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, text, 0o755); err != nil {
		t.Fatal(err)
	}
	for d := dir; d != os.TempDir(); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), roleVariable+"="+role, "WORD=handed on")
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	return cmd
}

func parseFacts(t *testing.T, r io.Reader) facts {
	t.Helper()
	var f facts
	line, err := bufio.NewReader(r).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &f)
	}
	if err != nil {
		t.Fatalf("%v: %q", err, line)
	}
	return f
}

func TestEnsure(t *testing.T) {
	cmd := asNobody(t, "exit 7", "--flag", "an argument")
	out, err := cmd.Output()
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != 7 {
		t.Fatalf("got %v, %s", err, out)
	}
	f := parseFacts(t, strings.NewReader(string(out)))
	own, err := os.Readlink("/proc/self/ns/user")
	if err != nil {
		t.Fatal(err)
	}
	if f.UID != 0 || !f.Info.Rootless || f.Info.UID != nobody || f.Info.GID != nobody || f.Namespace == own || !f.Mounts {
		t.Errorf("got %+v", f)
	}
	if f.Info.SingleID != (f.Info.IDs == 1) {
		t.Errorf("got %+v", f.Info)
	}
	if f.Dir != cmd.Dir || f.Word != "handed on" || strings.Join(f.Args, "|") != "--flag|an argument" || f.Ignored {
		t.Errorf("got %+v", f)
	}
	// What was mounted there is not here.
	if _, err := os.Stat(cmd.Path); err != nil {
		t.Error(err)
	}
}

func TestEnsureAsRoot(t *testing.T) {
	testenv.Root(t)
	out, err := Ensure(t.Context())
	if err != nil || out.Replaced || out.Info.Rootless || out.Info.SingleID || out.Info.IDs != allIDs {
		t.Errorf("got %+v, %v", out, err)
	}
	out, err = Join(t.Context(), os.Getpid())
	if err != nil || out.Replaced {
		t.Errorf("got %+v, %v", out, err)
	}
}

func TestEndedBySignal(t *testing.T) {
	cmd := asNobody(t, "kill")
	_ = cmd.Run()
	if code := cmd.ProcessState.ExitCode(); code != 137 {
		t.Errorf("got %d", code)
	}
}

// start starts a program that waits, and returns what it tells, and its output.
func start(t *testing.T, cmd *exec.Cmd) (facts, *bufio.Reader) {
	t.Helper()
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(pipe)
	line, err := r.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return parseFacts(t, strings.NewReader(line)), r
}

func TestSignalsArePassedOn(t *testing.T) {
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGUSR1} {
		cmd := asNobody(t, "wait")
		f, r := start(t, cmd)
		if f.PID == cmd.Process.Pid {
			t.Fatal("it is the same process")
		}
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		rest, _ := io.ReadAll(r)
		_ = cmd.Wait()
		if want := "got " + sig.String() + "\n"; string(rest) != want || cmd.ProcessState.ExitCode() != 9 {
			t.Errorf("got %q, %v", rest, cmd.ProcessState)
		}
	}
}

func TestIgnoredSignalStaysIgnored(t *testing.T) {
	signal.Ignore(unix.SIGHUP)
	defer signal.Reset(unix.SIGHUP)
	cmd := asNobody(t, "exit 0")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if f := parseFacts(t, strings.NewReader(string(out))); !f.Ignored {
		t.Error("SIGHUP is no longer ignored")
	}
}

func TestDiesWithFirstProcess(t *testing.T) {
	cmd := asNobody(t, "wait")
	f, r := start(t, cmd)
	fd, err := unix.PidfdOpen(f.PID, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(r); err != nil || len(rest) != 0 {
		t.Errorf("got %q, %v", rest, err)
	}
	_ = cmd.Wait()
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10000); n != 1 {
		t.Errorf("it is still there: %v", err)
	}
}

func TestJoin(t *testing.T) {
	first := asNobody(t, "wait")
	f, _ := start(t, first)
	second := asNobody(t, "join "+strconv.Itoa(f.PID))
	out, err := second.Output()
	if err != nil {
		t.Fatal(err)
	}
	g := parseFacts(t, strings.NewReader(string(out)))
	if g.Namespace != f.Namespace || g.UID != 0 || !g.Mounts || g.Info != f.Info {
		t.Errorf("got %+v, want the namespace of %+v", g, f)
	}
	if err := first.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait()
	if _, err := Join(t.Context(), f.PID); err == nil {
		t.Error("a process that has ended was joined")
	}
}

func TestParseMap(t *testing.T) {
	for text, want := range map[string]idMap{
		"         0          0 4294967295\n": {allIDs, 0},
		"0 1000 1\n":                         {1, 1000},
		"0 1000 1\n1 100000 65536\n":         {65537, 1000},
	} {
		if got, err := parseMap(text); got != want || err != nil {
			t.Errorf("%q: got %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"0 0\n", "a b c\n", "0 0 -1\n"} {
		if _, err := parseMap(text); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

func TestSubordinate(t *testing.T) {
	file := filepath.Join(t.TempDir(), "subuid")
	text := "# comment\nother:1:2\nme:100000:65536\n1000:300000:1000\nme:x:1\nme:5:0\nme:1\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := subordinate(file, []string{"1000", "me"})
	if fmt.Sprint(got) != "[{100000 65536} {300000 1000}]" || err != nil {
		t.Errorf("got %v, %v", got, err)
	}
	for _, names := range [][]string{{"nobody"}, {"2000"}} {
		if got, err := subordinate(file, names); err == nil {
			t.Errorf("%v: got %v", names, got)
		}
	}
	if _, err := subordinate(file+"x", nil); err == nil {
		t.Error("a file that is not there was read")
	}
}
