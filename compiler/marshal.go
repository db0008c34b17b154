package compiler

import (
	"context"
	"maps"
	"slices"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/apicaps"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// marshaller turns finished stages into definitions. A context directory
// follows other paths in each target, so its state stands for a source that
// is made when a target is marshalled: constraints are the key under which
// llb remembers what a vertex looks like, and every target has its own.
type marshaller struct {
	unique string
	caps   apicaps.CapSet
	locals map[*llb.Constraints]map[*directory]llb.Output
	// adopted is true where a Dockerfile is part of the plan, which brings
	// sources of its own.
	adopted bool
}

func newMarshaller(unique string) *marshaller {
	return &marshaller{
		unique: unique,
		caps:   pb.Caps.CapSet(pb.Caps.All()),
		locals: map[*llb.Constraints]map[*directory]llb.Output{},
	}
}

// local is the source of a directory in the target of c.
func (m *marshaller) local(c *llb.Constraints, d *directory) llb.Output {
	if out, ok := m.locals[c][d]; ok {
		return out
	}
	return d.source(nil)
}

// definition marshals a stage as a target. A stage without ops gives a
// definition without ops.
func (m *marshaller) definition(ctx context.Context, s *stage, p ocispecs.Platform) (*pb.Definition, *sourceNames, error) {
	c := &llb.Constraints{Platform: &p, Caps: &m.caps, LocalUniqueID: m.unique}
	m.bind(c, s)
	g := &graphWriter{
		c: c, def: &pb.Definition{Metadata: map[string]*pb.OpMetadata{}}, names: newSourceNames(),
		seen: map[llb.Vertex]bool{}, files: map[*llb.SourceMap]int{},
	}
	out := s.state.Output()
	if out == nil || out.Vertex(ctx, c) == nil {
		return g.def, g.names, nil
	}
	if err := g.vertex(ctx, out.Vertex(ctx, c)); err != nil {
		return nil, nil, err
	}
	if err := g.root(ctx, out); err != nil || !m.adopted {
		return g.def, g.names, err
	}
	def, err := unifyLocals(g.def)
	return def, g.names, err
}

// bind makes the sources of the directories that a target reads.
func (m *marshaller) bind(c *llb.Constraints, s *stage) {
	paths := map[*directory]map[string]struct{}{}
	s.collect(paths, map[*stage]bool{})
	m.locals[c] = make(map[*directory]llb.Output, len(paths))
	for d, set := range paths {
		m.locals[c][d] = d.source(followPaths(set))
	}
}

// collect gathers the paths that a stage and those it needs read.
func (s *stage) collect(paths map[*directory]map[string]struct{}, seen map[*stage]bool) {
	if seen[s] {
		return
	}
	seen[s] = true
	for d, set := range s.uses {
		if paths[d] == nil {
			paths[d] = map[string]struct{}{}
		}
		maps.Copy(paths[d], set)
	}
	for _, other := range s.needs {
		other.collect(paths, seen)
	}
}

// graphWriter writes vertices to a definition, inputs first, as
// llb.State.Marshal does.
type graphWriter struct {
	c     *llb.Constraints
	def   *pb.Definition
	names *sourceNames
	seen  map[llb.Vertex]bool
	files map[*llb.SourceMap]int
}

func (g *graphWriter) vertex(ctx context.Context, v llb.Vertex) error {
	if g.seen[v] {
		return nil
	}
	g.seen[v] = true
	for _, in := range v.Inputs() {
		if err := g.vertex(ctx, in.Vertex(ctx, g.c)); err != nil {
			return err
		}
	}
	dgst, dt, meta, locs, err := v.Marshal(ctx, g.c)
	if err != nil {
		return err
	}
	g.locate(dgst, locs)
	if have, ok := g.def.Metadata[dgst.String()]; ok {
		if meta.GetIgnoreCache() && !have.IgnoreCache {
			have = have.CloneVT() // another target may have it too
			have.IgnoreCache = true
			g.def.Metadata[dgst.String()] = have
		}
		return nil
	}
	if meta == nil {
		meta = &pb.OpMetadata{}
	}
	g.def.Metadata[dgst.String()] = meta
	g.def.Def = append(g.def.Def, dt)
	return g.names.note(dt)
}

// root ends a definition with the pointer to its result.
func (g *graphWriter) root(ctx context.Context, out llb.Output) error {
	in, err := out.ToInput(ctx, g.c)
	if err != nil {
		return err
	}
	dt, err := (&pb.Op{Inputs: []*pb.Input{in}}).MarshalVT()
	if err != nil {
		return err
	}
	caps := map[string]bool{string(pb.CapConstraints): true, string(pb.CapPlatform): true}
	for _, meta := range g.def.Metadata {
		if meta.IgnoreCache {
			caps[string(pb.CapMetaIgnoreCache)] = true
		}
		if meta.Description != nil {
			caps[string(pb.CapMetaDescription)] = true
		}
	}
	g.def.Def = append(g.def.Def, dt)
	g.def.Metadata[digest.FromBytes(dt).String()] = &pb.OpMetadata{Caps: caps}
	return nil
}

// locate notes where a vertex is in the source.
func (g *graphWriter) locate(dgst digest.Digest, locs []*llb.SourceLocation) {
	for _, l := range locs {
		if g.def.Source == nil {
			g.def.Source = &pb.Source{Locations: map[string]*pb.Locations{}}
		}
		src := g.def.Source
		i, ok := g.files[l.SourceMap]
		if !ok {
			i = len(src.Infos)
			g.files[l.SourceMap] = i
			src.Infos = append(src.Infos, &pb.SourceInfo{
				Filename: l.SourceMap.Filename, Language: l.SourceMap.Language, Data: l.SourceMap.Data,
			})
		}
		here := src.Locations[dgst.String()]
		if here == nil {
			here = &pb.Locations{}
			src.Locations[dgst.String()] = here
		}
		loc := &pb.Location{SourceIndex: int32(i), Ranges: l.Ranges}
		if !slices.ContainsFunc(here.Locations, loc.EqualVT) {
			here.Locations = append(here.Locations, loc)
		}
	}
}
