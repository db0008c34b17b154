package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"

	"github.com/strata-build/strata/runtime/fileop"
	"github.com/strata-build/strata/runtime/rootfs"
	"github.com/strata-build/strata/solver"
)

// fileOp is a chain, or several, of file actions.
//
// An action's input is an input of the vertex (an index below the number of
// inputs), an earlier action's output (the indexes above), or scratch (-1).
// The actions between an output and an input of the vertex run in one active
// snapshot and make one layer.
type fileOp struct {
	w      *Worker
	v      *solver.Vertex
	op     *pb.FileOp
	inputs int
}

func newFileOp(w *Worker, v *solver.Vertex, op *pb.FileOp) (solver.Op, error) {
	o := &fileOp{w: w, v: v, op: op, inputs: len(v.Inputs)}
	for i, a := range op.Actions {
		if a == nil || a.Action == nil {
			return nil, fmt.Errorf("file action %d is of a kind that this version of strata does not know", i)
		}
		limit := int64(o.inputs + i)
		if a.Input < -1 || a.Input >= limit || a.SecondaryInput < -1 || a.SecondaryInput >= limit {
			return nil, fmt.Errorf("file action %d reads what no earlier action makes", i)
		}
	}
	if len(op.Actions) == 0 {
		return nil, errors.New("a file operation without actions")
	}
	return o, nil
}

// Key implements solver.Op. Actions name their inputs by index, so that the
// operation without the inputs' digests is all that there is.
func (o *fileOp) Key(context.Context) (solver.Key, error) {
	d, err := messageKey("file", "", o.op)
	return solver.Key{Digest: d, Facts: fileFacts(o.op)}, err
}

// InputKey implements solver.Op: an input that is only copied from counts
// with what the copies select, and a base with everything.
func (o *fileOp) InputKey(ctx context.Context, i int, in solver.Result) (digest.Digest, error) {
	var copies []*pb.FileActionCopy
	for _, a := range o.op.Actions {
		cp := a.GetCopy()
		switch {
		case a.Input == int64(i), cp == nil && a.SecondaryInput == int64(i), ownerInput(cp) == int64(i):
			return o.w.chainDigest(ctx, resultOf(in))
		case cp != nil && a.SecondaryInput == int64(i):
			copies = append(copies, cp)
		}
	}
	src, closeSource, err := o.w.source(ctx, resultOf(in))
	if err != nil {
		return "", err
	}
	parts := []string{"selection"}
	for _, cp := range copies {
		d, err := fileop.Digest(ctx, src, cp)
		if err != nil {
			return "", errors.Join(o.missing(err, cp, int64(i), resultOf(in)), closeSource())
		}
		parts = append(parts, d.String())
	}
	return keyOf(parts...), closeSource()
}

// missing completes the error of a copy.
func (o *fileOp) missing(err error, cp *pb.FileActionCopy, input int64, in *Result) error {
	if in.files == nil {
		return err
	}
	p := cp.Src
	if len(cp.IncludePatterns) > 0 { // it is where the patterns begin
		p = ""
	}
	return missing(err, o.v.Inputs[input], in, p)
}

// ownerInput is the input in whose passwd file a copy looks its owner up; -1
// for none.
func ownerInput(cp *pb.FileActionCopy) int64 {
	if user := cp.GetOwner().GetUser().GetByName(); user != nil {
		return user.Input
	}
	if group := cp.GetOwner().GetGroup().GetByName(); group != nil {
		return group.Input
	}
	return -1
}

// Run implements solver.Op.
func (o *fileOp) Run(ctx context.Context, in []solver.Result, p solver.Progress) ([]solver.Result, error) {
	run := &fileRun{fileOp: o, in: in, progress: p}
	var results []solver.Result
	for n := 0; ; n++ {
		i := o.actionOf(int64(n))
		if i < 0 {
			break
		}
		res, err := run.result(ctx, int64(o.inputs+i))
		if err != nil {
			return nil, err
		}
		results = append(results, res)
	}
	if len(results) == 0 {
		return nil, errors.New("a file operation without outputs")
	}
	return results, nil
}

