package compiler

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/moby/buildkit/client/llb/sourceresolver"
	digest "github.com/opencontainers/go-digest"

	"github.com/strata-build/strata/schema"
)

// TestMistakes compiles Specs that are wrong in ways which the loader cannot
// see, and checks place, text and hint of the message.
func TestMistakes(t *testing.T) {
	for _, c := range []struct {
		name, cue string
		want      []string
	}{
		{"unknown image", "from: \"nosuch:1\"",
			[]string{"app.cue:2:7: images.app: base image \"nosuch:1\": docker.io/library/nosuch:1: not found"}},
		{"unknown image in a stage", "stages: s: from: \"nosuch\"\nfrom: stages.s",
			[]string{"app.cue:2:18: images.app.stages.s: base image \"nosuch\""}},
		{"copy from an unknown image", "from: \"alpine\"\nsteps: [\n\t\"true\",\n\t{copy: \"a\", from: \"nosuch\", to: \"/\"},\n]",
			[]string{"app.cue:5:20: images.app.steps[1]: base image \"nosuch\""}},
		{"copy of a URL", "from: \"alpine\"\nsteps: [{copy: \"https://example.com/x\", to: \"/\"}]",
			[]string{"app.cue:3:9: images.app.steps[0]: \"https://example.com/x\" is a URL, which only add can fetch", "use add"}},
		{"copy of a repository", "from: \"alpine\"\nsteps: [{copy: \"https://example.com/x.git\", to: \"/\"}]", []string{"only add can fetch"}},
		{"add of a URL from a stage", "from: \"alpine\"\nstages: s: from: \"alpine\"\nsteps: [{add: \"https://example.com/x\", from: stages.s, to: \"/\"}]", []string{"without from"}},
		{"bad query of a repository", "from: \"alpine\"\nsteps: [{add: \"https://example.com/x.git?nope=1\", to: \"/\"}]", []string{"app.cue:3:9", "unexpected query \"nope\""}},
		{"checksum of a file", "from: \"alpine\"\nsteps: [{add: \"a\", checksum: \"sha256:" + strings.Repeat("0", 64) + "\", to: \"/\"}]", []string{"checksum needs exactly one source"}},
		{"checksums contradict", "from: \"alpine\"\nsteps: [{add: \"https://example.com/x.git?checksum=" + strings.Repeat("1", 40) + "\", checksum: \"" + strings.Repeat("2", 40) + "\", to: \"/\"}]", []string{"contradicts"}},
		{"parents and include", "from: \"alpine\"\nsteps: [{copy: \"a\", to: \"/\", parents: true, include: [\"x\"]}]", []string{"include cannot be combined with parents"}},
		{"bad chmod", "from: \"alpine\"\nargs: M: \"99\"\nsteps: [{copy: \"a\", to: \"/\", chmod: \"$M\", expand: true}]", []string{"app.cue:4:9", "chmod \"99\" is not valid", "octal digits up to"}},
		{"chmod of mkdir", "from: \"alpine\"\nsteps: [{mkdir: \"/a\", chmod: \"1777\"}]", []string{"app.cue:3:9", "chmod \"1777\" is not valid for mkdir"}},
		{"rm of the root", "from: \"alpine\"\nsteps: [{rm: \"/\"}]", []string{"rm cannot remove the root directory"}},
		{"stdin without a shell", "from: \"alpine\"\nsteps: [{run: [\"cat\"], stdin: \"x\"}]", []string{"app.cue:3:31: images.app.steps[0]: stdin is given to a command by the shell", "write the command as a string"}},
		{"mount on the root", "from: \"alpine\"\nsteps: [{run: \"x\", mounts: \"/\": {}}]", []string{"app.cue:3:28: images.app.steps[0]: a mount cannot take the place of the root"}},
		{"mount of an unknown image", "from: \"alpine\"\nsteps: [{run: \"x\", mounts: \"/x\": from: \"nosuch\"}]", []string{"app.cue:3:40: images.app.steps[0]: base image \"nosuch\""}},
		{"bad expansion", "from: \"alpine\"\nsteps: [{set: env: A: \"${\", expand: true}]", []string{"app.cue:3:15: images.app.steps[0]: env: "}},
		{"required variable", "from: \"alpine\"\nsteps: [{copy: \"${X:?is needed}\", to: \"/\", expand: true}]", []string{"app.cue:3:9", "is needed"}},
		{"bad trigger", "from: \"alpine\"\nonbuild: [\"FROM x\"]", []string{"app.cue:3:10: images.app: onbuild: trigger \"FROM x\""}},
		{"trigger of a trigger", "from: \"alpine\"\nonbuild: [\"ONBUILD RUN x\"]", []string{"ONBUILD"}},
		{"bad platform", "from: \"alpine\"\nplatform: \"${NOPE}\"", []string{"images.app: platform \"${NOPE}\"", "os/arch"}},
		{"platforms contradict", "stages: s: {from: \"alpine\", platform: \"linux/s390x\"}\nfrom: stages.s\nplatform: \"linux/riscv64\"",
			[]string{"platform \"linux/riscv64\" contradicts that of the image below, which is for linux/s390x"}},
		{"git and ref contradict", "from: {git: \"https://example.com/x.git#v1\", ref: \"v2\"}", []string{"ref \"v2\" contradicts \"v1\" in the URL"}},
		{"no case", "stages: a: from: \"alpine\"\nfrom: {switch: \"$TARGETOS\", cases: {darwin: stages.a, windows: stages.a}}",
			[]string{"app.cue:3:1: images.app: switch \"$TARGETOS\" is \"linux\", and the cases are darwin, windows", "add the case, or a default"}},
		{"bad switch", "from: {switch: \"${\", cases: a: \"alpine\"}", []string{"app.cue:2:1: images.app: expand switch"}},
		{"no repository", "from: git: \"https://example.com/x\"", []string{"git \"https://example.com/x\"", "write the URL of a repository"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			spec := loadCUE(t, t.TempDir(), "images: app: {\n"+c.cue+"\n}")
			_, err := Compile(context.Background(), spec, buildOptions{}.options(t))
			var mistake *schema.Error
			if !errors.As(err, &mistake) {
				t.Fatalf("got %T %v", err, err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got  %s\nwant %s", err, want)
				}
			}
		})
	}
}

