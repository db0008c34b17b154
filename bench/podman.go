package main

import "os/exec"

// podman is Debian's, with runc. It runs containers, and builds nothing here.
type podman struct{ program, runc, root string }

// startPodman pulls the base into a store of podman's own.
func (l *lab) startPodman() (*podman, error) {
	p := &podman{program: l.programs.podman, runc: l.runc, root: l.newDir("podman")}
	return p, runCommand(l.ctx, p.command("pull", "-q", "--tls-verify=false", l.busybox))
}

func (p *podman) command(args ...string) *exec.Cmd {
	global := []string{"--root", p.root, "--runroot", p.root + "-run", "--storage-driver", "overlay",
		"--runtime", p.runc, "--cgroup-manager", "cgroupfs", "--events-backend", "none"}
	return exec.Command(p.program, append(global, args...)...)
}

// run runs a command in a new container, on the host's network, which is the
// least work. Its own defaults for limits are above what a virtual machine
// may allow.
func (p *podman) run(image string, command ...string) *exec.Cmd {
	args := []string{"run", "--rm", "--network", "host", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", image}
	return p.command(append(args, command...)...)
}

func (p *podman) close() error { return unmountStorage(p.root) }
