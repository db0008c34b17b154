package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/strata-build/strata/internal/testenv"
	"github.com/strata-build/strata/internal/testimage"
	"github.com/strata-build/strata/runtime/executor"
	"github.com/strata-build/strata/runtime/inventory"
)

func TestMain(m *testing.M) {
	executor.InitMain()
	inventory.ReadMain()
	testscript.Main(m, map[string]func(){"strata": func() { os.Exit(run()) }})
}

// TestScripts runs testdata/script against the real command: messages, exit
// codes, and builds on real stores, registries and namespaces. Scripts in
// fast/ need none of that.
func TestScripts(t *testing.T) {
	t.Run("fast", func(t *testing.T) {
		testscript.Run(t, testscript.Params{
			Dir: "testdata/script/fast", RequireExplicitExec: true, UpdateScripts: os.Getenv("UPDATE") != "",
		})
	})
	t.Run("build", func(t *testing.T) {
		testenv.Root(t)
		busybox := testimage.Busybox(t)
		testscript.Run(t, testscript.Params{
			Dir: "testdata/script/build", RequireExplicitExec: true, UpdateScripts: os.Getenv("UPDATE") != "",
			Cmds: scriptCommands(),
			Setup: func(env *testscript.Env) error {
				host := testimage.Registry(t)
				env.Setenv("REGISTRY", host)
				env.Setenv("WEB", serveHTTP(t, env.WorkDir))
				env.Setenv("BUSYBOX", testimage.Push(t, host, "busybox:1", busybox))
				env.Setenv("STRATA_ROOT", t.TempDir()) // outside of the build contexts
				env.Setenv("HOME", env.WorkDir)
				return nil
			},
		})
	})
}
