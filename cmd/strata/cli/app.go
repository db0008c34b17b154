// Package cli is one invocation of strata, as all commands need it: its streams,
// its environment and the options that all commands have, how it opens the
// store, how a mistake in the command line and an error are told, the exit code
// that follows, and the arguments and flags that commands of several groups
// take. What one group of commands needs alone is in the package of that group.
package cli

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/strata-build/strata/runtime/snapshot"
)

// App is one invocation: its streams, its environment, and the options that all
// commands have.
type App struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Env            map[string]string
	Environ        []string

	Root   string // --root
	Driver string // --storage-driver

	registriesConf string // --registries-conf
}

// New returns an invocation with the variables of an environment.
func New(stdin io.Reader, stdout, stderr io.Writer, environ []string) *App {
	a := &App{Stdin: stdin, Stdout: stdout, Stderr: stderr, Environ: environ, Env: map[string]string{}}
	for _, kv := range environ {
		if name, value, ok := strings.Cut(kv, "="); ok {
			a.Env[name] = value
		}
	}
	return a
}

// AddFlags adds the flags that all commands have.
func (a *App) AddFlags(f *pflag.FlagSet) {
	f.StringVar(&a.Root, "root", a.defaultRoot(), "directory of the store")
	f.StringVar(&a.Driver, "storage-driver", a.Env["STRATA_STORAGE_DRIVER"],
		"overlay or copy (default: overlay where it works)")
	f.StringVar(&a.registriesConf, "registries-conf", a.Env["CONTAINERS_REGISTRIES_CONF"],
		"file of mirrors and insecure registries (default: /etc/containers/registries.conf and the user's)")
}

// CheckFlags refuses values that no command can use.
func (a *App) CheckFlags() error { return errors.Join(a.checkRegistriesConf(), a.checkDriver()) }

// defaultRoot is where the store is unless --root says otherwise.
func (a *App) defaultRoot() string {
	if root := a.Env["STRATA_ROOT"]; root != "" {
		return root
	}
	if realUID() == 0 {
		return "/var/lib/strata"
	}
	if data := a.Env["XDG_DATA_HOME"]; data != "" {
		return filepath.Join(data, "strata")
	}
	return filepath.Join(a.Env["HOME"], ".local", "share", "strata")
}

// checkRegistriesConf wants a file that is named to be there; those that are
// looked for need not be.
func (a *App) checkRegistriesConf() error {
	if a.registriesConf == "" {
		return nil
	}
	if _, err := os.Stat(a.registriesConf); err != nil {
		return Misuse("--registries-conf: %v", err)
	}
	return nil
}

// checkDriver wants one of the storage drivers.
func (a *App) checkDriver() error {
	switch a.Driver {
	case "", snapshot.DriverOverlay, snapshot.DriverCopy:
		return nil
	}
	return Misuse("--storage-driver %s is not known: it takes overlay or copy", a.Driver)
}

// ArchiveStream is standard output for outputs with the destination "-": nil
// for a terminal, which no archive should be written to.
func (a *App) ArchiveStream() io.Writer {
	if f, ok := a.Stdout.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return a.Stdout
}

// Epoch is SOURCE_DATE_EPOCH, of the build arguments or the environment; the
// default is 1970, so that the same inputs give the same image everywhere.
func (a *App) Epoch(buildArgs []string) (time.Time, error) {
	text := a.Env["SOURCE_DATE_EPOCH"]
	for _, arg := range buildArgs {
		if value, ok := strings.CutPrefix(arg, "SOURCE_DATE_EPOCH="); ok {
			text = value
		}
	}
	if text == "" {
		return time.Unix(0, 0), nil
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, Misuse("SOURCE_DATE_EPOCH is %q, and must be a number of seconds since 1970", text)
	}
	return time.Unix(seconds, 0), nil
}
