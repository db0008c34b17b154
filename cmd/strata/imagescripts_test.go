package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/strata-build/strata/internal/testenv"
	"github.com/strata-build/strata/internal/testimage"
	"github.com/strata-build/strata/internal/testregistry"
)

// TestImageScripts runs the image commands against docker's own registry, one
// plain and one with TLS and a password, and against real clients.
func TestImageScripts(t *testing.T) {
	testenv.Root(t)
	busybox := testimage.Busybox(t)
	plain, blobs := testregistry.Plain(t)
	secure, ca := testregistry.Secure(t)
	image := testimage.Push(t, plain, "busybox:1", busybox)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script/images", RequireExplicitExec: true, UpdateScripts: os.Getenv("UPDATE") != "",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"gate": gate(t, plain), "samefile": sameFile, "range": inRange,
		},
		Setup: func(env *testscript.Env) error {
			env.Setenv("REGISTRY", plain)
			env.Setenv("REGISTRY_BLOBS", blobs)
			env.Setenv("SECURE", testregistry.Name)
			env.Setenv("USER_NAME", testregistry.User)
			env.Setenv("HTTPS_PROXY", testregistry.Tunnel(t, secure))
			env.Setenv("BUSYBOX", image)
			env.Setenv("WEB", serveHTTP(t, env.WorkDir))
			root := t.TempDir()
			env.Setenv("STRATA_ROOT", root)
			env.Defer(func() { unmountBelow(root, env.WorkDir) })
			env.Setenv("HOME", env.WorkDir)
			pod, err := os.MkdirTemp("/tmp", "pod") // podman wants a short path
			if err != nil {
				return err
			}
			env.Defer(func() { _ = os.RemoveAll(pod) })
			env.Setenv("POD", pod)
			if err := os.WriteFile(filepath.Join(env.WorkDir, "password"), []byte(testregistry.Password+"\n"), 0o600); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(env.WorkDir, "ca.crt"), ca, 0o600)
		},
	})
}

// gate starts a gate before the registry that lets a number of bytes pass, as
// $GATE; "gate open" opens it, and "gate passed MOST" fails if more bytes than
// that have passed since the last time.
func gate(t testing.TB, target string) func(*testscript.TestScript, bool, []string) {
	gates := map[string]*testregistry.Gate{}
	return func(ts *testscript.TestScript, _ bool, args []string) {
		key := ts.Getenv("WORK")
		switch args[0] {
		case "open":
			gates[key].Open()
		case "passed":
			most, err := strconv.ParseInt(args[1], 10, 64)
			ts.Check(err)
			if n := gates[key].Passed(); n > most {
				ts.Fatalf("%d bytes passed, want at most %d", n, most)
			}
		default:
			limit, err := strconv.ParseInt(args[0], 10, 64)
			ts.Check(err)
			gates[key] = testregistry.NewGate(t, target, limit)
			ts.Setenv("GATE", gates[key].Addr)
		}
	}
}

// sameFile compares two files byte by byte, without showing them.
func sameFile(ts *testscript.TestScript, neg bool, args []string) {
	if same := ts.ReadFile(args[0]) == ts.ReadFile(args[1]); same == neg {
		ts.Fatalf("%s and %s: the same is %t", args[0], args[1], same)
	}
}

// inRange wants the number in a file to be in a range: range FILE LEAST
// MOST.
func inRange(ts *testscript.TestScript, _ bool, args []string) {
	number := func(text string) int64 {
		n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
		ts.Check(err)
		return n
	}
	if n := number(ts.ReadFile(args[0])); n < number(args[1]) || n > number(args[2]) {
		ts.Fatalf("%d is not from %s to %s", n, args[1], args[2])
	}
}

// unmountBelow ends the mounts that a script which failed has left.
func unmountBelow(dirs ...string) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		for _, dir := range dirs {
			if len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
				_ = exec.Command("umount", "-l", fields[4]).Run()
			}
		}
	}
}