// actionOf returns the action that makes an output, or -1.
func (o *fileOp) actionOf(output int64) int {
	for i, a := range o.op.Actions {
		if a.Output == output {
			return i
		}
	}
	return -1
}

// fileRun is one run of a file operation.
type fileRun struct {
	*fileOp
	in       []solver.Result
	progress solver.Progress
}

// result returns what an index stands for.
func (r *fileRun) result(ctx context.Context, index int64) (*Result, error) {
	if index < 0 {
		return scratch, nil
	}
	if index < int64(r.inputs) {
		return resultOf(r.in[index]), nil
	}
	// Walk back to the input that the chain of actions starts from.
	var chain []*pb.FileAction
	for index >= int64(r.inputs) {
		a := r.op.Actions[index-int64(r.inputs)]
		chain = append([]*pb.FileAction{a}, chain...)
		index = a.Input
	}
	base, err := r.result(ctx, index)
	if err != nil {
		return nil, err
	}
	layers, err := r.w.layersOf(ctx, base)
	if err != nil {
		return nil, err
	}
	id, err := r.w.newLayer(ctx, layers, func(root *rootfs.Root) error {
		for _, a := range chain {
			if err := r.apply(ctx, root, a); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	r.w.made(r.v, id)
	return &Result{Layers: append(layers[:len(layers):len(layers)], id)}, nil
}

// apply runs one action on an open root.
func (r *fileRun) apply(ctx context.Context, root *rootfs.Root, a *pb.FileAction) error {
	lookup := &ownerLookup{run: r}
	defer lookup.close()
	opt := fileop.Options{
		Input:    lookup.root,
		SingleID: r.w.opt.SingleID,
		Warn:     func(message string) { fmt.Fprintln(r.progress.Stderr(), message) },
	}
	var err error
	switch act := a.Action.(type) {
	case *pb.FileAction_Copy:
		err = r.copy(ctx, root, a, opt)
	case *pb.FileAction_Mkfile:
		err = fileop.Mkfile(ctx, root, act.Mkfile, opt)
	case *pb.FileAction_Mkdir:
		err = fileop.Mkdir(ctx, root, act.Mkdir, opt)
	case *pb.FileAction_Rm:
		err = fileop.Rm(ctx, root, act.Rm)
	case *pb.FileAction_Symlink:
		err = fileop.Symlink(ctx, root, act.Symlink, opt)
	default:
		err = fmt.Errorf("file action %T is not known", a.Action)
	}
	return errors.Join(err, lookup.err())
}

func (r *fileRun) copy(ctx context.Context, root *rootfs.Root, a *pb.FileAction, opt fileop.Options) error {
	from, err := r.result(ctx, a.SecondaryInput)
	if err != nil {
		return err
	}
	src, closeSource, err := r.w.source(ctx, from)
	if err != nil {
		return err
	}
	if err = fileop.Check(src, a.GetCopy()); err == nil {
		err = fileop.Copy(ctx, root, src, a.GetCopy(), opt)
	}
	return errors.Join(r.missing(err, a.GetCopy(), a.SecondaryInput, from), closeSource())
}

// ownerLookup opens the trees in which owners are looked up by name, and
// keeps them open until the action ends.
type ownerLookup struct {
	run   *fileRun
	mu    sync.Mutex
	views []*view
	fail  error
}

func (l *ownerLookup) root(ctx context.Context, index int64) (*rootfs.Root, error) {
	res, err := l.run.result(ctx, index)
	if err != nil {
		return nil, err
	}
	v, err := l.run.w.view(ctx, res)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.views = append(l.views, v)
	return v.root, nil
}

func (l *ownerLookup) close() {
	for _, v := range l.views {
		l.fail = errors.Join(l.fail, v.close())
	}
	l.views = nil
}

func (l *ownerLookup) err() error { l.close(); return l.fail }