// TestHandmadeMistakes are mistakes that the loader refuses, so that they can
// come from Go only.
func TestHandmadeMistakes(t *testing.T) {
	pos := schema.Position{File: "x.cue", Line: 3, Column: 4}
	step := func(s schema.Step) *schema.Image {
		s.Pos = pos
		return &schema.Image{Name: "app", Path: "images.app", Context: "/ctx", Pos: pos, From: &schema.From{Ref: "alpine"}, Steps: []*schema.Step{&s}}
	}
	loop := &schema.Image{Name: "loop", Path: "images.loop", Pos: pos}
	loop.From = &schema.From{Image: loop}
	private := step(schema.Step{Verb: schema.VerbArg})
	private.Stages = []*schema.Image{{Name: "s", Path: "images.app.stages.s", Pos: pos, Tags: []string{"x"}}}
	both := step(schema.Step{Verb: schema.VerbArg})
	both.Dockerfile = &schema.Dockerfile{Text: "FROM x", Pos: pos}
	dockerfile := &schema.Image{Name: "df", Path: "images.df", Dockerfile: &schema.Dockerfile{Text: "FROM x", Pos: pos}}
	byName := &schema.Image{Name: "app", From: &schema.From{Ref: "nosuch", Pos: pos}, Stages: []*schema.Image{{Name: "nosuch"}}}
	noContext := step(schema.Step{Verb: schema.VerbCopy, Paths: []string{"a"}, To: "/"})
	noContext.Context = ""
	from := func(src schema.Source) *schema.Image {
		src.Pos = pos
		return &schema.Image{Name: "app", Path: "images.app", From: &schema.From{Source: &src}}
	}
	for name, c := range map[string]struct {
		img  *schema.Image
		want string
	}{
		"a verb's field":        {step(schema.Step{Verb: schema.VerbRm, Paths: []string{"/a"}, Chown: "1"}), "chown does not apply to rm"},
		"unknown verb":          {step(schema.Step{Verb: "fly"}), "unknown step \"fly\""},
		"itself":                {loop, "the image is built from itself"},
		"tags on a stage":       {private, "a stage is private"},
		"dockerfile and from":   {both, "both dockerfile and from"},
		"dockerfile":            {dockerfile, "Dockerfiles cannot be built here"},
		"stage by a string":     {byName, "the stage is `from: stages.nosuch`"},
		"no context":            {noContext, "no context directory"},
		"no destination":        {step(schema.Step{Verb: schema.VerbCopy, Paths: []string{"a"}}), "copy has no destination"},
		"two destinations":      {step(schema.Step{Verb: schema.VerbCopy, Pairs: []schema.Pair{{Key: "a", Value: "b"}}, To: "c"}), "the destination is given twice"},
		"nothing to copy":       {step(schema.Step{Verb: schema.VerbCopy, To: "/"}), "nothing to copy"},
		"no file":               {step(schema.Step{Verb: schema.VerbFile}), "file needs a path"},
		"content twice":         {step(schema.Step{Verb: schema.VerbFile, Pairs: []schema.Pair{{Key: "a"}}, Content: "x"}), "the content is given twice"},
		"file to with a path":   {step(schema.Step{Verb: schema.VerbFile, Pairs: []schema.Pair{{Key: "a/b"}}, To: "/"}), "plain file name"},
		"mkdir nothing":         {step(schema.Step{Verb: schema.VerbMkdir}), "mkdir needs a path"},
		"empty path":            {step(schema.Step{Verb: schema.VerbRm, Paths: []string{""}}), "the path is empty"},
		"symlink to nothing":    {step(schema.Step{Verb: schema.VerbSymlink, Paths: []string{"a"}}), "symlink needs a target"},
		"no command":            {step(schema.Step{Verb: schema.VerbRun}), "the command is empty"},
		"unknown network":       {step(schema.Step{Verb: schema.VerbRun, Run: schema.Command{Args: []string{"x"}}, Network: "moon"}), "unknown network"},
		"mount type":            {step(schema.Step{Verb: schema.VerbRun, Run: schema.Command{Args: []string{"x"}}, Mounts: []*schema.Mount{{Target: "/x", Type: "nfs"}}}), "unknown type \"nfs\""},
		"mount field":           {step(schema.Step{Verb: schema.VerbRun, Run: schema.Command{Args: []string{"x"}}, Mounts: []*schema.Mount{{Target: "/x", Size: 4}}}), "size does not apply to a mount of type bind"},
		"mount sharing":         {step(schema.Step{Verb: schema.VerbRun, Run: schema.Command{Args: []string{"x"}}, Mounts: []*schema.Mount{{Target: "/x", Type: "cache", Sharing: "x"}}}), "unknown sharing"},
		"mount mode":            {step(schema.Step{Verb: schema.VerbRun, Run: schema.Command{Args: []string{"x"}}, Mounts: []*schema.Mount{{Target: "/x", Type: "cache", Mode: "rwx"}}}), "mode \"rwx\" of a mount"},
		"port":                  {step(schema.Step{Verb: schema.VerbSet, Set: &schema.Config{Expose: []string{"80:80"}}}), "port \"80:80\" is not valid"},
		"port protocol":         {step(schema.Step{Verb: schema.VerbSet, Set: &schema.Config{Expose: []string{"80/ipx"}}}), "unknown protocol"},
		"port range":            {step(schema.Step{Verb: schema.VerbSet, Set: &schema.Config{Expose: []string{"9-1"}}}), "is not valid"},
		"stop signal":           {step(schema.Step{Verb: schema.VerbSet, Set: &schema.Config{StopSignal: str("SIGNOPE")}}), "stopSignal: "},
		"empty shell":           {step(schema.Step{Verb: schema.VerbSet, Set: &schema.Config{Shell: []string{}}}), "shell is empty"},
		"empty volume":          {step(schema.Step{Verb: schema.VerbSet, Set: &schema.Config{Volumes: []string{" "}}}), "a volume is the empty string"},
		"empty name":            {step(schema.Step{Verb: schema.VerbSet, Set: &schema.Config{Env: []schema.Var{{Value: "x"}}}}), "the name of a variable is empty"},
		"health duration":       {step(schema.Step{Verb: schema.VerbSet, Set: &schema.Config{Healthcheck: &schema.Healthcheck{Test: schema.Command{Args: []string{"x"}}, Interval: "1us"}}}), "cannot be shorter than 1ms"},
		"health off with more":  {step(schema.Step{Verb: schema.VerbSet, Set: &schema.Config{Healthcheck: &schema.Healthcheck{Interval: "1s"}}}), "switched off has no other fields"},
		"empty source":          {from(schema.Source{}), "a source needs one of"},
		"local with ref":        {from(schema.Source{Local: "/x", Ref: "y"}), "do not apply to a local directory"},
		"http with ref":         {from(schema.Source{HTTP: "https://example.com/x", Ref: "y"}), "ref does not apply to http"},
		"http with subdir":      {from(schema.Source{HTTP: "https://example.com/x", Subdir: "y"}), "a single file"},
		"http with bad digest":  {from(schema.Source{HTTP: "https://example.com/x", Checksum: "y"}), "checksum \"y\""},
		"layout":                {from(schema.Source{OCI: "/x"}), "OCI layouts cannot be read here"},
		"subdir stays in local": {from(schema.Source{Local: "/x", Subdir: "../../etc"}), ""},
	} {
		t.Run(name, func(t *testing.T) {
			opts := buildOptions{}.options(t)
			opts.Ignore = func(string) ([]string, error) { return nil, nil }
			plan, err := Compile(context.Background(), &schema.Spec{Images: []*schema.Image{c.img}}, opts)
			if c.want == "" {
				if err != nil || plan.Targets[0].Locals["context"].Dir == "/etc" {
					t.Fatalf("got %v", err)
				}
				for _, l := range plan.Targets[0].Locals {
					if l.Dir != "/x/etc" {
						t.Errorf("the directory is %s", l.Dir)
					}
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

// failing is a meta resolver that fails with a cause.
type failing struct{ err error }

func (f failing) ResolveImageConfig(context.Context, string, sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	return "", "", nil, f.err
}

// TestCauses makes sure that errors.Is sees through a mistake.
func TestCauses(t *testing.T) {
	cause := errors.New("registry is down")
	spec := &schema.Spec{Images: []*schema.Image{{Name: "app", From: &schema.From{Ref: "alpine"}}}}
	_, err := Compile(context.Background(), spec, Options{Meta: failing{cause}})
	if !errors.Is(err, cause) {
		t.Errorf("%v does not have the cause", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err = Compile(ctx, spec, Options{Meta: registry{}}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err = Compile(context.Background(), spec, Options{}); err == nil || !strings.Contains(err.Error(), "no registry") {
		t.Errorf("without a resolver: %v", err)
	}
	if _, err = Compile(context.Background(), spec, Options{Meta: registry{}, Args: map[string]string{epochArg: "context"}}); err == nil {
		t.Error("an epoch that is no number is accepted")
	}
	if _, err = Compile(context.Background(), spec, Options{Meta: registry{}, NamedContexts: map[string]*schema.From{"A B": nil}}); err == nil {
		t.Error("a named context with an invalid name is accepted")
	}
}
