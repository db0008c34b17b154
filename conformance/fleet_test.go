package conformance

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// fleet builds by the daemon, as who outgrew one machine does. That each case
// comes out alike there is compareOnce's matter.
func (l *lab) fleet(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/fleet", RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", filepath.Dir(l.strata)+":"+os.Getenv("PATH"))
			env.Setenv("STRATA_ROOT", t.TempDir())
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("REGISTRY", l.registry)
			env.Setenv("BUILDKIT_HOST", l.address)
			return nil
		},
	})
}
