package compiler

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/schema"
)

// counting counts how often each reference is asked for.
type counting struct {
	registry
	mu    sync.Mutex
	asked map[string]int
}

func (c *counting) ResolveImageConfig(ctx context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	c.mu.Lock()
	c.asked[ref+" "+platforms.FormatAll(*opt.ImageOpt.Platform)]++
	c.mu.Unlock()
	return c.registry.ResolveImageConfig(ctx, ref, opt)
}

func noIgnore(string) ([]string, error) { return nil, nil }

// digests are the ops of a target.
func digests(t *testing.T, target Target) []digest.Digest {
	t.Helper()
	g, err := decode(target.Definition)
	if err != nil {
		t.Fatal(err)
	}
	list := make([]digest.Digest, 0, len(g.vertices))
	for _, v := range g.vertices {
		list = append(list, v.dgst)
	}
	return list
}

// TestSharedBase makes sure that images on one base share its vertices, and
// that its reference is resolved once.
func TestSharedBase(t *testing.T) {
	meta := &counting{asked: map[string]int{}}
	opts := buildOptions{platform: build}.options(t)
	opts.Meta, opts.Ignore = meta, noIgnore
	spec := services(20)
	plan, err := Compile(context.Background(), spec, opts)
	if err != nil {
		t.Fatal(err)
	}
	for ref, n := range meta.asked {
		if n != 1 {
			t.Errorf("%s was asked for %d times", ref, n)
		}
	}
	base := compileIn(t, sharedBase(), spec, opts)
	for _, target := range plan.Targets {
		have := digests(t, target)
		for _, d := range base {
			if !slices.Contains(have, d) {
				t.Errorf("%s does not share vertex %s of the base", target.Name, d)
			}
		}
	}
}

// compileIn compiles an image in a plan with others, and returns its ops.
func compileIn(t *testing.T, img *schema.Image, spec *schema.Spec, opts Options) []digest.Digest {
	t.Helper()
	all := &schema.Spec{Images: append(slices.Clone(spec.Images), img)}
	plan, err := Compile(context.Background(), all, opts)
	if err != nil {
		t.Fatal(err)
	}
	return digests(t, plan.Targets[len(plan.Targets)-1])
}

// TestEqualImagesAreOne makes sure that two images with the same fields are
// the same ops, whatever they are called.
func TestEqualImagesAreOne(t *testing.T) {
	one, other := sharedBase(), sharedBase()
	other.Name, other.Path = "other", "images.other"
	other.Steps[0].Pos = schema.Position{File: "elsewhere.cue", Line: 99, Column: 1}
	other.Steps[0].Name = "another title"
	opts := buildOptions{}.options(t)
	opts.Ignore = noIgnore
	plan, err := Compile(context.Background(), &schema.Spec{Images: []*schema.Image{one, other}}, opts)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(digests(t, plan.Targets[0]), digests(t, plan.Targets[1])) {
		t.Error("equal images have different ops")
	}
}

// TestDeterministic compiles the same twice, down to the bytes.
func TestDeterministic(t *testing.T) {
	opts := buildOptions{}.options(t)
	opts.Layouts, opts.Ignore = layouts{}, noIgnore
	opts.Platforms = []ocispecs.Platform{platform(t, "linux/amd64"), platform(t, "linux/arm64")}
	var first []byte
	for i := range 3 {
		spec := services(5)
		img := fullImage()
		img.Platform = ""
		spec.Images = append(spec.Images, img)
		plan, err := Compile(context.Background(), spec, opts)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := plan.JSON(&b); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = b.Bytes()
		} else if !bytes.Equal(first, b.Bytes()) {
			t.Fatal("compiling the same again gives other bytes")
		}
	}
}

