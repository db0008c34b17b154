package buildcmd

import (
	"regexp"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/runtime/exporter"
)

// An annotation as docker writes it: [TYPE[[PLATFORM]][,…]:]NAME=VALUE.
var (
	annotationText = regexp.MustCompile(`^((?:[a-z-]+(?:\[[A-Za-z0-9_/-]+\])?)(?:,[a-z-]+(?:\[[A-Za-z0-9_/-]+\])?)*:)?([^\s=]+)=(.*)$`)
	annotationType = regexp.MustCompile(`^([a-z-]+)(?:\[([A-Za-z0-9_/-]+)\])?$`)
)

// annotate reads --annotation and adds it to all outputs that make an image.
func annotate(specs []string, outputs []exporter.Output) error {
	if len(specs) == 0 {
		return nil
	}
	if !slices.ContainsFunc(outputs, exporter.Output.MakesImage) {
		return cli.Misuse("--annotation: none of the outputs is an image")
	}
	for _, spec := range specs {
		keys, value, err := parseAnnotation(spec)
		if err != nil {
			return err
		}
		for i := range outputs {
			if !outputs[i].MakesImage() {
				continue
			}
			for _, key := range keys {
				if err := outputs[i].Annotate(key, value); err != nil {
					return cli.Misuse("--annotation %s: %v", spec, err)
				}
			}
		}
	}
	return nil
}

// parseAnnotation reads one annotation: the places that it goes to, and its
// value.
func parseAnnotation(spec string) ([]exptypes.AnnotationKey, string, error) {
	parts := annotationText.FindStringSubmatch(spec)
	if parts == nil {
		return nil, "", cli.Misuse("--annotation %s: it is [TYPE:]NAME=VALUE", spec)
	}
	if parts[1] == "" {
		return []exptypes.AnnotationKey{{Type: exptypes.AnnotationManifest, Key: parts[2]}}, parts[3], nil
	}
	var keys []exptypes.AnnotationKey
	for kind := range strings.SplitSeq(strings.TrimSuffix(parts[1], ":"), ",") {
		m := annotationType.FindStringSubmatch(kind)
		key := exptypes.AnnotationKey{Type: m[1], Key: parts[2]}
		switch key.Type {
		case exptypes.AnnotationManifest, exptypes.AnnotationManifestDescriptor, exptypes.AnnotationIndex, exptypes.AnnotationIndexDescriptor:
		default:
			return nil, "", cli.Misuse("--annotation %s: %q is not manifest, manifest-descriptor, index or index-descriptor", spec, key.Type)
		}
		if m[2] != "" {
			p, err := platforms.Parse(m[2])
			if err != nil {
				return nil, "", cli.Misuse("--annotation %s: %v", spec, err)
			}
			p = platforms.Normalize(p)
			key.Platform = &ocispec.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}
		}
		keys = append(keys, key)
	}
	return keys, parts[3], nil
}
