package worker

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/moby/buildkit/solver/pb"

	"github.com/strata-build/strata/runtime/executor"
	"github.com/strata-build/strata/solver"
)

// FailedStep is a step that has failed, and can be entered: all that it had
// written to its trees is kept, in layers that the build leases. Its temporary
// file systems are gone.
type FailedStep struct {
	// Step is the step's vertex.
	Step *solver.Vertex
	// Err says how it failed.
	Err error

	op *execOp
	in []solver.Result
	// left are the trees of its writable mounts.
	left map[*pb.Mount]*Result
}

// Shell is a command that is run in place of the step's.
type Shell struct {
	Args           []string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Terminal is the size of its terminal; nil gives it none.
	Terminal *executor.Terminal
	// Term is the kind of terminal, for TERM.
	Term string
	// Resized sends new sizes, Signals are passed on. They may be nil.
	Resized <-chan executor.Terminal
	Signals <-chan os.Signal
}

// keepFailed hands a failed step over to who asked for those.
func (r *execRun) keepFailed(ctx context.Context, err error) error {
	var failed *StepError
	if r.w.opt.Failed == nil || !errors.As(err, &failed) {
		return nil
	}
	step := &FailedStep{Step: r.v, Err: err, op: r.execOp, in: r.in, left: map[*pb.Mount]*Result{}}
	for _, m := range append([]*mounted{r.root}, r.mounts...) {
		if m.active == nil || m.m.MountType != pb.MountType_BIND {
			continue
		}
		id, err := m.active.commit(ctx)
		if err != nil {
			return err
		}
		m.active = nil
		step.left[m.m] = &Result{Layers: append(slices.Clip(m.layers), id)}
	}
	r.w.opt.Failed(step)
	return nil
}

// Enter runs a command with all that the step has: its files, mounts, secrets
// and agents, variables, user, working directory, network and limits. What it
// writes is lost.
func (f *FailedStep) Enter(ctx context.Context, sh Shell) (status executor.Status, err error) {
	run := &execRun{execOp: f.op, in: f.in, left: f.left}
	defer func() { err = errors.Join(err, run.undo.Close()) }()
	if err := run.mount(ctx); err != nil {
		return status, err
	}
	spec, err := run.spec(ctx)
	if err != nil {
		return status, err
	}
	spec.Args, spec.Stdin, spec.Stdout, spec.Stderr = sh.Args, sh.Stdin, sh.Stdout, sh.Stderr
	if spec.Terminal = sh.Terminal; sh.Terminal != nil && sh.Term != "" {
		spec.Env = slices.DeleteFunc(spec.Env, func(kv string) bool { return strings.HasPrefix(kv, "TERM=") })
		spec.Env = append(spec.Env, "TERM="+sh.Term)
	}
	exec, err := f.op.w.opt.Executor()
	if err != nil {
		return status, err
	}
	p, err := exec.Start(ctx, spec)
	if err != nil {
		return status, err
	}
	ended := make(chan struct{})
	defer close(ended)
	go p.Attend(ended, sh.Signals, sh.Resized)
	return p.Wait()
}
