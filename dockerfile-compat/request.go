package dockerfilecompat

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/compiler"
)

// newGateway turns a request into the options that dockerui reads.
func newGateway(req Request) (*gateway, error) {
	g := &gateway{
		opts: map[string]string{}, meta: req.Options.Meta, layouts: req.Options.Layouts, remote: req.Remote,
		build:  req.Options.BuildPlatform,
		locals: map[string]string{}, texts: map[string][]byte{}, stores: map[string]string{},
		inputs: map[string]llb.State{}, targets: map[string]string{},
	}
	g.addDockerfile(req)
	switch {
	case req.URL != "":
		g.opts["context"] = req.URL
	case req.Archive != "":
		g.addArchive(req)
	case req.Context != "":
		g.locals[dockerui.DefaultLocalNameContext] = req.Context
	}
	g.set("target", req.Target)
	g.addArgs(req.Options)
	g.addOptions(req)
	return g, g.addContexts(req.Contexts)
}

// addDockerfile says where the Dockerfile is: in a directory or a text of its
// own, or in the context.
func (g *gateway) addDockerfile(req Request) {
	name := filepath.Base(req.Filename)
	g.opts["filename"] = name
	if req.Dir == "" && req.Text == nil {
		g.opts["filename"] = req.Filename
		return
	}
	g.opts["dockerfilekey"] = dockerui.DefaultLocalNameDockerfile
	if req.Dir != "" {
		g.locals[dockerui.DefaultLocalNameDockerfile] = req.Dir
	}
	if req.Text != nil {
		g.texts[dockerui.DefaultLocalNameDockerfile+"/"+name] = req.Text
	}
}

// ArchiveLocal is the name of the local source that Archive is a file of.
func (Request) ArchiveLocal() string { return "archive" }

// addArchive makes an archive of this machine the context, unpacked as docker
// does with one behind a URL. Ignore files have no say in it there, either.
func (g *gateway) addArchive(req Request) {
	name := filepath.Base(req.Archive)
	g.locals[req.ArchiveLocal()] = filepath.Dir(req.Archive)
	archive := llb.Local(req.ArchiveLocal(), llb.IncludePatterns([]string{name}), dockerui.WithInternalName("load build context"))
	unpacked := llb.Scratch().File(
		llb.Copy(archive, path.Join("/", name), "/", &llb.CopyInfo{AttemptUnpack: true}),
		dockerui.WithInternalName("unpack build context"),
	)
	g.inputs[dockerui.DefaultLocalNameContext] = unpacked
	g.inputs[dockerui.DefaultLocalNameDockerfile] = unpacked
}

func (g *gateway) set(key, value string) {
	if value != "" {
		g.opts[key] = value
	}
}

// addArgs writes the arguments. A creation time that was given otherwise is
// the argument for it, which is the only way to tell the front end.
func (g *gateway) addArgs(o compiler.Options) {
	const epoch = "build-arg:SOURCE_DATE_EPOCH"
	for name, value := range o.Args {
		g.opts["build-arg:"+name] = value
	}
	if _, ok := g.opts[epoch]; !ok && o.Epoch != nil {
		g.opts[epoch] = strconv.FormatInt(o.Epoch.Unix(), 10)
	}
	for name, value := range o.Labels {
		g.opts["label:"+name] = value
	}
}

// addOptions writes the flags as docker sends them to BuildKit.
func (g *gateway) addOptions(req Request) {
	o := req.Options
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

// addContexts adds named contexts, in the order of their names.
func (g *gateway) addContexts(contexts map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(contexts)) {
		value, err := g.context(name, contexts[name])
		if err != nil {
			return fmt.Errorf("build context %s=%s: %w", name, contexts[name], err)
		}
		key, err := familiar(name)
		if err != nil {
			return fmt.Errorf("build context %q: %w", name, err)
		}
		g.opts["context:"+key] = value
	}
	return nil
}

// familiar is the short name that dockerui looks a context up by.
func familiar(name string) (string, error) {
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(reference.FamiliarString(ref), ":latest"), nil
}

