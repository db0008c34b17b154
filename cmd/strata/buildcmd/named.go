package buildcmd

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/dfgitutil"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/schema"
)

// namedContexts reads --build-context for CUE: what takes the place of images
// and stages by name.
func namedContexts(specs []string) (map[string]*schema.From, error) {
	contexts, err := pairs("--build-context", specs)
	if err != nil {
		return nil, err
	}
	named := map[string]*schema.From{}
	for name, spec := range contexts {
		if named[name], err = namedContext(spec); err != nil {
			return nil, cli.Misuse("--build-context %s=%s: %v", name, spec, err)
		}
	}
	return named, nil
}

var (
	errTargetContext = errors.New("in CUE, refer to the other image or stage itself: from: stages.NAME")
	errNoContext     = errors.New("it is no directory, docker-image://…, oci-layout://… or URL")
)

func namedContext(spec string) (*schema.From, error) {
	if ref, ok := strings.CutPrefix(spec, "docker-image://"); ok {
		return &schema.From{Ref: ref}, nil
	}
	if layout, ok := strings.CutPrefix(spec, "oci-layout://"); ok {
		path, err := filepath.Abs(layout)
		return &schema.From{Source: &schema.Source{OCI: path}}, err
	}
	if strings.HasPrefix(spec, "target:") {
		return nil, errTargetContext
	}
	if info, err := os.Stat(spec); err == nil && info.IsDir() {
		path, err := filepath.Abs(spec)
		return &schema.From{Source: &schema.Source{Local: path}}, err
	}
	if git, ok, err := dfgitutil.ParseGitRef(spec); ok {
		if err != nil {
			return nil, err
		}
		return &schema.From{Source: &schema.Source{Git: git.Remote, Ref: git.Ref, Checksum: git.Checksum, Subdir: git.SubDir}}, nil
	}
	if isHTTP(spec) {
		return &schema.From{Source: &schema.Source{HTTP: spec}}, nil
	}
	return nil, errNoContext
}
