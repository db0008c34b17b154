package dockerfilecompat

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/compiler"
)

// Request is a Dockerfile with its surroundings.
type Request struct {
	// Filename is the Dockerfile as the user named it, for messages. Dir is
	// the directory that holds it; Text is its content where it is no file.
	Filename string
	Dir      string
	Text     []byte
	// Context is the directory of the build context; URL is set instead where
	// it is a git repository or a file behind http.
	Context string
	URL     string
	// Contexts are further build contexts by name, as docker writes them:
	// a directory, docker-image://…, oci-layout://…, a URL, target:….
	Contexts map[string]string

	Target    string
	Platforms []ocispecs.Platform
	// Options are those of the compilation: arguments, labels, limits.
	Options compiler.Options
	Remote  Remote
}

// Warning is a finding that fails nothing.
type Warning struct {
	File    string
	Line    int
	Message string
	Detail  []string
	URL     string
}

// Result is a compiled Dockerfile.
type Result struct {
	Targets  []compiler.Target
	Warnings []Warning
}

// Compile turns a Dockerfile into LLB and image configs, one per platform.
func Compile(ctx context.Context, req Request) (*Result, error) {
	g, err := newGateway(req)
	if err != nil {
		return nil, err
	}
	bc, err := dockerui.NewClient(g)
	if err != nil {
		return nil, err
	}
	src, err := bc.ReadEntrypoint(ctx, "Dockerfile")
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", req.Filename, err)
	}
	src.SourceMap.Filename = req.Filename
	if err := checkSyntax(src.Data, req.Filename, bc.BuildArgs); err != nil {
		return nil, err
	}
	res := &Result{}
	wanted := bc.TargetPlatforms
	if len(wanted) == 0 {
		wanted = []ocispecs.Platform{{}}
	}
	for i, p := range wanted {
		platform := &p
		if p.OS == "" {
			platform = nil
		}
		t, err := compilePlatform(ctx, g, bc, src, platform, i == 0)
		if err != nil {
			return nil, sourceError(req.Filename, src.Data, err)
		}
		res.Targets = append(res.Targets, t)
	}
	for i := range res.Targets {
		finish(&res.Targets[i], req, g)
	}
	res.Warnings = g.warnings
	return res, nil
}

// compilePlatform compiles for one platform; warnings of further platforms
// would be the same again.
func compilePlatform(ctx context.Context, g *gateway, bc *dockerui.Client, src *dockerui.Source, platform *ocispecs.Platform, first bool) (compiler.Target, error) {
	opt := dockerfile2llb.ConvertOpt{
		Config: bc.Config, Client: bc, SourceMap: src.SourceMap, MetaResolver: g, TargetPlatform: platform,
	}
	opt.BuildArgs = maps.Clone(opt.BuildArgs)
	if first {
		opt.Warn = g.lint(src)
	}
	df, err := dockerfile2llb.Dockerfile2LLB(ctx, src.Data, opt)
	if err != nil {
		return compiler.Target{}, err
	}
	def, err := df.State.Marshal(ctx)
	if err != nil {
		return compiler.Target{}, fmt.Errorf("marshal definition: %w", err)
	}
	t := compiler.Target{Definition: def.ToPB()}
	if t.Config, err = json.Marshal(df.Image); err != nil {
		return compiler.Target{}, fmt.Errorf("marshal image config: %w", err)
	}
	if df.BaseImage != nil {
		if t.BaseConfig, err = json.Marshal(df.BaseImage); err != nil {
			return compiler.Target{}, fmt.Errorf("marshal base image config: %w", err)
		}
	}
	t.Platform = platforms.Normalize(ocispecs.Platform{OS: df.Image.OS, Architecture: df.Image.Architecture, Variant: df.Image.Variant})
	return t, nil
}

// finish adds what is the same for all platforms.
func finish(t *compiler.Target, req Request, g *gateway) {
	t.Name = req.Target
	t.Pos.File = req.Filename
	t.Locals = map[string]compiler.Local{}
	for name, dir := range g.locals {
		t.Locals[name] = compiler.Local{Dir: dir}
	}
	t.Stores = map[string]compiler.Store{}
	for _, spec := range req.Contexts {
		if path, ok := strings.CutPrefix(spec, "oci-layout://"); ok {
			path, _, _ = strings.Cut(path, "@")
			t.Stores[storeID(path)] = compiler.Store{Path: path}
		}
	}
}

