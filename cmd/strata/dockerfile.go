package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/strata-build/strata/compiler"
	dockerfilecompat "github.com/strata-build/strata/dockerfile-compat"
)

// compileDockerfile is the other front end: what `docker build` builds.
func (a *app) compileDockerfile(ctx context.Context, o *inputOptions, opts compiler.Options) (*compiler.Plan, error) {
	req, err := a.dockerfileRequest(o, opts)
	if err != nil {
		return nil, err
	}
	plan := &compiler.Plan{}
	targets := o.targets
	if len(targets) == 0 {
		targets = []string{""}
	}
	for _, target := range targets {
		req.Target = target
		res, err := dockerfilecompat.Compile(ctx, req)
		if res != nil {
			for _, w := range res.Warnings {
				fmt.Fprintf(a.stderr, "warning: %s\n", w)
			}
		}
		if err != nil {
			return nil, err
		}
		plan.Targets = append(plan.Targets, res.Targets...)
	}
	return plan, nil
}

// dockerfileRequest finds the Dockerfile and its context as docker does: the
// argument is the context; -f is the Dockerfile, by default the one in the
// context; `-` is a Dockerfile on standard input, without a context.
func (a *app) dockerfileRequest(o *inputOptions, opts compiler.Options) (dockerfilecompat.Request, error) {
	req := dockerfilecompat.Request{Options: opts, Platforms: opts.Platforms}
	if len(o.set) > 0 {
		return req, misuse("--set is for CUE; a Dockerfile takes --build-arg")
	}
	var err error
	if req.Contexts, err = pairs("--build-context", o.contexts); err != nil {
		return req, err
	}
	dir := "."
	if len(o.paths) > 0 {
		dir = o.paths[0]
	}
	if dir == "-" {
		req.Filename, req.Text, err = a.dockerfileFromStdin()
		return req, err
	}
	if isURL(dir) {
		req.URL, req.Filename = dir, o.file
		return req, nil
	}
	return req, a.localDockerfile(o, dir, &req)
}

func (a *app) dockerfileFromStdin() (string, []byte, error) {
	text, err := io.ReadAll(a.stdin)
	if err != nil {
		return "", nil, fmt.Errorf("read standard input: %w", err)
	}
	return "Dockerfile", text, nil
}

// localDockerfile fills in a context directory and the Dockerfile for it.
func (a *app) localDockerfile(o *inputOptions, dir string, req *dockerfilecompat.Request) (err error) {
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("build context: %w", err)
	}
	if !info.IsDir() {
		return misuse("%s is no directory: give the build context, and the Dockerfile with -f", dir)
	}
	if req.Context, err = filepath.Abs(dir); err != nil {
		return err
	}
	if o.file == "-" {
		req.Filename, req.Text, err = a.dockerfileFromStdin()
		return err
	}
	req.Filename = o.file
	if o.file == "" {
		req.Filename = filepath.Join(dir, "Dockerfile")
	}
	abs, err := filepath.Abs(req.Filename)
	if err != nil {
		return err
	}
	req.Dir = filepath.Dir(abs)
	if _, err := os.Stat(abs); errors.Is(err, os.ErrNotExist) && o.file == "" && !exists(filepath.Join(dir, "dockerfile")) {
		return fmt.Errorf("%s holds neither CUE files nor a Dockerfile: name one with -f", dir)
	}
	return nil
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// isURL tells contexts elsewhere from directories.
func isURL(arg string) bool {
	for _, prefix := range []string{"https://", "http://", "git://", "ssh://", "git@", "github.com/"} {
		if strings.HasPrefix(arg, prefix) {
			return true
		}
	}
	return false
}
