package buildcmd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/cmd/strata/output"
	dockerfilecompat "github.com/strata-build/strata/dockerfile-compat"
	"github.com/strata-build/strata/runtime/engine"
)

// lint is `strata vet` and `--check` for a Dockerfile: BuildKit's rules.
func (a *app) lint(ctx context.Context, o *inputOptions) error {
	return a.withDockerfile(ctx, o, func(in *dockerfileInput) error {
		var found findings
		for _, target := range o.lintTargets() {
			in.req.Target = target
			warnings, err := dockerfilecompat.Lint(ctx, in.req)
			for _, w := range warnings {
				found.add(w.Render())
			}
			if err != nil {
				fmt.Fprint(a.Stderr, found.text())
				return err
			}
		}
		return a.reportFindings(&found)
	})
}

// withDockerfile runs fn with a Dockerfile that is not built.
func (a *app) withDockerfile(ctx context.Context, o *inputOptions, fn func(*dockerfileInput) error) error {
	return a.withMetadata(ctx, o, func(e *engine.Engine) error {
		opts, err := a.frontOptions(e, o)
		if err != nil {
			return err
		}
		in, err := a.openDockerfile(ctx, e, o, opts)
		if err != nil {
			return err
		}
		return errors.Join(fn(in), in.close())
	})
}

// lintTargets are the stages to check: "" is what the last one needs, and all
// others.
func (o *inputOptions) lintTargets() []string {
	if len(o.targets) == 0 {
		return []string{""}
	}
	return o.targets
}

// findings are what a check found, each once.
type findings struct{ list []string }

func (f *findings) add(text string) {
	if !slices.Contains(f.list, text) {
		f.list = append(f.list, text)
	}
}

func (f *findings) text() string { return strings.Join(f.list, "") }

// reportFindings shows what was found, which is a failure.
func (a *app) reportFindings(f *findings) error {
	fmt.Fprint(a.Stderr, f.text())
	if len(f.list) == 0 {
		return nil
	}
	return &cli.ExitError{Code: cli.ExitFailed, Err: errors.New(output.Plural(len(f.list), "warning"))}
}
