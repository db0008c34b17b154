// Command strata builds container images from CUE and from Dockerfiles,
// without a daemon, and carries them through the rest of their life.
//
// This package knows flags, terminals, the environment and exit codes. It
// picks the implementations and hands them what they need; nothing below it
// reads the environment.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/strata-build/strata/runtime/executor"
	"github.com/strata-build/strata/runtime/inventory"
)

func main() {
	executor.InitMain()
	inventory.ReadMain()
	// A command is short and its memory is small: collecting it a quarter as
	// often saves a tenth of a build with nothing to do, and more of a large one.
	debug.SetGCPercent(gcPercent)
	// Libraries log there what is told as an error, or nobody needs.
	log.SetOutput(io.Discard)
	os.Exit(run())
}

const gcPercent = 400

// run is main with an exit code, for the tests that run the real command.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := newApp(os.Stdin, os.Stdout, os.Stderr, os.Environ())
	return a.main(ctx, os.Args[1:])
}

// The exit codes: 0 is done, 1 means that a step or an input failed, 2 that
// the command line cannot be used. `run` and `exec` add docker's.
const (
	exitFailed = 1
	exitMisuse = 2
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

func newApp(stdin io.Reader, stdout, stderr io.Writer, environ []string) *app {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr, environ: environ, env: map[string]string{}}
	for _, kv := range environ {
		if name, value, ok := strings.Cut(kv, "="); ok {
			a.env[name] = value
		}
	}
	return a
}

// main runs the command line and returns the exit code.
func (a *app) main(ctx context.Context, args []string) int {
	root := a.command()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	var code *exitError
	if errors.As(err, &code) {
		if code.err != nil {
			a.report(code.err)
		}
		return code.code
	}
	a.report(err)
	return exitFailed
}

// exitError carries an exit code, and what to say if anything.
type exitError struct {
	code int
	err  error
}

// Error implements error.
func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

// Unwrap returns what is said.
func (e *exitError) Unwrap() error { return e.err }

// misuse is a mistake in the command line.
func misuse(format string, args ...any) error {
	return &exitError{exitMisuse, fmt.Errorf(format, args...)}
}
