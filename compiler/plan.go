package compiler

import (
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/schema"
)

// Language is the language of the source maps of a compiled Spec.
const Language = "CUE"

// Plan is what a Spec compiles to: one target for each image and platform.
type Plan struct {
	Targets []Target
}

// Target is one image for one platform.
type Target struct {
	// Name is the label of the image and Path its CUE path.
	Name string
	Path string
	Pos  schema.Position

	Platform ocispecs.Platform
	// Definition is the LLB. One without ops is the empty image.
	Definition *pb.Definition
	// Config is the image config in JSON, as the Dockerfile front end
	// writes it: history but no layers.
	Config []byte
	// BaseConfig is the config of the registry image at the bottom, if any.
	BaseConfig []byte

	Tags        []string
	Annotations map[string]string

	// Locals are the directories behind the `local://` sources of the
	// definition, and Stores the layouts behind its `oci-layout://`
	// sources, by name. The names are the same for all targets of a plan.
	Locals map[string]Local
	Stores map[string]Store
}

// Local is the directory of a local source.
type Local struct {
	Dir string
}

// Store is an OCI layout directory, or an archive of one.
type Store struct {
	Path string
}

// Position returns where the source of a vertex is.
func (t *Target) Position(vertex digest.Digest) (schema.Position, bool) {
	return position(t.Definition, vertex)
}

// position returns the first source location of a vertex.
func position(def *pb.Definition, vertex digest.Digest) (schema.Position, bool) {
	if def == nil || def.Source == nil {
		return schema.Position{}, false
	}
	locs := def.Source.Locations[vertex.String()]
	for _, loc := range locs.GetLocations() {
		i := int(loc.GetSourceIndex())
		if i < 0 || i >= len(def.Source.Infos) || len(loc.GetRanges()) == 0 {
			continue
		}
		start := loc.Ranges[0].GetStart()
		return schema.Position{
			File:   def.Source.Infos[i].GetFilename(),
			Line:   int(start.GetLine()),
			Column: int(start.GetCharacter()),
		}, true
	}
	return schema.Position{}, false
}
