package compiler

import (
	"fmt"
	"strings"

	"github.com/moby/buildkit/solver/pb"
)

// kind is the kind of an op.
func kind(op *pb.Op) string {
	switch x := op.GetOp().(type) {
	case *pb.Op_Source:
		scheme, _, _ := strings.Cut(x.Source.GetIdentifier(), "://")
		return scheme
	case *pb.Op_Exec:
		return "exec"
	case *pb.Op_File:
		return "file"
	case *pb.Op_Merge:
		return "merge"
	case *pb.Op_Diff:
		return "diff"
	case *pb.Op_Build:
		return "build"
	}
	return "unknown"
}

// summary is an op in one line: its kind and what it is about.
func summary(op *pb.Op) string {
	switch x := op.GetOp().(type) {
	case *pb.Op_Source:
		_, rest, _ := strings.Cut(x.Source.GetIdentifier(), "://")
		return kind(op) + " " + rest
	case *pb.Op_Exec:
		return "exec " + quoteLine(strings.Join(x.Exec.GetMeta().GetArgs(), " "))
	case *pb.Op_File:
		parts := make([]string, 0, len(x.File.GetActions()))
		for _, a := range x.File.GetActions() {
			parts = append(parts, actionSummary(a))
		}
		return "file " + strings.Join(parts, ", ")
	}
	return kind(op)
}

func actionSummary(a *pb.FileAction) string {
	switch x := a.GetAction().(type) {
	case *pb.FileAction_Copy:
		return fmt.Sprintf("copy %s %s", x.Copy.GetSrc(), x.Copy.GetDest())
	case *pb.FileAction_Mkfile:
		return "mkfile " + x.Mkfile.GetPath()
	case *pb.FileAction_Mkdir:
		return "mkdir " + x.Mkdir.GetPath()
	case *pb.FileAction_Rm:
		return "rm " + x.Rm.GetPath()
	case *pb.FileAction_Symlink:
		return fmt.Sprintf("symlink %s %s", x.Symlink.GetOldpath(), x.Symlink.GetNewpath())
	}
	return "unknown"
}

// quoteLine keeps a text on one line.
func quoteLine(text string) string {
	if strings.ContainsAny(text, "\n\r\t") {
		return fmt.Sprintf("%q", text)
	}
	return text
}
