package solver

import (
	"errors"
	"fmt"

	"github.com/moby/buildkit/solver/pb"
	"google.golang.org/protobuf/encoding/protowire"
)

// maxOutputs bounds the output indexes of ops that only the worker knows.
const maxOutputs = 1 << 16

// validate checks everything in an operation that indexes something else, so
// that nobody after Load has to, and returns the number of outputs, or -1 for
// an operation of an unknown kind.
func validate(op *pb.Op) (outputs int, err error) {
	inputs := len(op.Inputs)
	switch o := op.Op.(type) {
	case *pb.Op_Source:
		return 1, validateSource(o.Source, inputs)
	case *pb.Op_Exec:
		return validateExec(o.Exec, inputs)
	case *pb.Op_File:
		return validateFile(o.File, inputs)
	case *pb.Op_Merge:
		return 1, validateMerge(o.Merge, inputs)
	case *pb.Op_Diff:
		return 1, validateDiff(o.Diff, inputs)
	case *pb.Op_Passthrough:
		return validatePassthrough(o.Passthrough, inputs)
	case *pb.Op_Build:
		return -1, validateBuild(o.Build, inputs)
	}
	return -1, nil
}

func validateSource(op *pb.SourceOp, inputs int) error {
	if op.GetIdentifier() == "" {
		return errors.New("the source has no identifier")
	}
	if inputs != 0 {
		return fmt.Errorf("a source has no inputs, this one has %d", inputs)
	}
	return nil
}

func validateExec(op *pb.ExecOp, inputs int) (int, error) {
	if len(op.GetMeta().GetArgs()) == 0 {
		return 0, errors.New("there is no command")
	}
	var outputs indexSet
	root := false
	for i, m := range op.Mounts {
		if err := inRange("input", m.Input, inputs); err != nil {
			return 0, fmt.Errorf("mount %d (%s): %w", i, m.Dest, err)
		}
		root = root || m.Dest == pb.RootMount
		// Other mounts leave the field at zero and mean nothing by it.
		if m.MountType == pb.MountType_BIND || m.MountType == pb.MountType_CACHE {
			if err := outputs.add(m.Output); err != nil {
				return 0, fmt.Errorf("mount %d (%s): %w", i, m.Dest, err)
			}
		}
	}
	if !root {
		return 0, errors.New("nothing is mounted as the root")
	}
	return outputs.count()
}

func validateFile(op *pb.FileOp, inputs int) (int, error) {
	if len(op.GetActions()) == 0 {
		return 0, errors.New("there are no actions")
	}
	var outputs indexSet
	for i, a := range op.Actions {
		// An index past the inputs is the outcome of an earlier action.
		if err := validateAction(a, inputs+i); err != nil {
			return 0, fmt.Errorf("action %d: %w", i, err)
		}
		if err := outputs.add(a.Output); err != nil {
			return 0, fmt.Errorf("action %d: %w", i, err)
		}
	}
	if len(outputs.seen) == 0 {
		return 0, errors.New("no action has an output")
	}
	return outputs.count()
}

func validateAction(a *pb.FileAction, inputs int) error {
	if err := inRange("input", a.Input, inputs); err != nil {
		return err
	}
	switch act := a.Action.(type) {
	case *pb.FileAction_Copy:
		if err := inRange("secondary input", a.SecondaryInput, inputs); err != nil {
			return err
		}
		return validateOwner(act.Copy.GetOwner(), inputs)
	case *pb.FileAction_Mkfile:
		return validateOwner(act.Mkfile.GetOwner(), inputs)
	case *pb.FileAction_Mkdir:
		return validateOwner(act.Mkdir.GetOwner(), inputs)
	case *pb.FileAction_Symlink:
		return validateOwner(act.Symlink.GetOwner(), inputs)
	}
	return nil
}

func validateOwner(owner *pb.ChownOpt, inputs int) error {
	for _, user := range []*pb.UserOpt{owner.GetUser(), owner.GetGroup()} {
		if named, ok := user.GetUser().(*pb.UserOpt_ByName); ok {
			if err := inRange("user's input", named.ByName.GetInput(), inputs); err != nil {
				return err
			}
		}
	}
	return nil
}

func validateMerge(op *pb.MergeOp, inputs int) error {
	for i, in := range op.GetInputs() {
		if err := inRange("input", in.Input, inputs); err != nil {
			return fmt.Errorf("merge input %d: %w", i, err)
		}
	}
	return nil
}

func validateDiff(op *pb.DiffOp, inputs int) error {
	if op.GetLower() == nil || op.GetUpper() == nil {
		return errors.New("a diff has a lower and an upper input")
	}
	if err := inRange("lower input", op.Lower.Input, inputs); err != nil {
		return err
	}
	return inRange("upper input", op.Upper.Input, inputs)
}

func validatePassthrough(op *pb.PassthroughOp, inputs int) (int, error) {
	for i, in := range op.GetOutputs() {
		if in < 0 || in >= int64(inputs) {
			return 0, fmt.Errorf("output %d is input %d of %d", i, in, inputs)
		}
	}
	return len(op.GetOutputs()), nil
}

func validateBuild(op *pb.BuildOp, inputs int) error {
	if err := inRange("builder", op.GetBuilder(), inputs); err != nil {
		return err
	}
	for name, in := range op.GetInputs() {
		if err := inRange("input", in.GetInput(), inputs); err != nil {
			return fmt.Errorf("build input %q: %w", name, err)
		}
	}
	return nil
}

// inRange checks an index into count things; pb.Empty stands for scratch.
func inRange(what string, index int64, count int) error {
	if index < int64(pb.Empty) || index >= int64(count) {
		return fmt.Errorf("%s index %d is out of range: there are %d", what, index, count)
	}
	return nil
}

// indexSet collects output indexes, which have to be 0 to n-1, each once.
type indexSet struct {
	seen    map[int64]bool
	highest int64
}

func (s *indexSet) add(index int64) error {
	switch {
	case index == int64(pb.SkipOutput):
		return nil
	case index < 0:
		return fmt.Errorf("output index %d is negative", index)
	case s.seen[index]:
		return fmt.Errorf("output index %d is used twice", index)
	case s.seen == nil:
		s.seen = map[int64]bool{}
	}
	s.seen[index] = true
	s.highest = max(s.highest, index)
	return nil
}

func (s *indexSet) count() (int, error) {
	if n := len(s.seen); n > 0 && s.highest != int64(n-1) {
		return 0, fmt.Errorf("there are %d outputs, but one has index %d", n, s.highest)
	}
	return len(s.seen), nil
}

// firstField returns the number of the first field in an encoded message.
func firstField(raw []byte) int32 {
	number, _, _ := protowire.ConsumeTag(raw)
	return int32(number)
}
