package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"

	digest "github.com/opencontainers/go-digest"

	"github.com/strata-build/strata/runtime/fileop"
	"github.com/strata-build/strata/runtime/localsource"
	"github.com/strata-build/strata/runtime/rootfs"
	"github.com/strata-build/strata/runtime/snapshot"
	"github.com/strata-build/strata/runtime/store"
	"github.com/strata-build/strata/solver"
)

// Result is one output of a vertex: layers, bottom first, or the files of a
// user's directory that nobody has needed as a tree yet.
type Result struct {
	Layers []string
	// files is set for a local source. A copy reads them in place; who needs
	// a tree calls layersOf.
	files *localsource.Manifest
	// unnamed is set where the directory is the store's, and nobody knows it.
	unnamed bool
}

// scratch is the result of an edge that is no files at all.
var scratch = &Result{}

// resultOf unwraps what the solver carries; nil is scratch.
func resultOf(r solver.Result) *Result {
	if res, ok := r.(*Result); ok && res != nil {
		return res
	}
	return scratch
}

// record is a vertex's results as they stand in the store.
type record struct {
	Outputs []output `json:"outputs"`
}

type output struct {
	Layers []string `json:"layers"`
}

// Encode implements solver.Worker.
func (w *Worker) Encode(_ context.Context, results []solver.Result) ([]byte, []string, error) {
	var rec record
	var refs []string
	for _, r := range results {
		res := resultOf(r)
		if res.files != nil {
			return nil, nil, nil // scanning again is as cheap as looking up
		}
		rec.Outputs = append(rec.Outputs, output{res.Layers})
		for _, id := range res.Layers {
			refs = append(refs, string(snapshot.Ref(id)))
		}
	}
	data, err := json.Marshal(rec)
	if err != nil {
		return nil, nil, fmt.Errorf("encode results: %w", err)
	}
	return data, refs, nil
}

// Decode implements solver.Worker. Layers that are found are leased, so that
// no collection takes them before the build ends.
func (w *Worker) Decode(_ context.Context, data []byte) ([]solver.Result, bool, error) {
	var rec record
	if err := json.Unmarshal(data, &rec); err != nil {
		return nil, false, fmt.Errorf("decode results: %w: %w", solver.ErrDamaged, err)
	}
	results := make([]solver.Result, 0, len(rec.Outputs))
	whole := true
	err := w.opt.Store.Acquire(func() error {
		for _, out := range rec.Outputs {
			for _, id := range out.Layers {
				if !w.opt.Layers.Have(id) {
					whole = false
					return nil
				}
			}
			if err := w.lease(out.Layers...); err != nil {
				return err
			}
			results = append(results, &Result{Layers: out.Layers})
		}
		return nil
	})
	if err != nil || !whole {
		return nil, false, err
	}
	return results, true, nil
}

func (w *Worker) lease(ids ...string) error {
	refs := make([]store.Ref, len(ids))
	for i, id := range ids {
		refs[i] = snapshot.Ref(id)
	}
	if err := w.opt.Lease.Add(refs...); err != nil {
		return fmt.Errorf("keep layers from collection: %w", err)
	}
	return nil
}

// layersOf returns the layers of r, and makes one of a local source's files
// where that is asked for the first time.
func (w *Worker) layersOf(ctx context.Context, r *Result) ([]string, error) {
	if r.files == nil {
		return r.Layers, nil
	}
	id, err := w.materialise(ctx, r.files)
	if err != nil {
		return nil, err
	}
	return []string{id}, nil
}

// chainDigest is the content of a result as a process sees it: all of it, in
// order.
func (w *Worker) chainDigest(ctx context.Context, r *Result) (digest.Digest, error) {
	if r.files != nil {
		return r.files.Digest(), nil
	}
	h := digest.Canonical.Digester()
	for _, id := range r.Layers {
		diffID, err := w.diffID(ctx, id)
		if err != nil {
			return "", fmt.Errorf("digest layer %s: %w", id, err)
		}
		fmt.Fprintln(h.Hash(), diffID)
	}
	return h.Digest(), nil
}

// diffID is the diff ID of a layer, which never changes.
func (w *Worker) diffID(ctx context.Context, id string) (digest.Digest, error) {
	if d, ok := w.diffs.Load(id); ok {
		return d.(digest.Digest), nil
	}
	d, err := w.opt.Layers.DiffID(ctx, id)
	if err == nil {
		w.diffs.Store(id, d)
	}
	return d, err
}

// view is a read-only look at a result.
type view struct {
	root  *rootfs.Root
	file  *os.File
	close func() error
}

// view opens the merged tree of r.
func (w *Worker) view(ctx context.Context, r *Result) (*view, error) {
	layers, err := w.layersOf(ctx, r)
	if err != nil {
		return nil, err
	}
	key := w.newKey("view")
	t, err := w.opt.Snapshots.View(ctx, key, layers)
	if err != nil {
		return nil, fmt.Errorf("view layers: %w", err)
	}
	f, root, err := openTree(t)
	if err != nil {
		return nil, errors.Join(err, w.opt.Snapshots.Remove(ctx, key))
	}
	return &view{root: root, file: f, close: func() error {
		return errors.Join(root.Close(), f.Close(), w.opt.Snapshots.Remove(context.WithoutCancel(ctx), key))
	}}, nil
}

// source opens r for copying from.
func (w *Worker) source(ctx context.Context, r *Result) (fileop.Tree, func() error, error) {
	if r.files != nil {
		t, err := r.files.Tree()
		if err != nil {
			return nil, nil, err
		}
		return t, t.Close, nil
	}
	v, err := w.view(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	return fileop.RootTree(v.root, fileop.RootOptions{SingleID: w.opt.SingleID}), v.close, nil
}

// newKey names an active snapshot of this process.
func (w *Worker) newKey(kind string) string {
	return kind + "-" + strconv.Itoa(os.Getpid()) + "-" + strconv.FormatUint(w.serial.Add(1), 10)
}
