package solver

import (
	"strings"

	"github.com/moby/buildkit/solver/pb"
)

// customName is the description under which clients give a vertex its name.
const customName = "llb.customname"

// maxName bounds composed names: a merge's name has the names of its inputs
// in it, so that without a bound it would double at each level.
const maxName = 512

// nameOf returns the name of a vertex whose inputs have theirs.
func nameOf(v *Vertex) string {
	if name := v.Meta.Description[customName]; name != "" {
		return name
	}
	name := describe(v)
	if len(name) > maxName {
		name = strings.ToValidUTF8(name[:maxName], "") + "…"
	}
	return name
}

// describe says in words what an operation does, as buildkitd does.
func describe(v *Vertex) string {
	switch op := v.Op.Op.(type) {
	case *pb.Op_Source:
		return op.Source.Identifier
	case *pb.Op_Exec:
		return strings.Join(op.Exec.Meta.Args, " ")
	case *pb.Op_File:
		return describeFile(op.File.Actions)
	case *pb.Op_Merge:
		names := make([]string, len(v.Inputs))
		for i, in := range v.Inputs {
			names[i] = in.Vertex.Name
		}
		return "merge (" + strings.Join(names, ", ") + ")"
	case *pb.Op_Diff:
		return "diff " + side(v, op.Diff.Lower.Input) + " -> " + side(v, op.Diff.Upper.Input)
	case *pb.Op_Passthrough:
		return "passthrough " + op.Passthrough.Id
	}
	return kindOf(v.Op)
}

func side(v *Vertex, input int64) string {
	if input == int64(pb.Empty) {
		return "scratch"
	}
	return "(" + v.Inputs[input].Vertex.Name + ")"
}

func describeFile(actions []*pb.FileAction) string {
	var names []string
	for _, action := range actions {
		switch a := action.Action.(type) {
		case *pb.FileAction_Mkdir:
			names = append(names, "mkdir "+a.Mkdir.Path)
		case *pb.FileAction_Mkfile:
			names = append(names, "mkfile "+a.Mkfile.Path)
		case *pb.FileAction_Symlink:
			names = append(names, "symlink "+a.Symlink.Newpath+" -> "+a.Symlink.Oldpath)
		case *pb.FileAction_Rm:
			names = append(names, "rm "+a.Rm.Path)
		case *pb.FileAction_Copy:
			names = append(names, "copy "+a.Copy.Src+" "+a.Copy.Dest)
		}
	}
	return strings.Join(names, ", ")
}

// kindOf returns the kind of an operation, for a source with its scheme.
func kindOf(op *pb.Op) string {
	switch o := op.Op.(type) {
	case *pb.Op_Source:
		scheme, _, _ := strings.Cut(o.Source.GetIdentifier(), "://")
		return "source " + scheme
	case *pb.Op_Exec:
		return "exec"
	case *pb.Op_File:
		return "file"
	case *pb.Op_Build:
		return "build"
	case *pb.Op_Merge:
		return "merge"
	case *pb.Op_Diff:
		return "diff"
	case *pb.Op_Passthrough:
		return "passthrough"
	}
	return "unknown operation"
}
