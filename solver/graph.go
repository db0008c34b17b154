package solver

import (
	"iter"
	"slices"

	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
)

// Graph is the union of one or more LLB definitions. Vertices with equal
// operations are one vertex. A Graph is not changed after Load.
type Graph struct {
	vertices []*Vertex // inputs stand before what uses them
}

// Len returns the number of vertices.
func (g *Graph) Len() int { return len(g.vertices) }

// Vertices goes over all vertices, inputs before what uses them.
func (g *Graph) Vertices() iter.Seq[*Vertex] { return slices.Values(g.vertices) }

// has tells whether a vertex belongs to this graph.
func (g *Graph) has(v *Vertex) bool {
	return v.index < len(g.vertices) && g.vertices[v.index] == v
}

// Vertex is one operation of a Graph.
type Vertex struct {
	// Digest is the digest of the marshalled operation, its identity in LLB.
	// It is no cache key: a local source has a random part in it.
	Digest digest.Digest
	// Op is the operation. All its indexes are in range.
	Op *pb.Op
	// Meta is never nil, and decides nothing but display, capabilities and
	// whether the cache is used. Where several definitions have the vertex,
	// the first one's metadata counts, and IgnoreCache when any of them asks
	// for it.
	Meta *pb.OpMetadata
	// Name is the custom name from the metadata, or says what Op does.
	Name string
	// Inputs are the edges that Op's input indexes point to.
	Inputs []Edge
	// ProgressGroup is what the vertex is displayed under, or nil.
	ProgressGroup *pb.ProgressGroup

	index     int // position in Graph.vertices
	outputs   int // number of outputs; -1 where only the worker knows
	locations []Location
}

// Location returns where the vertex comes from in the user's files, or nil.
func (v *Vertex) Location() *Location {
	if len(v.locations) == 0 {
		return nil
	}
	return &v.locations[0]
}

// Locations returns all places in the user's files that made this vertex.
func (v *Vertex) Locations() []Location { return v.locations }

// Edge is one output of a vertex. The zero Edge is scratch: no files at all.
type Edge struct {
	Vertex *Vertex
	Output int
}

// Scratch tells whether the edge is the empty file system.
func (e Edge) Scratch() bool { return e.Vertex == nil }

// Location is a place in a file that a user wrote.
type Location struct {
	Filename string
	Language string // "Dockerfile", "CUE"
	Data     []byte // the whole file
	Ranges   []Range
}

// Range is a part of a file.
type Range struct {
	Start, End Position
}

// Position is a place in a file. Lines count from one, characters from zero.
type Position struct {
	Line, Character int
}
