package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// build is one build of a Dockerfile, put alike to every contender.
type build struct {
	file    string   // the Dockerfile
	context string   // the directory of the context
	args    []string // NAME=VALUE
	jobs    int      // 0: the program's own choice
	archive string   // export to this OCI archive; "": no export
	level   int      // of the archive's gzip
}

// contender builds Dockerfiles.
type contender interface {
	name() string
	build(b build) *exec.Cmd
	// daemonTime is the processor time of the contender's daemon, if any.
	daemonTime() time.Duration
	// fresh is the same program with an empty store.
	fresh(l *lab) (contender, error)
	close() error
}

// contenders are those that take part.
func (l *lab) contenders() []contender {
	list := []contender{l.strata}
	if l.buildkitd != nil {
		list = append(list, l.buildkitd)
	}
	if l.buildah != nil {
		list = append(list, l.buildah)
	}
	return list
}

// strata is the program of this repository.
type strata struct{ program, root string }

func (s *strata) name() string { return "strata" }

func (s *strata) command(args ...string) *exec.Cmd {
	return exec.Command(s.program, append([]string{"--root", s.root}, args...)...)
}

func (s *strata) build(b build) *exec.Cmd {
	args := []string{"build", "--progress", "plain", "-f", b.file}
	for _, a := range b.args {
		args = append(args, "--build-arg", a)
	}
	if b.jobs > 0 {
		args = append(args, "--jobs", strconv.Itoa(b.jobs))
	}
	output := "type=cacheonly"
	if b.archive != "" {
		output = fmt.Sprintf("type=oci,dest=%s,compression=gzip,compression-level=%d", b.archive, b.level)
	}
	return s.command(append(args, "-o", output, b.context)...)
}

func (s *strata) fresh(l *lab) (contender, error) {
	return &strata{program: s.program, root: l.newDir("strata")}, nil
}

func (s *strata) daemonTime() time.Duration { return 0 }

func (s *strata) close() error { return nil }

// buildah is Debian's. It has no build without an image: `--layers` commits
// one for each step, as its cache.
type buildah struct{ program, runc, root string }

func (b *buildah) name() string { return "buildah" }

func (b *buildah) command(args ...string) *exec.Cmd {
	global := []string{"--root", b.root, "--runroot", b.root + "-run", "--storage-driver", "overlay"}
	return exec.Command(b.program, append(global, args...)...)
}

func (b *buildah) build(w build) *exec.Cmd {
	args := []string{"build", "--layers", "--tls-verify=false", "--isolation", "oci", "--runtime", b.runc,
		"--network", "host", "-f", w.file, "-t", "bench"}
	for _, a := range w.args {
		args = append(args, "--build-arg", a)
	}
	if w.jobs > 0 {
		args = append(args, "--jobs", strconv.Itoa(w.jobs))
	}
	return b.command(append(args, w.context)...)
}

// export writes the last build to an archive.
func (b *buildah) export(w build) *exec.Cmd {
	return b.command("push", "--compression-format", "gzip", "--compression-level", strconv.Itoa(w.level),
		"localhost/bench", "oci-archive:"+w.archive)
}

func (b *buildah) fresh(l *lab) (contender, error) {
	return &buildah{program: b.program, runc: b.runc, root: l.newDir("buildah")}, nil
}

func (b *buildah) daemonTime() time.Duration { return 0 }

func (b *buildah) close() error { return unmountStorage(b.root) }

// unmountStorage unmounts the directory that containers/storage mounts on
// itself.
func unmountStorage(root string) error {
	for _, dir := range []string{filepath.Join(root, "overlay"), root, root + "-run"} {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil &&
			!errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOENT) {
			return fmt.Errorf("unmount %s: %w", dir, err)
		}
	}
	return nil
}

// buildkitd is a daemon with buildctl as its client.
type buildkitd struct {
	buildctl, address string
	process           *exec.Cmd
	log               *os.File
}

// startBuildkitd starts a daemon with an empty store: the OCI worker with
// runc, steps in the host's network (its default where no CNI is set up, and
// the cheapest), collection off.
func (l *lab) startBuildkitd() (*buildkitd, error) {
	root := l.newDir("buildkitd")
	if err := os.Mkdir(root, 0o700); err != nil {
		return nil, err
	}
	config := filepath.Join(root, "buildkitd.toml")
	text := fmt.Sprintf("[registry.%q]\n  http = true\n", l.registry)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(root, "log"))
	if err != nil {
		return nil, err
	}
	socket := filepath.Join(root, "socket")
	cmd := exec.Command(l.programs.buildkitd, "--config", config, "--root", filepath.Join(root, "state"),
		"--addr", "unix://"+socket, "--oci-worker", "true", "--containerd-worker", "false",
		"--oci-worker-binary", l.runc, "--oci-worker-snapshotter", "overlayfs",
		"--oci-worker-net", "host", "--oci-worker-gc=false")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start buildkitd: %w", err), log.Close())
	}
	d := &buildkitd{buildctl: l.buildctl, address: "unix://" + socket, process: cmd, log: log}
	if err := d.await(socket); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

// await waits until the daemon answers.
func (d *buildkitd) await(socket string) error {
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		if conn, err := net.Dial("unix", socket); err == nil {
			if err := conn.Close(); err != nil {
				return err
			}
			if err := exec.Command(d.buildctl, "--addr", d.address, "debug", "workers").Run(); err == nil {
				return nil
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("buildkitd does not answer after a minute:\n%s", d.logTail())
}

func (d *buildkitd) logTail() string {
	if _, err := d.log.Seek(0, io.SeekStart); err != nil {
		return err.Error()
	}
	text, err := io.ReadAll(d.log)
	if err != nil {
		return err.Error()
	}
	return tail(string(text), 20)
}

func (d *buildkitd) name() string { return "buildkitd" }

func (d *buildkitd) build(b build) *exec.Cmd {
	args := []string{"--addr", d.address, "build", "--progress", "plain", "--frontend", "dockerfile.v0",
		"--local", "context=" + b.context, "--local", "dockerfile=" + filepath.Dir(b.file),
		"--opt", "filename=" + filepath.Base(b.file)}
	for _, a := range b.args {
		args = append(args, "--opt", "build-arg:"+a)
	}
	if b.archive != "" {
		args = append(args, "--output",
			fmt.Sprintf("type=oci,dest=%s,compression=gzip,compression-level=%d", b.archive, b.level))
	}
	return exec.Command(d.buildctl, args...)
}

func (d *buildkitd) fresh(l *lab) (contender, error) { return l.startBuildkitd() }

// daemonTime is the time of the daemon and of the steps that it waited for.
func (d *buildkitd) daemonTime() time.Duration { return processTime(d.process.Process.Pid) }

// close ends the daemon that this program started, and waits for it.
func (d *buildkitd) close() error {
	if err := d.process.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("end buildkitd: %w", err)
	}
	timer := time.AfterFunc(20*time.Second, func() { _ = d.process.Process.Kill() })
	defer timer.Stop()
	err := d.process.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = nil // a daemon may say that it was ended
	}
	return errors.Join(err, d.log.Close())
}
