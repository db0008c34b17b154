package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/strata-build/strata/internal/testimage"
)

// lab is where rows are measured: a directory on the disk in question, a
// registry on loopback, and the programs, each with a store that stays warm.
type lab struct {
	programs
	ctx      context.Context
	dir      string
	runs     int
	host     *host
	registry string
	versions []string

	busybox, debian string // names of the bases in the registry

	strata    *strata
	buildkitd *buildkitd // nil: not measured
	buildah   *buildah   // nil: not measured
	podman    *podman    // nil: not measured
	dirs      int
}

// newLab starts the registry and the programs.
func newLab(ctx context.Context, o options) (*lab, error) {
	l := &lab{programs: o.programs, ctx: ctx, runs: o.runs, host: &host{}}
	dir, err := os.MkdirTemp(o.dir, "strata-bench-")
	if err != nil {
		return nil, fmt.Errorf("make a directory for the benchmark: %w", err)
	}
	l.dir = dir
	if err := l.open(); err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

func (l *lab) open() error {
	var err error
	if l.programs.strata, err = filepath.Abs(l.programs.strata); err != nil {
		return err
	}
	err = l.host.do(func(t testing.TB) {
		l.registry = testimage.Registry(t)
		l.busybox = testimage.Push(t, l.registry, "busybox:1", testimage.Busybox(t))
	})
	if err != nil {
		return err
	}
	l.strata = &strata{program: l.programs.strata, root: l.newDir("strata")}
	if err := l.version("strata", l.programs.strata, "version"); err != nil {
		return err
	}
	if l.programs.buildkitd != "" {
		if l.buildkitd, err = l.startBuildkitd(); err != nil {
			return err
		}
		if err := l.version("buildkitd", l.programs.buildkitd, "--version"); err != nil {
			return err
		}
	}
	if l.programs.buildah != "" {
		l.buildah = &buildah{program: l.programs.buildah, runc: l.runc, root: l.newDir("buildah")}
		if err := l.version("buildah", l.programs.buildah, "--version"); err != nil {
			return err
		}
	}
	if l.programs.podman != "" {
		if err := l.version("podman", l.programs.podman, "--version"); err != nil {
			return err
		}
		if l.podman, err = l.startPodman(); err != nil {
			return err
		}
	}
	return l.version("runc", l.runc, "--version")
}

// version asks a program for its version.
func (l *lab) version(name, program string, args ...string) error {
	out, err := exec.CommandContext(l.ctx, program, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s does not start: %w\n%s", name, err, out)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	l.versions = append(l.versions, line)
	return nil
}

// newDir is a new directory's path; the caller or the program makes it.
func (l *lab) newDir(what string) string {
	l.dirs++
	return filepath.Join(l.dir, fmt.Sprintf("%s-%d", what, l.dirs))
}

// debianBase is a Debian base in the registry. It is made once a machine, by
// debootstrap, which takes a minute.
func (l *lab) debianBase() (string, error) {
	if l.debian != "" {
		return l.debian, nil
	}
	err := l.host.do(func(t testing.TB) {
		l.debian = l.push(t, "debian:bookworm", testimage.Debian(t))
	})
	return l.debian, err
}

func (l *lab) push(t testing.TB, name string, img v1.Image) string {
	return testimage.Push(t, l.registry, name, img)
}

// close ends what was started, and removes the directory, at the very end.
func (l *lab) close() error {
	var err error
	if l.buildkitd != nil {
		err = l.buildkitd.close()
	}
	if l.buildah != nil {
		err = errors.Join(err, l.buildah.close())
	}
	if l.podman != nil {
		err = errors.Join(err, l.podman.close())
	}
	l.host.close()
	return errors.Join(err, removeAll(l.dir))
}

// removeAll removes a tree; stores hold directories without permissions, which
// only root passes.
func removeAll(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove the benchmark's directory: %w", err)
	}
	return nil
}

// host lets package testimage, which tests use, work for a program: what
// would end a test comes back as an error.
type host struct {
	testing.TB // nil: only the methods below are there
	cleanups   []func()
}

// hostError carries a test's end through do.
type hostError struct{ text string }

func (h *host) do(fn func(testing.TB)) (err error) {
	defer func() {
		if r := recover(); r != nil {
			failed, ok := r.(hostError)
			if !ok {
				panic(r)
			}
			err = errors.New(failed.text)
		}
	}()
	fn(h)
	return nil
}

// Helper implements testing.TB.
func (h *host) Helper() {}

// Cleanup implements testing.TB.
func (h *host) Cleanup(fn func()) { h.cleanups = append(h.cleanups, fn) }

// Fatal implements testing.TB.
func (h *host) Fatal(args ...any) { panic(hostError{fmt.Sprint(args...)}) }

// Fatalf implements testing.TB.
func (h *host) Fatalf(format string, args ...any) { panic(hostError{fmt.Sprintf(format, args...)}) }

// Skipf implements testing.TB.
func (h *host) Skipf(format string, args ...any) { panic(hostError{fmt.Sprintf(format, args...)}) }

func (h *host) close() {
	for _, fn := range h.cleanups {
		fn()
	}
}
