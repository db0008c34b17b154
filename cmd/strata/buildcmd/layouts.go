package buildcmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/runtime/engine"
	"github.com/strata-build/strata/runtime/image"
)

// layouts resolves images in OCI layouts on disk: it implements
// compiler.Layouts. An archive is read into the store first.
type layouts struct {
	e   *engine.Engine
	rec *recorder
}

// Image implements compiler.Layouts.
func (l layouts) Image(ctx context.Context, path, ref string, platform ocispec.Platform) (digest.Digest, []byte, error) {
	l.rec.mu.Lock()
	l.rec.volatile = true // what a layout holds is not noted
	l.rec.mu.Unlock()
	if l.e == nil {
		return "", nil, errors.New("an OCI layout needs the store: leave --image-metadata out")
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", nil, err
	}
	var desc ocispec.Descriptor
	var src image.Source
	if info.IsDir() {
		src = image.LayoutSource(path)
		desc, err = layoutDescriptor(path, ref)
	} else {
		desc, err = l.archive(ctx, path, ref)
	}
	if err != nil {
		return "", nil, err
	}
	m, err := l.e.Images.Load(ctx, desc, &platform, src)
	return desc.Digest, m.RawConfig, err
}

func layoutDescriptor(dir, ref string) (ocispec.Descriptor, error) {
	if d, err := digest.Parse(ref); err == nil {
		return ocispec.Descriptor{Digest: d}, nil
	}
	return image.LayoutDigest(dir, ref)
}

// archive imports a docker or OCI archive and picks an image.
func (l layouts) archive(ctx context.Context, path, ref string) (ocispec.Descriptor, error) {
	f, err := os.Open(path)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer f.Close()
	images, err := l.e.Images.Import(ctx, f)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("read %s: %w", path, err)
	}
	var names []string
	for _, img := range images {
		if ref == "" && len(images) == 1 || img.Desc.Digest.String() == ref {
			return img.Desc, nil
		}
		for _, name := range img.Names {
			if ref != "" && (name == ref || strings.HasSuffix(name, ":"+ref)) {
				return img.Desc, nil
			}
			names = append(names, name)
		}
	}
	return ocispec.Descriptor{}, fmt.Errorf("%s holds no image %q: it has %s", path, ref, strings.Join(names, ", "))
}