// context writes one named context as dockerui reads it: a directory is a
// local source, a layout has a store of its own, and a target is an input.
func (g *gateway) context(name, spec string) (string, error) {
	if target, ok := strings.CutPrefix(spec, "target:"); ok {
		g.targets[name] = target
		return "input:" + name, nil
	}
	scheme, rest, ok := strings.Cut(spec, "://")
	switch {
	case ok && scheme == "oci-layout":
		return g.layout(rest)
	case ok, strings.HasPrefix(spec, "git@"):
		return spec, nil
	}
	info, err := os.Stat(spec)
	if err != nil {
		return "", err
	}
	if !info.IsDir() {
		return "", fmt.Errorf("%s is no directory", spec)
	}
	local := "context:" + name
	g.locals[local] = spec
	return "local:" + local, nil
}

// layout names the image of a layout by its digest, which a tag, or nothing,
// stands for where the layouts can be read.
func (g *gateway) layout(spec string) (string, error) {
	path, ref, pinned := strings.Cut(spec, "@")
	if !pinned {
		path, ref = cutTag(spec)
		if g.layouts == nil {
			return "", fmt.Errorf("give the digest of the image: oci-layout://%s@sha256:…", path)
		}
		dgst, _, err := g.layouts.Image(context.Background(), path, ref, g.buildPlatform())
		if err != nil {
			return "", err
		}
		ref = dgst.String()
	}
	g.stores[storeID(path)] = path
	return "oci-layout://" + storeID(path) + "@" + ref, nil
}

// cutTag splits path:tag; a colon counts only behind the last slash.
func cutTag(spec string) (path, tag string) {
	if i := strings.LastIndexByte(spec, ':'); i > strings.LastIndexByte(spec, '/') {
		return spec[:i], spec[i+1:]
	}
	return spec, ""
}

// storeID names an OCI layout in a definition: a valid image name that tells
// paths apart.
func storeID(path string) string {
	return "layout-" + digest.FromString(path).Encoded()[:16]
}

// sources are the directories and layouts behind the names in a definition.
func (g *gateway) sources() (map[string]compiler.Local, map[string]compiler.Store) {
	locals, stores := map[string]compiler.Local{}, map[string]compiler.Store{}
	for name, dir := range g.locals {
		locals[name] = compiler.Local{Dir: dir}
	}
	for name, path := range g.stores {
		stores[name] = compiler.Store{Path: path}
	}
	return locals, stores
}

// resolveTargets compiles the stages that named contexts stand for, and makes
// them inputs of the compilation for the same platform.
func (s *session) resolveTargets(ctx context.Context, platform *ocispecs.Platform) error {
	for _, name := range slices.Sorted(maps.Keys(s.g.targets)) {
		delete(s.g.opts, "context:"+name)
	}
	for _, name := range slices.Sorted(maps.Keys(s.g.targets)) {
		t, err := s.convert(ctx, s.options(s.g.targets[name], platform))
		if err != nil {
			return fmt.Errorf("build context %s=target:%s: %w", name, s.g.targets[name], sourceError(s.req.Filename, s.src.Data, err))
		}
		if err := s.g.addInput(name, t); err != nil {
			return fmt.Errorf("build context %s=target:%s: %w", name, s.g.targets[name], err)
		}
	}
	for name := range s.g.targets {
		key, err := familiar(name)
		if err != nil {
			return fmt.Errorf("build context %q: %w", name, err)
		}
		s.g.opts["context:"+key] = "input:" + name
	}
	return nil
}

// addInput gives the gateway an input with its image config.
func (g *gateway) addInput(name string, t compiler.Target) error {
	st := llb.Scratch()
	if len(t.Definition.Def) > 0 {
		op, err := llb.NewDefinitionOp(t.Definition)
		if err != nil {
			return err
		}
		st = llb.NewState(op)
	}
	g.inputs[name] = st
	meta, err := json.Marshal(map[string][]byte{exptypes.ExporterImageConfigKey: t.Config})
	if err != nil {
		return fmt.Errorf("marshal image config: %w", err)
	}
	g.opts["input-metadata:"+name] = string(meta)
	return nil
}