// TestPlatforms checks which targets a plan has.
func TestPlatforms(t *testing.T) {
	img := &schema.Image{Name: "app", From: &schema.From{Ref: "alpine"}, Platforms: []string{"linux/arm64", "build"}}
	plain := &schema.Image{Name: "plain", From: &schema.From{Ref: "alpine"}}
	for name, c := range map[string]struct {
		asked []string
		want  string
	}{
		"of the image":   {nil, "app linux/arm64, app linux/amd64, plain linux/amd64"},
		"of the options": {[]string{"linux/s390x"}, "app linux/s390x, plain linux/s390x"},
	} {
		t.Run(name, func(t *testing.T) {
			opts := buildOptions{}.options(t)
			for _, p := range c.asked {
				opts.Platforms = append(opts.Platforms, platform(t, p))
			}
			plan, err := Compile(context.Background(), &schema.Spec{Images: []*schema.Image{img, plain}}, opts)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, target := range plan.Targets {
				got = append(got, target.title())
				var config ocispecs.Image
				if err := json.Unmarshal(target.Config, &config); err != nil {
					t.Fatal(err)
				}
				if config.Architecture != target.Platform.Architecture {
					t.Errorf("%s: the config is for %s", target.title(), config.Architecture)
				}
			}
			if s := strings.Join(got, ", "); s != c.want {
				t.Errorf("got %s, want %s", s, c.want)
			}
		})
	}
}

// TestLocalNames makes sure that every directory of a plan has one name, in
// all its targets.
func TestLocalNames(t *testing.T) {
	read := func(name, dir string, from *schema.From) *schema.Image {
		return &schema.Image{Name: name, Context: dir, Steps: []*schema.Step{
			{Verb: schema.VerbCopy, Paths: []string{"a"}, To: "/", From: from},
		}}
	}
	local := func(dir string) *schema.From { return &schema.From{Source: &schema.Source{Local: dir}} }
	spec := &schema.Spec{Images: []*schema.Image{
		read("a", "/repo/a", nil), read("b", "/repo/b", nil), read("c", "/repo/b", local("/repo")),
		read("d", "/repo/d", local("/repo/a/context")), read("e", "/repo/e", local("/else/B")), read("f", "/repo/e", local("/")),
	}}
	opts := buildOptions{}.options(t)
	opts.Ignore = noIgnore
	plan, err := Compile(context.Background(), spec, opts)
	if err != nil {
		t.Fatal(err)
	}
	want := []map[string]string{
		{"context": "/repo/a"}, {"b": "/repo/b"}, {"parent": "/repo"},
		{"context-2": "/repo/a/context"}, {"else-b": "/else/B"}, {"parent-parent": "/"},
	}
	for i, target := range plan.Targets {
		got := map[string]string{}
		for name, l := range target.Locals {
			got[name] = l.Dir
		}
		if fmt.Sprint(got) != fmt.Sprint(want[i]) {
			t.Errorf("%s: locals are %v, want %v", target.Name, got, want[i])
		}
	}
}

// TestLocalUnique gives the local sources of a definition another id.
func TestLocalUnique(t *testing.T) {
	opts := buildOptions{}.options(t)
	opts.Ignore, opts.LocalUnique = noIgnore, "first"
	target := compileOne(t, services(1).Images[0], opts)
	def, err := WithLocalUnique(target.Definition, "second")
	if err != nil {
		t.Fatal(err)
	}
	changed := target
	changed.Definition = def
	if diff, ok := Equal(target, changed); !ok {
		t.Errorf("the id counts: %s", diff)
	}
	opts.LocalUnique = "second"
	fresh := compileOne(t, services(1).Images[0], opts)
	a, err := marshalDefinition(def)
	if err != nil {
		t.Fatal(err)
	}
	b, err := marshalDefinition(fresh.Definition)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Error("a definition with a new id is not the one that Compile makes with it")
	}
	if slices.Equal(digests(t, target), digests(t, changed)) {
		t.Error("the id changes nothing")
	}
	if def, err := WithLocalUnique(&pb.Definition{}, "x"); err != nil || len(def.Def) != 0 {
		t.Errorf("empty definition: %v %v", def, err)
	}
}