// lint passes the linter's findings to the gateway's warnings.
func (g *gateway) lint(src *dockerui.Source) linter.LintWarnFunc {
	return func(rule, description, url, message string, location []parser.Range) {
		w := Warning{File: src.Filename, Message: rule + ": " + message, Detail: []string{description}, URL: url}
		if len(location) > 0 {
			w.Line = location[0].Start.Line
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		g.warnings = append(g.warnings, w)
	}
}

// newGateway turns a request into the options that dockerui reads.
func newGateway(req Request) (*gateway, error) {
	g := &gateway{
		opts: map[string]string{}, meta: req.Options.Meta, remote: req.Remote,
		locals: map[string]string{}, texts: map[string][]byte{},
	}
	name := filepath.Base(req.Filename)
	if req.Filename == "" {
		name = dockerui.DefaultDockerfileName
	}
	g.opts["filename"] = name
	if req.Dir != "" {
		g.locals[dockerui.DefaultLocalNameDockerfile] = req.Dir
		g.opts["dockerfilekey"] = dockerui.DefaultLocalNameDockerfile
	}
	if req.Text != nil {
		g.texts[dockerui.DefaultLocalNameDockerfile+"/"+name] = req.Text
		g.opts["dockerfilekey"] = dockerui.DefaultLocalNameDockerfile
	}
	if req.URL != "" {
		g.opts["context"] = req.URL
	} else if req.Context != "" {
		g.locals[dockerui.DefaultLocalNameContext] = req.Context
	}
	g.set("target", req.Target)
	g.addOptions(req)
	return g, g.addContexts(req.Contexts)
}

func (g *gateway) set(key, value string) {
	if value != "" {
		g.opts[key] = value
	}
}

// addOptions writes the flags as docker sends them to BuildKit.
func (g *gateway) addOptions(req Request) {
	o := req.Options
	for name, value := range o.Args {
		g.opts["build-arg:"+name] = value
	}
	for name, value := range o.Labels {
		g.opts["label:"+name] = value
	}
	var list []string
	for _, p := range req.Platforms {
		list = append(list, platforms.FormatAll(p))
	}
	g.set("platform", strings.Join(list, ","))
	switch o.Network {
	case pb.NetMode_HOST:
		g.opts["force-network-mode"] = "host"
	case pb.NetMode_NONE:
		g.opts["force-network-mode"] = "none"
	}
	list = nil
	for _, h := range o.ExtraHosts {
		list = append(list, h.Host+"="+h.IP.String())
	}
	g.set("add-hosts", strings.Join(list, ","))
	if o.ShmSize > 0 {
		g.opts["shm-size"] = strconv.FormatInt(o.ShmSize, 10)
	}
	list = nil
	for _, u := range o.Ulimits {
		list = append(list, fmt.Sprintf("%s=%d:%d", u.Name, u.Soft, u.Hard))
	}
	g.set("ulimit", strings.Join(list, ","))
	g.set("cgroup-parent", o.CgroupParent)
	g.set("hostname", o.Hostname)
	if o.NoCache {
		g.opts["no-cache"] = ""
	} else {
		g.set("no-cache", strings.Join(o.NoCacheFilter, ","))
	}
	if o.ResolveMode != llb.ResolveModeDefault {
		g.opts["image-resolve-mode"] = o.ResolveMode.String()
	}
}

// addContexts adds named contexts; directories become local sources.
func (g *gateway) addContexts(contexts map[string]string) error {
	for name, spec := range contexts {
		value := spec
		scheme, rest, ok := strings.Cut(spec, "://")
		switch {
		case ok && scheme == "oci-layout":
			path, want, pinned := strings.Cut(rest, "@")
			if !pinned {
				return fmt.Errorf("the context %s=%s needs a digest", name, spec)
			}
			value = "oci-layout://" + storeID(path) + "@" + want
		case ok, strings.HasPrefix(spec, "target:"), strings.HasPrefix(spec, "git@"):
		default:
			local := "context:" + name
			g.locals[local] = spec
			value = "local:" + local
		}
		g.opts["context:"+name] = value
	}
	return nil
}

// storeID names an OCI layout in a definition: a valid image name that tells
// paths apart.
func storeID(path string) string {
	return "layout-" + digest.FromString(path).Encoded()[:16]
}

// checkSyntax lets the built-in front end serve docker/dockerfile, and refuses
// any other by name.
func checkSyntax(data []byte, filename string, args map[string]string) error {
	ref, _, loc, ok := parser.DetectSyntax(data)
	if given := strings.Fields(args["BUILDKIT_SYNTAX"]); len(given) > 0 {
		ref, loc, ok = given[0], nil, true
	}
	if !ok || builtinSyntax(ref) {
		return nil
	}
	return sourceError(filename, data, parser.WithLocation(fmt.Errorf(
		"the syntax %q is another front end, which strata cannot run; remove the line, or use docker/dockerfile:1", ref), loc))
}

// builtinSyntax tells the front end that is built in, of whatever version.
func builtinSyntax(ref string) bool {
	ref = strings.TrimPrefix(ref, "docker.io/")
	name, _, _ := strings.Cut(ref, "@")
	name, _, _ = strings.Cut(name, ":")
	return name == "docker/dockerfile" || name == "docker/dockerfile-upstream"
}

// Error is a mistake in a Dockerfile, at its line.
type Error struct {
	File   string
	Line   int
	Source []string // the lines of the instruction
	Err    error
}

// Error implements error.
func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %v", e.File, e.Err)
	}
	return fmt.Sprintf("%s:%d: %v", e.File, e.Line, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Render shows the error with the source and a caret, for terminals.
func (e *Error) Render() string {
	var b strings.Builder
	fmt.Fprintln(&b, e.Error())
	for i, line := range e.Source {
		fmt.Fprintf(&b, "%5d | %s\n", e.Line+i, line)
		if i == 0 {
			fmt.Fprintf(&b, "      | %s^\n", strings.Repeat(" ", len(line)-len(strings.TrimLeft(line, " \t"))))
		}
	}
	return b.String()
}

// sourceError adds the place that BuildKit's error carries.
func sourceError(filename string, data []byte, err error) error {
	e := &Error{File: filename, Err: err}
	var at *parser.LocationError
	if !errors.As(err, &at) || len(at.Locations) == 0 || len(at.Locations[0]) == 0 {
		return e
	}
	r := at.Locations[0][0]
	e.Line = r.Start.Line
	lines := strings.Split(string(data), "\n")
	for n := r.Start.Line; n <= max(r.End.Line, r.Start.Line) && n <= len(lines) && n > 0; n++ {
		e.Source = append(e.Source, strings.TrimRight(lines[n-1], "\r"))
	}
	return e
}
