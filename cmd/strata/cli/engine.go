package cli

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/strata-build/strata/runtime/engine"
	"github.com/strata-build/strata/runtime/executor/userns"
)

// open opens the local engine. As an ordinary user the whole command runs
// again inside of a user namespace first: its exit code is then the error.
func (a *App) open(ctx context.Context) (*engine.Engine, error) {
	out, err := userns.Ensure(ctx)
	if err != nil {
		return nil, err
	}
	if out.Replaced {
		return nil, &ExitError{Code: out.ExitCode}
	}
	return a.openEngine(ctx, out.Info)
}

// WithEngine runs fn with an open engine, and closes it.
func (a *App) WithEngine(ctx context.Context, fn func(*engine.Engine) error) error {
	e, err := a.open(ctx)
	if err != nil {
		return err
	}
	return errors.Join(fn(e), e.Close())
}

// Peek runs fn with an open engine without entering a user namespace: enough to
// look, and to send signals, which an ordinary user may do to all that runs in
// a user namespace of his.
func (a *App) Peek(ctx context.Context, fn func(*engine.Engine) error) error {
	info, err := userns.Current()
	if err != nil {
		return err
	}
	if os.Getuid() != 0 { // what the store was made with
		info.Rootless = true
	}
	e, err := a.openEngine(ctx, info)
	if err != nil {
		return err
	}
	return errors.Join(fn(e), e.Close())
}

// openEngine opens the local engine in this process.
func (a *App) openEngine(ctx context.Context, info userns.Info) (*engine.Engine, error) {
	root, err := filepath.Abs(a.Root)
	if err != nil {
		return nil, err
	}
	return engine.Open(ctx, engine.Options{
		Root: root, Driver: a.Driver, Rootless: info.Rootless, SingleID: info.SingleID,
		Registry: a.RegistryOptions(), Env: a.Environ, DockerHost: a.Env["DOCKER_HOST"], Stdout: a.ArchiveStream(),
		SharedProc: a.Env["STRATA_SHARED_PROC"] != "", DeviceDirs: a.deviceDirs(),
	})
}

// deviceDirs are where CDI devices are described.
func (a *App) deviceDirs() []string {
	if dirs := a.Env["STRATA_CDI_DIRS"]; dirs != "" {
		return strings.Split(dirs, ":")
	}
	return []string{"/etc/cdi", "/var/run/cdi"}
}