// TestPositions finds the source of each vertex that a user wrote.
func TestPositions(t *testing.T) {
	const text = `package app

images: app: {
	from: "alpine"
	steps: [
		"one",
		{copy: "a", to: "/"},
	]
}
`
	dir := t.TempDir()
	spec := loadCUE(t, dir, text)
	opts := buildOptions{}.options(t)
	opts.Source = func(string) []byte { return []byte(text) }
	target := compileOne(t, spec.Images[0], opts)
	want := map[string]string{"docker-image": "app.cue:4:8", "exec": "app.cue:6:3", "file": "app.cue:7:3"}
	g, err := decode(target.Definition)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range g.vertices {
		pos, ok := target.Position(v.dgst)
		if at := want[kind(v.op)]; pos.String() != at || ok != (at != "") {
			t.Errorf("%s is at %q, want %q", summary(v.op), pos, at)
		}
	}
	info := target.Definition.Source.Infos
	if len(info) != 1 || info[0].Language != Language || string(info[0].Data) != text {
		t.Errorf("source infos: %v", info)
	}
	if _, ok := (&Target{}).Position("sha256:x"); ok {
		t.Error("an empty target has a position")
	}
}

// TestNamedContexts replaces references and stages.
func TestNamedContexts(t *testing.T) {
	body := `
		from: "alpine:latest"
		stages: build: {from: "nosuch", steps: ["make"]}
		steps: [
			{copy: "/out", from: stages.build, to: "/"},
			{copy: "/x", from: "busybox:1", to: "/"},
			{run: "y", mounts: "/g": from: "golang"},
		]`
	spec := loadCUE(t, t.TempDir(), "images: app: {"+body+"}")
	same := loadCUE(t, t.TempDir(), `images: app: {
		from: "nginx"
		steps: [
			{copy: "/out", from: git: "https://example.com/b.git", to: "/"},
			{copy: "/x", from: "golang:2", to: "/"},
			{run: "y", mounts: "/g": from: "golang"},
		]}`)
	opts := buildOptions{}.options(t)
	plain := compileOne(t, same.Images[0], opts)
	opts.NamedContexts = map[string]*schema.From{
		"alpine":                      {Ref: "nginx"},
		"build":                       {Source: &schema.Source{Git: "https://example.com/b.git"}},
		"docker.io/library/busybox:1": {Ref: "golang:2"},
		"nginx":                       {Ref: "nosuch"}, // a replacement is not replaced
		"golang":                      {Ref: "golang"},
	}
	if diff, ok := Equal(compileOne(t, spec.Images[0], opts), plain); !ok {
		t.Error(diff)
	}
}

// TestNoCache marks the steps of the stages that are run again.
func TestNoCache(t *testing.T) {
	const cue = `images: app: {from: "alpine", stages: s: {from: "alpine", steps: ["one"]}, steps: ["two", {copy: "/x", from: stages.s, to: "/"}, {mkdir: "/y"}]}`
	spec := loadCUE(t, t.TempDir(), cue)
	for name, c := range map[string]struct {
		all    bool
		filter []string
		want   string
	}{
		"none":  {false, nil, ""},
		"all":   {true, nil, "exec one, exec two, file copy, file mkdir"},
		"stage": {false, []string{"s"}, "exec one"},
		"image": {false, []string{"app"}, "exec two, file copy, file mkdir"},
	} {
		t.Run(name, func(t *testing.T) {
			opts := buildOptions{}.options(t)
			opts.NoCache, opts.NoCacheFilter = c.all, c.filter
			target := compileOne(t, spec.Images[0], opts)
			g, err := decode(target.Definition)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, v := range g.vertices {
				if target.Definition.Metadata[v.dgst.String()].IgnoreCache {
					words := strings.Fields(summary(v.op))
					last := words[1]
					if words[0] == "exec" {
						last = words[len(words)-1]
					}
					got = append(got, words[0]+" "+last)
				}
			}
			slices.Sort(got)
			if s := strings.Join(got, ", "); s != c.want {
				t.Errorf("got %q, want %q", s, c.want)
			}
		})
	}
}

