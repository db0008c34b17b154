// Package worker binds LLB's operations to the parts of the runtime: it is
// what the solver solves with.
//
// Each op of the graph becomes a solver.Op here (source.go, exec.go, file.go,
// mergediff.go), each output a Result: a list of layers, bottom first. An op
// that writes does so in an active snapshot, which becomes a layer under a
// random id when the op has ended well, and is dropped otherwise; nothing else
// ever sees it. Layers found and layers made are leased for as long as the
// build runs.
//
// A Worker serves one build: it knows that build's directories, secrets and
// agents. The parts below it are shared.
package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/apicaps"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/runtime/cgroup"
	"github.com/strata-build/strata/runtime/executor"
	"github.com/strata-build/strata/runtime/gitsource"
	"github.com/strata-build/strata/runtime/httpsource"
	"github.com/strata-build/strata/runtime/image"
	"github.com/strata-build/strata/runtime/layer"
	"github.com/strata-build/strata/runtime/network"
	"github.com/strata-build/strata/runtime/snapshot"
	"github.com/strata-build/strata/runtime/store"
	"github.com/strata-build/strata/solver"
)

// Options are the parts of the runtime, and what one build brings.
type Options struct {
	Store     *store.Store
	Snapshots snapshot.Snapshotter
	Layers    *layer.Store
	Images    *image.Store
	Meta      llb.ImageMetaResolver
	// Executor, Network and Cgroups make these parts when a step first needs
	// them. Cgroups returns nil where the machine has none.
	Executor func() (*executor.Executor, error)
	Network  func() (*network.Provider, error)
	Cgroups  func() (*cgroup.Hierarchy, error)
	Git      *gitsource.Client
	HTTP     *httpsource.Client

	// Lease keeps the build's layers from collection.
	Lease *store.Lease
	// ContextDir keeps stat caches and lists of files of local sources;
	// LogDir the output of each step; CacheDir the cache mounts.
	ContextDir, LogDir, CacheDir string
	// SingleID is set when only one user id is mapped.
	SingleID bool
	// Platform of this machine.
	Platform ocispec.Platform
	// EmulatorDir is binfmt_misc's directory.
	EmulatorDir string

	// Locals are the directories of local sources, Layouts the OCI layouts,
	// by the names that the definitions use.
	Locals, Layouts map[string]string
	// Secrets and Agents answer secret and ssh mounts.
	Secrets Secrets
	Agents  Agents
	// AllowInsecure and AllowHostNetwork are the user's explicit permission
	// for steps that give up isolation.
	AllowInsecure, AllowHostNetwork bool
	// AllowDevices are the CDI devices that the user permits, or AllDevices;
	// DeviceDirs are where devices are described.
	AllowDevices, DeviceDirs []string

	// Made, when set, is told of each layer that a vertex has made.
	Made func(v *solver.Vertex, id string)
	// Failed, when set, is given each step that fails.
	Failed func(*FailedStep)
}

// Secrets are the secrets that the user gave, by id.
type Secrets interface {
	// Secret returns a secret, or ErrNoSecret.
	Secret(ctx context.Context, id string) ([]byte, error)
}

// ErrNoSecret is returned for a secret or an agent that the user did not give.
var ErrNoSecret = errors.New("not given")

// SecretFunc adapts Secrets to packages with a word of their own for a secret
// that was not given.
func SecretFunc(s Secrets, missing error) func(ctx context.Context, id string) ([]byte, error) {
	return func(ctx context.Context, id string) ([]byte, error) {
		value, err := s.Secret(ctx, id)
		if errors.Is(err, ErrNoSecret) {
			return nil, missing
		}
		return value, err
	}
}

// Agents are the SSH agents that the user forwards, by id.
type Agents interface {
	// Agent connects to an agent, or returns ErrNoSecret.
	Agent(ctx context.Context, id string) (io.ReadWriteCloser, error)
}

// Worker implements solver.Worker for one build.
type Worker struct {
	opt    Options
	serial atomic.Uint64
	shared sharedFiles
	caps   apicaps.CapSet // all that LLB knows; making it costs more than asking it
	diffs  sync.Map       // diff IDs by layer: a chain is digested once per step
}

// New returns the worker of one build.
func New(opt Options) *Worker { return &Worker{opt: opt, caps: pb.Caps.CapSet(pb.Caps.All())} }

// Close ends the worker when no op runs any more.
func (w *Worker) Close() error { return w.shared.close() }

// Layers returns the layers of a result of Solve, bottom first.
func (w *Worker) Layers(ctx context.Context, r solver.Result) ([]string, error) {
	return w.layersOf(ctx, resultOf(r))
}

// made tells that v has made a layer.
func (w *Worker) made(v *solver.Vertex, id string) {
	if w.opt.Made != nil {
		w.opt.Made(v, id)
	}
}

// Op implements solver.Worker.
func (w *Worker) Op(v *solver.Vertex) (solver.Op, error) {
	if err := checkCaps(w.caps, v.Meta); err != nil {
		return nil, err
	}
	switch op := v.Op.Op.(type) {
	case *pb.Op_Source:
		return newSourceOp(w, v, op.Source)
	case *pb.Op_Exec:
		return newExecOp(w, v, op.Exec)
	case *pb.Op_File:
		return newFileOp(w, v, op.File)
	case *pb.Op_Merge:
		return &mergeOp{w: w, op: op.Merge}, checkMerge(v, op.Merge)
	case *pb.Op_Diff:
		return &diffOp{w: w, op: op.Diff}, checkDiff(v, op.Diff)
	case *pb.Op_Build:
		return nil, errors.New("operations of kind build (a nested build) are not supported")
	}
	return nil, fmt.Errorf("operation of kind %T is not known to this version of strata", v.Op.Op)
}

func checkMerge(v *solver.Vertex, op *pb.MergeOp) error {
	for _, in := range op.Inputs {
		if in.Input >= int64(len(v.Inputs)) {
			return fmt.Errorf("merge reads input %d of %d", in.Input, len(v.Inputs))
		}
	}
	return nil
}

func checkDiff(v *solver.Vertex, op *pb.DiffOp) error {
	limit := int64(len(v.Inputs))
	if op.GetLower().GetInput() >= limit || op.GetUpper().GetInput() >= limit {
		return fmt.Errorf("diff reads an input beyond the %d that there are", limit)
	}
	return nil
}
