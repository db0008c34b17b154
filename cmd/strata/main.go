// Command strata builds container images from CUE and from Dockerfiles,
// without a daemon, and carries them through the rest of their life.
//
// This package assembles the command line. Its commands are in packages of three
// groups: buildcmd, imagecmd and containercmd; cli and output have what all of
// them need. They know flags, terminals, the environment and exit codes, and
// pick the implementations and hand them what they need: nothing else reads the
// environment.
package main

import (
	"context"
	"io"
	"log"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/strata-build/strata/cmd/strata/cli"
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
	return execute(ctx, cli.New(os.Stdin, os.Stdout, os.Stderr, os.Environ()), os.Args[1:])
}

// execute runs a command line and returns the exit code.
func execute(ctx context.Context, a *cli.App, args []string) int {
	root := rootCommand(a)
	root.SetArgs(args)
	return a.Exit(cli.Interrupted(ctx, root.ExecuteContext(ctx)))
}
