package main

import (
	"os/exec"
	"strings"
)

// runImage is the name that strata knows the base by, for running it.
const runImage = "bench-run"

// runOne runs a container that does nothing.
func runOne(l *lab, r *row) error { return l.containers(r, 1) }

// runTwenty runs twenty of them, one after the other.
func runTwenty(l *lab, r *row) error { return l.containers(r, 20) }

func (l *lab) containers(r *row, n int) error {
	b, err := l.project("FROM " + l.busybox + "\n")
	if err != nil {
		return err
	}
	build := l.strata.command("build", "-q", "-t", runImage, "-f", b.file, b.context)
	if err := runCommand(l.ctx, build); err != nil {
		return err
	}
	run := func(name string, cmd *exec.Cmd) *lane {
		return r.add(&lane{name: name, command: func(int) (*exec.Cmd, error) { return times(n, cmd), nil }})
	}
	own := run("strata", l.strata.command("run", "--rm", runImage, "/bin/true"))
	run("strata, the host's network", l.strata.command("run", "--rm", "--network", "host", runImage, "/bin/true"))
	r.note("containers have strata's default network, which is private, and the host's in podman, where it is faster")
	if l.podman != nil {
		r.compare("strata ÷ podman", own, run("podman", l.podman.run(l.busybox, "/bin/true")))
	}
	return nil
}

// times is a command that runs another n times in a row.
func times(n int, cmd *exec.Cmd) *exec.Cmd {
	if n == 1 {
		return exec.Command(cmd.Path, cmd.Args[1:]...)
	}
	one := "'" + strings.Join(cmd.Args, "' '") + "'\n"
	return exec.Command("sh", "-c", "set -e\n"+strings.Repeat(one, n))
}
