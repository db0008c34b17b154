package dockerfilecompat

import (
	"context"
	"encoding/json"

	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/subrequests/lint"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// Outline says what a target of a Dockerfile takes: arguments, secrets, SSH
// agents and caches, as JSON in BuildKit's form (subrequests/outline).
func Outline(ctx context.Context, req Request) ([]byte, error) {
	s, err := open(ctx, req)
	if err != nil {
		return nil, err
	}
	platform := s.firstPlatform()
	if err := s.resolveTargets(ctx, platform); err != nil {
		return nil, err
	}
	o, err := dockerfile2llb.Dockerfile2Outline(ctx, s.src.Data, s.options(req.Target, platform))
	if err != nil {
		return nil, sourceError(s.req.Filename, s.src.Data, err)
	}
	return json.MarshalIndent(o, "", "  ")
}

// Stages lists the stages of a Dockerfile that have a name, and the last one,
// as JSON in BuildKit's form (subrequests/targets).
func Stages(ctx context.Context, req Request) ([]byte, error) {
	s, err := open(ctx, req)
	if err != nil {
		return nil, err
	}
	list, err := dockerfile2llb.ListTargets(ctx, s.src.Data)
	if err != nil {
		return nil, sourceError(s.req.Filename, s.src.Data, err)
	}
	return json.MarshalIndent(list, "", "  ")
}

// LintJSON is what Lint finds, as JSON in BuildKit's form (subrequests/lint),
// with the number of findings.
func LintJSON(ctx context.Context, req Request) ([]byte, int, error) {
	s, res, err := lintResults(ctx, req)
	if err != nil {
		return nil, 0, err
	}
	if res.Warnings == nil {
		res.Warnings = []lint.Warning{} // as BuildKit writes it
	}
	data, err := json.MarshalIndent(res, "", "  ")
	if err != nil {
		return nil, 0, err
	}
	return data, len(res.Warnings), s.buildError(res.Error)
}

// firstPlatform is the platform that a Dockerfile is looked at for.
func (s *session) firstPlatform() *ocispecs.Platform {
	if len(s.bc.TargetPlatforms) == 0 {
		return nil
	}
	return &s.bc.TargetPlatforms[0]
}
