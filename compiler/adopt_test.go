package compiler

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"

	"github.com/strata-build/strata/schema"
)

// given is a Dockerfile front end that returns what it is given.
type given struct {
	res *DockerfileResult
	err error
}

func (g given) Dockerfile(context.Context, DockerfileRequest) (*DockerfileResult, error) {
	return g.res, g.err
}

// dockerfileImage is an image that a Dockerfile builds, after one that takes
// the main context and the store name `img`.
func dockerfileImage() *schema.Spec {
	first := &schema.Image{Name: "first", Path: "images.first", Context: "/main",
		From: &schema.From{Source: &schema.Source{OCI: "/a/img:1"}}}
	return &schema.Spec{Images: []*schema.Image{first, {Name: "app", Path: "images.app", Context: "/ctx",
		Dockerfile: &schema.Dockerfile{Text: "FROM x", Pos: schema.Position{File: "x.cue", Line: 1, Column: 1}}}}}
}

// TestAdoptedNames makes sure that the locals and stores of a Dockerfile get
// names that the plan does not use for others.
func TestAdoptedNames(t *testing.T) {
	st := llb.OCILayout("img@"+digest.FromString("x").String(), llb.OCIStore("", "img")).
		File(llb.Copy(llb.Local("context"), "/a", "/")).
		File(llb.Copy(llb.Local("docs"), "/b", "/"))
	def, err := st.Marshal(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	opts := buildOptions{}.options(t)
	opts.Layouts = layouts{}
	opts.Dockerfiles = given{res: &DockerfileResult{
		Definition: def.ToPB(), Config: []byte(`{"os":"linux","architecture":"amd64"}`), BaseConfig: []byte(`{"author":"base"}`),
		Locals: map[string]Local{"context": {Dir: "/ctx"}, "docs": {Dir: "/docs"}},
		Stores: map[string]Store{"img": {Path: "/b/img"}},
	}}
	plan, err := Compile(context.Background(), dockerfileImage(), opts)
	if err != nil {
		t.Fatal(err)
	}
	got := plan.Targets[1]
	if got.Locals["ctx"].Dir != "/ctx" || got.Locals["docs"].Dir != "/docs" || len(got.Locals) != 2 {
		t.Errorf("locals are %v", got.Locals)
	}
	if got.Stores["img-2"].Path != "/b/img" || plan.Targets[0].Stores["img"].Path != "/a/img" {
		t.Errorf("stores are %v and %v", plan.Targets[0].Stores, got.Stores)
	}
	if string(got.BaseConfig) == "" || !strings.Contains(string(got.BaseConfig), `"author":"base"`) {
		t.Errorf("base config is %s", got.BaseConfig)
	}
}

// TestBadDockerfiles are results that cannot be used.
func TestBadDockerfiles(t *testing.T) {
	cause := errors.New("line 7 is wrong")
	for name, g := range map[string]given{
		"fails":           {err: cause},
		"config":          {res: &DockerfileResult{Definition: &pb.Definition{}, Config: []byte("{")}},
		"base config":     {res: &DockerfileResult{Definition: &pb.Definition{}, Config: []byte("{}"), BaseConfig: []byte("{")}},
		"definition":      {res: &DockerfileResult{Definition: &pb.Definition{Def: [][]byte{[]byte("x")}}, Config: []byte("{}")}},
		"definition ends": {res: &DockerfileResult{Definition: &pb.Definition{Def: [][]byte{{}}}, Config: []byte("{}")}},
	} {
		t.Run(name, func(t *testing.T) {
			opts := buildOptions{}.options(t)
			opts.Layouts, opts.Dockerfiles = layouts{}, g
			_, err := Compile(context.Background(), dockerfileImage(), opts)
			var mistake *schema.Error
			if !errors.As(err, &mistake) || mistake.Pos.File != "x.cue" {
				t.Errorf("got %v", err)
			}
			if g.err != nil && !errors.Is(err, cause) {
				t.Errorf("the cause is lost: %v", err)
			}
		})
	}
	opts := buildOptions{}.options(t)
	opts.Layouts = layouts{}
	opts.Dockerfiles = given{res: &DockerfileResult{Definition: &pb.Definition{}, Config: []byte(`{"config":{"Cmd":["x"]}}`)}}
	plan, err := Compile(context.Background(), dockerfileImage(), opts)
	if err != nil || len(plan.Targets[1].Definition.Def) != 0 {
		t.Errorf("a Dockerfile without ops: %v", err)
	}
}

// TestResources makes sure that limits are metadata only.
func TestResources(t *testing.T) {
	spec := loadCUE(t, t.TempDir(), `images: app: {from: "alpine", steps: ["x"]}`)
	opts := buildOptions{}.options(t)
	plain := compileOne(t, spec.Images[0], opts)
	opts.Resources = &pb.LinuxResources{Memory: 1 << 20}
	limited := compileOne(t, spec.Images[0], opts)
	if diff, ok := Equal(plain, limited); !ok {
		t.Error(diff)
	}
	found := false
	for _, meta := range limited.Definition.Metadata {
		found = found || meta.GetLinuxResources().GetMemory() == 1<<20
	}
	if !found {
		t.Error("the limit is lost")
	}
}
