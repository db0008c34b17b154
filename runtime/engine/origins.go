package engine

import (
	"strings"

	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/urlutil"

	"github.com/strata-build/strata/solver"
)

// origin is what made layers of a result, in the words that BuildKit has for
// it. They end up in the history of an image whose base has layers without
// one.
type origin struct {
	text string
	// many tells that it made any number of layers.
	many bool
}

// originsOf are the origins of the layers of an edge, bottom first.
func originsOf(edge solver.Edge) []origin {
	if edge.Scratch() {
		return nil
	}
	v := edge.Vertex
	switch op := v.Op.Op.(type) {
	case *pb.Op_Source:
		return []origin{sourceOrigin(op.Source, v.Name)}
	case *pb.Op_Exec:
		return execOrigins(v, op.Exec, edge.Output)
	case *pb.Op_File:
		return append(originsOf(fileBase(v, op.File, edge.Output)), origin{text: v.Name})
	case *pb.Op_Merge:
		var all []origin
		for _, in := range op.Merge.Inputs {
			all = append(all, originsOf(inputOf(v, in.Input))...)
		}
		return all
	}
	return []origin{{text: v.Name, many: true}}
}

// sourceOrigin says in BuildKit's words what a source is.
func sourceOrigin(op *pb.SourceOp, name string) origin {
	identifier := op.Identifier
	for _, scheme := range []string{"docker-image://", "oci-layout://"} {
		if ref, ok := strings.CutPrefix(identifier, scheme); ok {
			return origin{text: "pulled from " + ref, many: true}
		}
	}
	scheme, rest, _ := strings.Cut(identifier, "://")
	switch scheme {
	case "local":
		return origin{text: "local source for " + strings.TrimPrefix(rest, "context:")}
	case "http", "https":
		return origin{text: "http url " + urlutil.RedactCredentials(identifier)}
	case "git":
		_, ref, _ := strings.Cut(rest, "#")
		ref, _, _ = strings.Cut(ref, ":")
		return origin{text: "git snapshot for " + urlutil.RedactCredentials(op.Attrs[pb.AttrFullRemoteURL]) + "#" + ref}
	}
	return origin{text: name}
}

func execOrigins(v *solver.Vertex, op *pb.ExecOp, output int) []origin {
	for _, m := range op.Mounts {
		if m.Output != int64(output) || m.MountType != pb.MountType_BIND {
			continue
		}
		below := originsOf(inputOf(v, m.Input))
		return append(below, origin{text: "mount " + m.Dest + " from exec " + strings.Join(op.Meta.GetArgs(), " ")})
	}
	return nil
}

// fileBase is what the actions up to an output stand on. They are one layer
// together.
func fileBase(v *solver.Vertex, op *pb.FileOp, output int) solver.Edge {
	for at := len(op.Actions) - 1; at >= 0; at-- {
		if op.Actions[at].Output != int64(output) {
			continue
		}
		in := op.Actions[at].Input
		for in >= int64(len(v.Inputs)) { // another action's result
			in = op.Actions[in-int64(len(v.Inputs))].Input
		}
		return inputOf(v, in)
	}
	return solver.Edge{}
}

func inputOf(v *solver.Vertex, index int64) solver.Edge {
	if index < 0 || index >= int64(len(v.Inputs)) {
		return solver.Edge{}
	}
	return v.Inputs[index]
}

// descriptions says for each of n layers what made it.
func descriptions(edge solver.Edge, n int) []string {
	origins := originsOf(edge)
	rest := n - len(origins) // what those with many layers have beyond one each
	var list []string
	for _, o := range origins {
		list = append(list, o.text)
		for ; o.many && rest > 0; rest-- {
			list = append(list, o.text)
		}
		if o.many && rest < 0 { // it has no layer at all
			list = list[:len(list)-1]
			rest++
		}
	}
	return list
}
