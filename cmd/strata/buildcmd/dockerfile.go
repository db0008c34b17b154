package buildcmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/dfgitutil"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/compiler"
	dockerfilecompat "github.com/strata-build/strata/dockerfile-compat"
	"github.com/strata-build/strata/runtime/engine"
	"github.com/strata-build/strata/runtime/executor/userns"
)

// dockerfileInput is a Dockerfile with its context, and the reader of what is
// not a directory of this machine.
type dockerfileInput struct {
	req    dockerfilecompat.Request
	reader *engine.Reader // nil without a store
}

func (d *dockerfileInput) close() error {
	if d.reader == nil {
		return nil
	}
	return d.reader.Close()
}

// compileDockerfile is the other front end: what `docker build` builds.
func (a *app) compileDockerfile(ctx context.Context, in *dockerfileInput, targets []string) (*compiler.Plan, error) {
	plan := &compiler.Plan{}
	if len(targets) == 0 {
		targets = []string{""}
	}
	for _, target := range targets {
		in.req.Target = target
		res, err := dockerfilecompat.Compile(ctx, in.req)
		if res != nil {
			for _, w := range res.Warnings {
				fmt.Fprintf(a.Stderr, "warning: %s\n", w)
			}
		}
		if err != nil {
			return nil, err
		}
		plan.Targets = append(plan.Targets, res.Targets...)
	}
	return plan, nil
}

// openDockerfile finds the Dockerfile and its context as docker does. The
// context is a directory, a URL, or standard input: an archive there is the
// context, and anything else the Dockerfile of an empty one. -f is the
// Dockerfile: a file of this machine where the context is a directory, one of
// the context where it is none, a URL, or `-` for standard input.
func (a *app) openDockerfile(ctx context.Context, e *engine.Engine, o *inputOptions, opts compiler.Options) (*dockerfileInput, error) {
	if len(o.set) > 0 {
		return nil, cli.Misuse("--set is for CUE; a Dockerfile takes --build-arg")
	}
	in := &dockerfileInput{req: dockerfilecompat.Request{Filename: o.file, Options: opts, Platforms: opts.Platforms}}
	var err error
	if in.req.Contexts, err = pairs("--build-context", o.contexts); err != nil {
		return nil, err
	}
	if e != nil {
		if in.reader, err = a.newReader(e, o, opts); err != nil {
			return nil, err
		}
		in.req.Remote = in.reader
	}
	if err := a.findContext(ctx, e, o, in); err != nil {
		return nil, errors.Join(err, in.close())
	}
	return in, nil
}

// newReader reads contexts elsewhere with the secrets and agents of the build.
func (a *app) newReader(e *engine.Engine, o *inputOptions, opts compiler.Options) (*engine.Reader, error) {
	secrets, err := a.parseSecrets(o.secrets)
	if err != nil {
		return nil, err
	}
	agents, err := a.parseAgents(o.ssh)
	if err != nil {
		return nil, err
	}
	return e.NewReader(engine.Request{Meta: opts.Meta, Secrets: secrets, Agents: agents}), nil
}

// findContext fills in the context and where its Dockerfile is.
func (a *app) findContext(ctx context.Context, e *engine.Engine, o *inputOptions, in *dockerfileInput) error {
	arg := o.contextArg()
	switch info, err := os.Stat(arg); {
	case arg == "-":
		if err := a.contextFromStdin(e, o, in); err != nil {
			return err
		}
	case err == nil && info.IsDir():
		if in.req.Context, err = filepath.Abs(arg); err != nil {
			return err
		}
	case isURL(arg):
		in.req.URL = arg
	case err != nil:
		return fmt.Errorf("build context: %w", err)
	default:
		return cli.Misuse("%s is no directory: give the build context, and the Dockerfile with -f", arg)
	}
	if in.req.Text != nil {
		return nil
	}
	return a.findDockerfile(ctx, arg, o.file, in)
}

// contextArg is the context that the command line names.
func (o *inputOptions) contextArg() string {
	if len(o.paths) == 0 {
		return "."
	}
	return o.paths[0]
}

// findDockerfile says where the Dockerfile is: nothing is to be said where it
// is in a context that is no directory.
func (a *app) findDockerfile(ctx context.Context, arg, file string, in *dockerfileInput) (err error) {
	req := &in.req
	switch {
	case file == "-":
		req.Filename = dockerfileName
		req.Text, err = a.stdinText()
		return err
	case isHTTP(file):
		req.Filename = dockerfileName
		req.Text, err = download(ctx, in.reader, file)
		return err
	case isStream(file):
		req.Text, err = os.ReadFile(file)
		return err
	case req.Context == "" && !filepath.IsAbs(file):
		return nil
	case file == "":
		req.Filename = filepath.Join(arg, dockerfileName)
	}
	return locate(req, noDockerfile(arg, file))
}

// locate completes a Dockerfile on this machine. Its default name may be
// written in lower case, as in docker.
func locate(req *dockerfilecompat.Request, missing error) error {
	abs, err := filepath.Abs(req.Filename)
	if err != nil {
		return err
	}
	req.Dir = filepath.Dir(abs)
	if there(abs) {
		return nil
	}
	dir, name := filepath.Split(req.Filename)
	req.Filename = filepath.Join(dir, strings.ToLower(name))
	if name != dockerfileName || !there(filepath.Join(req.Dir, strings.ToLower(name))) {
		return missing
	}
	return nil
}

// there tells whether there is a file. What a link leads to is for who reads
// it: in a context that is another file than on this machine.
func there(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// isStream tells what is no file of a directory, such as the pipe of a shell's
// <(command).
func isStream(name string) bool {
	info, err := os.Stat(name)
	return err == nil && (name == "/dev/stdin" || info.Mode()&(os.ModeNamedPipe|os.ModeCharDevice) != 0)
}

// noDockerfile says where -f may have been meant to lead.
func noDockerfile(arg, file string) error {
	below := filepath.Join(arg, file)
	switch {
	case file == "":
		return fmt.Errorf("%s holds neither CUE files nor a Dockerfile: name one with -f", arg)
	case !filepath.IsAbs(file) && exists(below):
		return fmt.Errorf("there is no file %s: -f starts from the working directory; did you mean -f %s?", file, below)
	}
	return fmt.Errorf("there is no file %s: -f names a Dockerfile or a .cue file", file)
}

const dockerfileName = "Dockerfile"

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// remote reports whether the context, or the Dockerfile, has to be fetched or
// unpacked before it can be read, which takes a store.
func (a *app) remote(o *inputOptions) (bool, error) {
	arg := o.contextArg()
	if arg != "-" {
		return isHTTP(o.file) || isURL(arg) && !exists(arg), nil
	}
	// An ordinary user's command runs again in a namespace to open the store:
	// what was looked at here would be missing there.
	if ok, err := userns.Sufficient(); !ok || err != nil {
		return true, err
	}
	return a.stdinIsArchive()
}

// isURL tells contexts elsewhere from directories.
func isURL(arg string) bool {
	_, isGit, _ := dfgitutil.ParseGitRef(arg)
	return isGit || isHTTP(arg)
}

func isHTTP(arg string) bool {
	return strings.HasPrefix(arg, "https://") || strings.HasPrefix(arg, "http://")
}