// TestEpoch gives the time by the option.
func TestEpoch(t *testing.T) {
	spec := loadCUE(t, t.TempDir(), `images: app: {from: "alpine", workdir: "/w", args: SOURCE_DATE_EPOCH: null, steps: [{mkdir: "/x"}, {symlink: "a", to: "/b"}]}`)
	opts := buildOptions{}.options(t)
	opts.Epoch = seconds(7)
	byOption := compileOne(t, spec.Images[0], opts)
	g, err := decode(byOption.Definition)
	if err != nil {
		t.Fatal(err)
	}
	times := 0
	for _, v := range g.vertices {
		for _, a := range v.op.GetFile().GetActions() {
			for _, at := range []int64{a.GetMkdir().GetTimestamp(), a.GetSymlink().GetTimestamp()} {
				if at == 7e9 {
					times++
				}
			}
		}
	}
	if times != 3 {
		t.Errorf("%d actions have the time, want 3", times)
	}
	if !bytes.Contains(byOption.Config, []byte(`"created":"1970-01-01T00:00:07Z"`)) {
		t.Errorf("the history has no time: %s", byOption.Config)
	}
	opts.Args = map[string]string{epochArg: "9"}
	if got := compileOne(t, spec.Images[0], opts); !bytes.Contains(got.Config, []byte("ARG SOURCE_DATE_EPOCH=7")) {
		t.Errorf("option and argument differ: %s", got.Config)
	}
}

// dockerfiles compiles Dockerfiles by the front end.
type dockerfiles struct{ seen []DockerfileRequest }

func (d *dockerfiles) Dockerfile(ctx context.Context, req DockerfileRequest) (*DockerfileResult, error) {
	d.seen = append(d.seen, req)
	caps := pb.Caps.CapSet(pb.Caps.All())
	res, err := dockerfile2llb.Dockerfile2LLB(ctx, []byte(req.Dockerfile.Text), dockerfile2llb.ConvertOpt{
		Config: dockerui.Config{BuildArgs: req.Options.Args, Target: req.Dockerfile.Target,
			BuildPlatforms: []ocispecs.Platform{req.Options.BuildPlatform}},
		TargetPlatform: &req.Platform, MetaResolver: registry{}, LLBCaps: &caps,
	})
	if err != nil {
		return nil, err
	}
	def, err := res.State.Marshal(ctx)
	if err != nil {
		return nil, err
	}
	config, err := json.Marshal(res.Image)
	if err != nil {
		return nil, err
	}
	return &DockerfileResult{Definition: def.ToPB(), Config: config, Locals: map[string]Local{"context": {Dir: req.Context}}}, nil
}

// TestDockerfile builds an image from a Dockerfile, alone, with steps on top,
// and as a stage.
func TestDockerfile(t *testing.T) {
	const text = "FROM golang AS b\nRUN x\nFROM alpine\nARG V=1\nCOPY --from=b /x /\nCOPY src /src\nONBUILD RUN later\nENTRYPOINT [\"/x\"]\n"
	o := buildOptions{platform: "linux/arm64"}
	alone := loadCUE(t, t.TempDir(), fmt.Sprintf("images: app: {dockerfile: text: %q, args: V: \"2\"}", text))
	df := &dockerfiles{}
	opts := o.options(t)
	opts.Dockerfiles, opts.Ignore = df, noIgnore
	got := compileOne(t, alone.Images[0], opts)
	o.args = map[string]string{"V": "2"}
	if diff, ok := Equal(got, o.dockerfile(t, text)); !ok {
		t.Errorf("a Dockerfile in a Spec is another image: %s", diff)
	}
	if df.seen[0].Context != alone.Images[0].Context || got.Locals["context"].Dir != alone.Images[0].Context {
		t.Errorf("the context is %s", df.seen[0].Context)
	}

	more := loadCUE(t, t.TempDir(), fmt.Sprintf("images: app: {from: stages.d, stages: d: dockerfile: text: %q, env: E: \"1\", steps: [\"more\", {copy: \"z\", to: \"/\"}]}", text))
	o.args = nil
	top := strings.Replace(text, "ENTRYPOINT [\"/x\"]\n", "ENTRYPOINT [\"/x\"]\nENV E=1\nRUN later\nRUN more\nCOPY z /\n", 1)
	want := o.dockerfile(t, strings.ReplaceAll(top, "ARG V=1\n", ""))
	got = compileOne(t, more.Images[0], opts)
	if summaries(t, got) != summaries(t, want) {
		t.Errorf("steps on a Dockerfile:\n%s\nwant\n%s", summaries(t, got), summaries(t, want))
	}

	// As a stage of an image with another main context, its local source
	// has another name.
	stage := alone.Images[0]
	stage.Context = "/elsewhere"
	app := &schema.Image{Name: "main", Path: "images.main", Context: "/main", From: &schema.From{Ref: "alpine"},
		Steps: []*schema.Step{
			{Verb: schema.VerbCopy, Paths: []string{"/x"}, To: "/", From: &schema.From{Image: stage}},
			{Verb: schema.VerbCopy, Paths: []string{"y"}, To: "/"},
		}}
	got = compileOne(t, app, opts)
	if got.Locals["context"].Dir != "/main" || got.Locals["elsewhere"].Dir != "/elsewhere" {
		t.Errorf("locals are %v", got.Locals)
	}
}

