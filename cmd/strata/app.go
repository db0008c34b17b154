package main

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

// app is one invocation: its streams and its environment.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	env            map[string]string
	environ        []string

	root   string // --root
	driver string // --storage-driver

	registriesConf string // --registries-conf
}

// newApp returns an invocation with the variables of an environment.
func newApp(stdin io.Reader, stdout, stderr io.Writer, environ []string) *app {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr, environ: environ, env: map[string]string{}}
	for _, kv := range environ {
		if name, value, ok := strings.Cut(kv, "="); ok {
			a.env[name] = value
		}
	}
	return a
}

// addFlags adds the flags that all commands have.
func (a *app) addFlags(f *pflag.FlagSet) {
	f.StringVar(&a.root, "root", a.defaultRoot(), "directory of the store")
	f.StringVar(&a.driver, "storage-driver", a.env["STRATA_STORAGE_DRIVER"],
		"overlay or copy (default: overlay where it works)")
	f.StringVar(&a.registriesConf, "registries-conf", a.env["CONTAINERS_REGISTRIES_CONF"],
		"file of mirrors and insecure registries (default: /etc/containers/registries.conf and the user's)")
}

// checkFlags refuses values that no command can use.
func (a *app) checkFlags() error { return errors.Join(a.checkRegistriesConf(), a.checkDriver()) }

// defaultRoot is where the store is unless --root says otherwise.
func (a *app) defaultRoot() string {
	if root := a.env["STRATA_ROOT"]; root != "" {
		return root
	}
	if realUID() == 0 {
		return "/var/lib/strata"
	}
	if data := a.env["XDG_DATA_HOME"]; data != "" {
		return filepath.Join(data, "strata")
	}
	return filepath.Join(a.env["HOME"], ".local", "share", "strata")
}

// checkRegistriesConf wants a file that is named to be there; those that are
// looked for need not be.
func (a *app) checkRegistriesConf() error {
	if a.registriesConf == "" {
		return nil
	}
	if _, err := os.Stat(a.registriesConf); err != nil {
		return misuse("--registries-conf: %v", err)
	}
	return nil
}

// checkDriver wants one of the storage drivers.
func (a *app) checkDriver() error {
	switch a.driver {
	case "", snapshot.DriverOverlay, snapshot.DriverCopy:
		return nil
	}
	return misuse("--storage-driver %s is not known: it takes overlay or copy", a.driver)
}

// archiveStream is standard output for outputs with the destination "-": nil
// for a terminal, which no archive should be written to.
func (a *app) archiveStream() io.Writer {
	if f, ok := a.stdout.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return a.stdout
}

// epoch is SOURCE_DATE_EPOCH, of the build arguments or the environment; the
// default is 1970, so that the same inputs give the same image everywhere.
func (a *app) epoch(buildArgs []string) (time.Time, error) {
	text := a.env["SOURCE_DATE_EPOCH"]
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
		return time.Time{}, misuse("SOURCE_DATE_EPOCH is %q, and must be a number of seconds since 1970", text)
	}
	return time.Unix(seconds, 0), nil
}
