package dockerfilecompat

import (
	"context"
	"fmt"
	"path/filepath"

	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/compiler"
)

// Frontend compiles the `dockerfile` of images in CUE: it implements
// compiler.Dockerfiles.
type Frontend struct{ Remote Remote }

var _ compiler.Dockerfiles = Frontend{}

// Dockerfile implements compiler.Dockerfiles.
func (f Frontend) Dockerfile(ctx context.Context, req compiler.DockerfileRequest) (*compiler.DockerfileResult, error) {
	d := req.Dockerfile
	r := Request{
		Context: req.Context, Target: d.Target, Options: req.Options, Remote: f.Remote,
		Filename: d.Pos.File,
	}
	if d.Path != "" {
		r.Filename, r.Dir = d.Path, filepath.Dir(d.Path)
	} else {
		r.Text = []byte(d.Text)
	}
	if req.Platform.OS != "" {
		r.Platforms = []ocispecs.Platform{req.Platform}
	}
	res, err := Compile(ctx, r)
	if err != nil {
		return nil, err
	}
	if len(res.Targets) != 1 {
		return nil, fmt.Errorf("the Dockerfile gives %d images for one platform", len(res.Targets))
	}
	t := res.Targets[0]
	return &compiler.DockerfileResult{
		Definition: t.Definition, Config: t.Config, BaseConfig: t.BaseConfig, Locals: t.Locals, Stores: t.Stores,
	}, nil
}
