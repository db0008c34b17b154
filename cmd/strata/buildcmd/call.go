package buildcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/moby/buildkit/frontend/subrequests/outline"
	"github.com/moby/buildkit/frontend/subrequests/targets"

	"github.com/strata-build/strata/cmd/strata/cli"
	dockerfilecompat "github.com/strata-build/strata/dockerfile-compat"
)

// call is what --call asks for instead of a build.
type call struct {
	method string
	json   bool
}

// parseCall reads --call METHOD[,format=json] and --check.
func (o *buildOptions) parseCall() (call, error) {
	method, options, _ := strings.Cut(o.call, ",")
	c := call{method: method}
	switch options {
	case "", "format=text":
	case "format=json":
		c.json = true
	default:
		return c, cli.Misuse("--call %s: %q is not format=text or format=json", o.call, options)
	}
	switch {
	case o.check && method != "build" && method != "check":
		return c, cli.Misuse("--check is --call check, and not --call %s", method)
	case o.check:
		c.method = "check"
	case method == "":
		c.method = "build"
	}
	return c, nil
}

// call answers --call: about the build description, without building it.
func (a *app) call(ctx context.Context, o *buildOptions, c call) error {
	src, err := o.locate()
	if err != nil {
		return err
	}
	if c.method == "check" && !c.json {
		return a.vet(ctx, &vetOptions{inputOptions: o.inputOptions})
	}
	if !src.dockerfile {
		return cli.Misuse("--call %s is for Dockerfiles: see `strata plan` and `strata vet`", o.call)
	}
	answer, ok := map[string]answer{"check": answerCheck, "outline": answerOutline, "targets": answerTargets}[c.method]
	if !ok {
		return cli.Misuse("--call %s is not known: it takes build, check, outline or targets", c.method)
	}
	return a.withDockerfile(ctx, &o.inputOptions, func(in *dockerfileInput) error {
		for _, target := range o.lintTargets() {
			in.req.Target = target
			if err := answer(ctx, a.Stdout, in.req, c.json); err != nil {
				return err
			}
		}
		return nil
	})
}

// answer writes what there is to say about a Dockerfile.
type answer func(ctx context.Context, w io.Writer, req dockerfilecompat.Request, asJSON bool) error

func answerCheck(ctx context.Context, w io.Writer, req dockerfilecompat.Request, _ bool) error {
	data, found, err := dockerfilecompat.LintJSON(ctx, req)
	if _, werr := fmt.Fprintf(w, "%s\n", data); err != nil || werr != nil {
		return errors.Join(err, werr)
	}
	if found > 0 {
		return &cli.ExitError{Code: cli.ExitFailed}
	}
	return nil
}

func answerOutline(ctx context.Context, w io.Writer, req dockerfilecompat.Request, asJSON bool) error {
	data, err := dockerfilecompat.Outline(ctx, req)
	return writeAnswer(w, data, err, asJSON, outline.PrintOutline)
}

func answerTargets(ctx context.Context, w io.Writer, req dockerfilecompat.Request, asJSON bool) error {
	data, err := dockerfilecompat.Stages(ctx, req)
	return writeAnswer(w, data, err, asJSON, targets.PrintTargets)
}

// writeAnswer writes JSON, or has BuildKit print it as a table.
func writeAnswer(w io.Writer, data []byte, err error, asJSON bool, table func([]byte, io.Writer) error) error {
	if err != nil {
		return err
	}
	if asJSON {
		_, err = fmt.Fprintf(w, "%s\n", data)
		return err
	}
	return table(data, w)
}
