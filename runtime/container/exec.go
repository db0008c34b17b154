package container

import (
	"cmp"
	"context"
	"fmt"
	"os"

	"github.com/strata-build/strata/runtime/executor"
)

// ExecRequest is a command to run in a running container.
type ExecRequest struct {
	ID   string
	Args []string
	// Env is added to the container's.
	Env           []string
	Workdir, User string
	Privileged    bool
	Terminal      bool
	Stdin         bool
	IO            IO
	Signals       <-chan os.Signal
	// Started is called when the command runs. May be nil.
	Started func()
}

// Exec runs a command in a running container.
func (s *Set) Exec(ctx context.Context, req ExecRequest) (executor.Status, error) {
	rec, err := s.Get(req.ID)
	if err != nil {
		return executor.Status{}, err
	}
	if rec.State.Status != Running {
		return executor.Status{}, fmt.Errorf("%s: %w: start it with `strata start %s`", rec.Name, ErrNotRunning, rec.Name)
	}
	if rec.State.Paused {
		return executor.Status{}, fmt.Errorf("%s is paused: `strata unpause %s` first", rec.Name, rec.Name)
	}
	p, err := s.enter(ctx, &rec, &req)
	if err != nil {
		return executor.Status{}, s.orEnded(&rec, err)
	}
	if req.Started != nil {
		req.Started()
	}
	ended := make(chan struct{})
	defer close(ended)
	go p.Attend(ended, req.Signals, req.IO.Resized)
	return p.Wait()
}

// enter starts the command in the container.
func (s *Set) enter(ctx context.Context, rec *Record, req *ExecRequest) (*executor.Process, error) {
	cmd, err := rec.command(req)
	if err != nil {
		return nil, err
	}
	exec, err := s.e.Executor()
	if err != nil {
		return nil, err
	}
	return exec.Exec(ctx, rec.target(), cmd)
}

// orEnded is the error of something that needs a running container, unless it
// comes of the container's end.
func (s *Set) orEnded(rec *Record, err error) error {
	if now, getErr := s.Get(rec.ID); getErr == nil && now.State.Status == Running && now.State.PID == rec.State.PID {
		return err
	}
	return fmt.Errorf("%s: %w any more", rec.Name, ErrNotRunning)
}

// command describes the process: the container's own, but for what was asked
// otherwise.
func (r *Record) command(req *ExecRequest) (*executor.Command, error) {
	root, err := processRoot(r)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	c := r.Config
	user, err := lookUpUser(root, cmp.Or(req.User, c.User), c.Groups)
	if err != nil {
		return nil, err
	}
	security, err := c.Security.executor()
	if err != nil {
		return nil, err
	}
	security.Privileged = security.Privileged || req.Privileged
	c.Terminal = req.Terminal
	cmd := &executor.Command{
		Args: req.Args, Cwd: clean(cmp.Or(req.Workdir, c.Workdir)), User: user,
		Security: security, Rlimits: c.Rlimits, Stdout: output(req.IO.Stdout), Stderr: output(req.IO.Stderr),
		Env: mergeEnv(environment(&c, user.Home), req.Env),
	}
	if req.Stdin {
		cmd.Stdin = reader{req.IO.Stdin}
	}
	if req.Terminal {
		size := req.IO.Size
		cmd.Terminal = &size
	}
	return cmd, nil
}
