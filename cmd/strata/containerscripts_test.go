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
)

// TestContainerScripts runs the commands around containers with real ones, as
// root, and as an ordinary user without subordinate ids and with some: `user` is
// strata as that one.
func TestContainerScripts(t *testing.T) {
	testenv.Root(t)
	setpriv := testenv.Tool(t, "setpriv")
	image := testimage.Push(t, testimage.Registry(t), "busybox:1", testimage.Busybox(t))
	for name, subordinate := range map[string]string{"root": "", "nobody": "", "ranges": strconv.Itoa(nobody) + ":1000000:65536\n"} {
		t.Run(name, func(t *testing.T) {
			dir := forNobody(t, map[string]string{"sub": subordinate})
			id := strconv.Itoa(nobody)
			if name == "root" {
				id = "0"
			}
			// Nobody's subordinate ids are in this file, and not the machine's.
			become := []string{
				"-m", "sh", "-c", `mount --bind "$0" /etc/subuid && mount --bind "$0" /etc/subgid && exec "$@"`, filepath.Join(dir, "sub"),
				setpriv, "--reuid=" + id, "--regid=" + id, "--clear-groups", filepath.Join(dir, "strata"),
			}
			testscript.Run(t, testscript.Params{
				Dir: "testdata/script/containers", RequireExplicitExec: true, WorkdirRoot: dir,
				Condition: func(cond string) (bool, error) {
					return cond == name || cond == "rootless" && name != "root", nil
				},
				Cmds: map[string]func(*testscript.TestScript, bool, []string){
					"user": func(ts *testscript.TestScript, neg bool, args []string) {
						if err := ts.Exec("unshare", append(become, args...)...); (err != nil) != neg {
							ts.Fatalf("strata %s: %v", strings.Join(args, " "), err)
						}
					},
				},
				Setup: func(env *testscript.Env) error {
					env.Setenv("IMAGE", image)
					env.Setenv("HOME", env.WorkDir)
					root := env.WorkDir + "-store"
					env.Setenv("STRATA_ROOT", root)
					env.Defer(func() { removeContainers(t, become, root) })
					if err := os.Mkdir(root, 0o700); err != nil {
						return err
					}
					return exec.Command("chown", "-R", id+":"+id, env.WorkDir, root).Run()
				},
			})
		})
	}
}

// removeContainers ends what a script has left running.
func removeContainers(t testing.TB, become []string, root string) {
	t.Helper()
	strata := func(args ...string) string {
		cmd := exec.Command("unshare", append(append([]string{}, become...), args...)...)
		cmd.Env = []string{"STRATA_ROOT=" + root, "HOME=/", "PATH=" + os.Getenv("PATH")}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("strata %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	if ids := strings.Fields(strata("ps", "-aq")); len(ids) > 0 {
		strata(append([]string{"rm", "-f", "-v"}, ids...)...)
	}
}
