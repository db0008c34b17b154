package worker

import (
	"context"
	"fmt"
	"slices"

	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"

	"github.com/strata-build/strata/runtime/layer"
	"github.com/strata-build/strata/solver"
)

// mergeOp lays its inputs over one another: their layers, one after the other.
type mergeOp struct {
	w  *Worker
	op *pb.MergeOp
}

// Key implements solver.Op.
func (o *mergeOp) Key(context.Context) (solver.Key, error) {
	d, err := messageKey("merge", "", o.op)
	return solver.Key{Digest: d, Facts: []solver.Fact{{Name: "merge", Value: fmt.Sprint(len(o.op.Inputs), " inputs")}}}, err
}

// InputKey implements solver.Op.
func (o *mergeOp) InputKey(ctx context.Context, _ int, in solver.Result) (digest.Digest, error) {
	return o.w.chainDigest(ctx, resultOf(in))
}

// Run implements solver.Op. It touches no file.
func (o *mergeOp) Run(ctx context.Context, in []solver.Result, _ solver.Progress) ([]solver.Result, error) {
	merged := &Result{}
	for _, m := range o.op.Inputs {
		if m.Input < 0 {
			continue
		}
		layers, err := o.w.layersOf(ctx, resultOf(in[m.Input]))
		if err != nil {
			return nil, err
		}
		merged.Layers = append(merged.Layers, layers...)
	}
	return []solver.Result{merged}, nil
}

// diffOp is what upper adds to lower.
type diffOp struct {
	w  *Worker
	op *pb.DiffOp
}

// Key implements solver.Op.
func (o *diffOp) Key(context.Context) (solver.Key, error) {
	d, err := messageKey("diff", "", o.op)
	return solver.Key{Digest: d, Facts: []solver.Fact{{Name: "diff", Value: "upper against lower"}}}, err
}

// InputKey implements solver.Op.
func (o *diffOp) InputKey(ctx context.Context, _ int, in solver.Result) (digest.Digest, error) {
	return o.w.chainDigest(ctx, resultOf(in))
}

// Run implements solver.Op. Where upper was made on top of lower, the answer
// is the layers between both; otherwise the two trees are compared.
func (o *diffOp) Run(ctx context.Context, in []solver.Result, _ solver.Progress) ([]solver.Result, error) {
	pick := func(index int64) ([]string, error) {
		if index < 0 {
			return nil, nil
		}
		return o.w.layersOf(ctx, resultOf(in[index]))
	}
	lower, err := pick(o.op.GetLower().GetInput())
	if err != nil {
		return nil, err
	}
	upper, err := pick(o.op.GetUpper().GetInput())
	if err != nil {
		return nil, err
	}
	if len(lower) <= len(upper) && slices.Equal(lower, upper[:len(lower)]) {
		return []solver.Result{&Result{Layers: upper[len(lower):]}}, nil
	}
	id, err := o.w.compare(ctx, lower, upper)
	if err != nil {
		return nil, err
	}
	return []solver.Result{&Result{Layers: []string{id}}}, nil
}

// compare makes a layer of the difference of two trees.
func (w *Worker) compare(ctx context.Context, lower, upper []string) (string, error) {
	a, err := w.view(ctx, &Result{Layers: lower})
	if err != nil {
		return "", err
	}
	defer a.close()
	b, err := w.view(ctx, &Result{Layers: upper})
	if err != nil {
		return "", err
	}
	defer b.close()
	return w.rawLayer(ctx, func(dir string) error {
		return layer.Compare(ctx, layer.CompareRequest{Lower: a.root, Upper: b.root, Dst: dir})
	})
}