// summaries are the ops of a target in lines, sorted, without local sources.
func summaries(t *testing.T, target Target) string {
	t.Helper()
	g, err := decode(target.Definition)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, v := range g.vertices {
		if kind(v.op) != "local" {
			lines = append(lines, summary(v.op))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// TestPrint reads back what JSON and LLB write.
func TestPrint(t *testing.T) {
	opts := buildOptions{}.options(t)
	opts.Ignore = noIgnore
	plan, err := Compile(context.Background(), services(2), opts)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := plan.LLB(&b); !errors.Is(err, ErrSeveralTargets) {
		t.Errorf("LLB of two targets: %v", err)
	}
	one := &Plan{Targets: plan.Targets[:1]}
	if err := one.LLB(&b); err != nil {
		t.Fatal(err)
	}
	def, err := llb.ReadFrom(&b)
	if err != nil {
		t.Fatal(err)
	}
	back := plan.Targets[0]
	back.Definition = def.ToPB()
	if diff, ok := Equal(plan.Targets[0], back); !ok {
		t.Errorf("LLB: %s", diff)
	}

	b.Reset()
	if err := plan.JSON(&b); err != nil {
		t.Fatal(err)
	}
	var out struct {
		Targets []struct {
			Name, Platform string
			Definition     []byte
			Config         json.RawMessage
		}
	}
	if err := json.Unmarshal(b.Bytes(), &out); err != nil {
		t.Fatal(err)
	}
	for i, target := range out.Targets {
		var def pb.Definition
		if err := def.UnmarshalVT(target.Definition); err != nil {
			t.Fatal(err)
		}
		if diff, ok := Equal(plan.Targets[i], Target{Definition: &def, Config: target.Config}); !ok {
			t.Errorf("JSON of %s: %s", target.Name, diff)
		}
	}

	b.Reset()
	if err := plan.Dot(&b); err != nil {
		t.Fatal(err)
	}
	dot := b.String()
	if strings.Count(dot, "adduser app") != 1 {
		t.Error("the base is not drawn once")
	}
	for _, want := range []string{"digraph plan {", `"svc0 linux/amd64" [shape=ellipse]`, `-> "svc1 linux/amd64"`} {
		if !strings.Contains(dot, want) {
			t.Errorf("dot lacks %s", want)
		}
	}
	for _, print := range []func(*Plan) error{
		func(p *Plan) error { return p.Text(brokenWriter{}) },
		func(p *Plan) error { return p.Dot(brokenWriter{}) },
		func(p *Plan) error { return p.JSON(brokenWriter{}) },
	} {
		if err := print(plan); !errors.Is(err, errBroken) {
			t.Errorf("an error of the writer is lost: %v", err)
		}
	}
}

var errBroken = errors.New("broken pipe")

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }
