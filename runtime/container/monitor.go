package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/containerd/platforms"
	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/executor"
	"github.com/strata-build/strata/runtime/store"
)

// IO is what a container's first process is connected to besides the log.
type IO struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Size is the terminal's, for a container that has one.
	Size executor.Terminal
	// Resized sends new sizes. May be nil.
	Resized <-chan executor.Terminal
}

// RunRequest says how a container is run.
type RunRequest struct {
	ID string
	IO IO
	// Signals are passed on to the first process. May be nil.
	Signals <-chan os.Signal
	// Started is called once, when the first process runs. May be nil.
	Started func(Record)
}

// monitor is in charge of one container while it runs.
type monitor struct {
	set  *Set
	id   string
	req  RunRequest
	told bool
	// stopping is set when a signal has asked for the end, which the record
	// says, too, if there was room to write it.
	stopping atomic.Bool
}

// The waits between a container's end and its restart double up to a minute;
// a container that ran for a while begins anew.
const (
	firstBackoff = 100 * time.Millisecond
	lastBackoff  = time.Minute
	steadyAfter  = 10 * time.Second
	backoffPoll  = 100 * time.Millisecond
)

// Run runs a container, as its monitor, until it has ended and is not to be
// started again. The error says that it could not be started at all; what goes
// wrong later is in the record that is returned, whatever is on the disk.
func (s *Set) Run(ctx context.Context, req RunRequest) (Record, error) {
	lock, err := s.takeOver(ctx, req.ID)
	if err != nil {
		return Record{}, err
	}
	m := &monitor{set: s, id: req.ID, req: req}
	stop := s.attendFreezes(ctx, req.ID)
	rec, err := m.run(ctx)
	stop()
	if err = errors.Join(err, s.leave(context.WithoutCancel(ctx), &rec, lock)); err != nil && m.told {
		rec.State.Error, err = joined(rec.State.Error, err), nil
	}
	return rec, err
}

// leave ends the monitor's work. A container that was to be removed goes.
func (s *Set) leave(ctx context.Context, rec *Record, lock *store.Lock) error {
	if !rec.Config.AutoRemove {
		return lock.Unlock()
	}
	err := s.leaveExit(rec.ID, rec.State.ExitCode)
	if removeErr := s.remove(ctx, rec.ID, true); removeErr != nil && !errors.Is(removeErr, ErrNotFound) {
		return errors.Join(err, removeErr, lock.Unlock())
	}
	return errors.Join(err, lock.Remove())
}

// joined adds an error to what is known to have gone wrong.
func joined(text string, err error) string {
	if text == "" {
		return err.Error()
	}
	return text + "\n" + err.Error()
}

// takeOver takes the run lock. Whoever looks whether it is held has it for a
// moment, so a little patience is needed.
func (s *Set) takeOver(ctx context.Context, id string) (*store.Lock, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	lock, err := s.e.Store.Lock(ctx, runLock(id))
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, fmt.Errorf("%s: %w already", id[:shortID], ErrRunning)
	}
	return lock, err
}

// run is the life of a container, restarts included.
func (m *monitor) run(ctx context.Context) (Record, error) {
	rec, err := m.fresh(ctx)
	if err != nil {
		return rec, err
	}
	backoff := firstBackoff
	for {
		began := time.Now()
		rec, err = m.once(ctx)
		if err != nil && !m.told {
			return rec, err
		}
		if time.Since(began) > steadyAfter {
			backoff = firstBackoff
		}
		if rec.State.Status != Restarting || ctx.Err() != nil {
			return m.ended(ctx, rec, err)
		}
		if rec, err = m.wait(ctx, backoff); err != nil || rec.State.StopRequested {
			return m.ended(ctx, rec, err)
		}
		backoff = min(2*backoff, lastBackoff)
	}
}

// fresh forgets how the container ended the last time.
func (m *monitor) fresh(ctx context.Context) (Record, error) {
	rec, err := m.set.load(m.id)
	if err == nil {
		err = m.set.clearExit(m.id)
	}
	if err != nil || !rec.State.StopRequested && rec.State.Restarts == 0 {
		return rec, err
	}
	return m.set.update(ctx, m.id, func(rec *Record) error {
		rec.State.StopRequested, rec.State.Restarts = false, 0
		return nil
	})
}

// restarts tells whether the policy starts the container again.
func restarts(rec *Record) bool {
	if rec.State.StopRequested {
		return false
	}
	switch rec.Config.Restart.Policy {
	case RestartAlways, RestartUnlessStopped:
		return true
	case RestartOnFailure:
		most := rec.Config.Restart.Max
		return rec.State.ExitCode != 0 && (most == 0 || rec.State.Restarts < most)
	}
	return false
}

// wait is between an end and the next start. It can be ended by a signal, or
// by `stop`.
func (m *monitor) wait(ctx context.Context, d time.Duration) (Record, error) {
	rec, err := m.set.load(m.id)
	for end := time.Now().Add(d); err == nil && !rec.State.StopRequested && time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return rec, context.Cause(ctx)
		case sig := <-m.req.Signals:
			if sig == unix.SIGTERM || sig == unix.SIGINT {
				rec.State.StopRequested = true
				return rec, nil
			}
		case <-time.After(min(backoffPoll, time.Until(end))):
		}
		rec, err = m.set.load(m.id)
	}
	return rec, err
}

// ended writes down that the container will not be started again.
func (m *monitor) ended(ctx context.Context, rec Record, err error) (Record, error) {
	if rec.State.Status != Exited {
		var updateErr error
		rec, updateErr = m.set.update(context.WithoutCancel(ctx), m.id, func(rec *Record) error {
			rec.State.Status = Exited
			return nil
		})
		err = errors.Join(err, updateErr)
	}
	return rec, err
}

// next decides what comes after an end. It is written down together with that:
// who waits for the container must not take a restart for its last end.
func next(rec *Record) {
	rec.State.Status = Exited
	if restarts(rec) {
		rec.State.Status = Restarting
		rec.State.Restarts++
	}
}

// once starts the container and waits for its end. Whatever happens is in the
// record afterwards.
func (m *monitor) once(ctx context.Context) (Record, error) {
	l, err := m.start(ctx)
	if err != nil {
		return m.notStarted(ctx, m.foreign(ctx, err))
	}
	status, waitErr := l.wait(ctx)
	end := func(rec *Record) error {
		rec.State = State{
			ExitCode: status.ExitCode, OOMKilled: status.OOMKilled,
			StartedAt: rec.State.StartedAt, FinishedAt: time.Now().UTC(),
			Restarts: rec.State.Restarts, StopRequested: rec.State.StopRequested, Health: rec.State.Health,
		}
		// What became of the log is told, but is no failure of the container.
		if err := errors.Join(waitErr, l.log.err); err != nil {
			rec.State.Error = err.Error()
		}
		rec.State.StopRequested = rec.State.StopRequested || m.stopping.Load()
		next(rec)
		return nil
	}
	rec, err := m.set.update(context.WithoutCancel(ctx), m.id, end)
	if err == nil {
		return rec, nil
	}
	rec = l.rec
	return rec, errors.Join(end(&rec), err, m.set.leaveExit(m.id, status.ExitCode))
}

// docker's exit codes of what could not be run.
const (
	CodeEngine        = 125
	CodeNotExecutable = 126
	CodeNotFound      = 127
)

// notStarted writes down why. A container that has never run stays Created,
// as in docker.
func (m *monitor) notStarted(ctx context.Context, err error) (Record, error) {
	rec, updateErr := m.set.update(context.WithoutCancel(ctx), m.id, func(rec *Record) error {
		st := &rec.State
		st.Error, st.ExitCode = err.Error(), StartCode(err)
		// A killed monitor's, if any.
		st.PID, st.StartTime, st.Monitor, st.Paused, st.Ports, st.Health = 0, 0, 0, false, nil, nil
		if st.Status == Created {
			return nil
		}
		st.Status, st.FinishedAt = Exited, time.Now().UTC()
		if m.told { // it ran, and could not be restarted this time
			next(rec)
		}
		return nil
	})
	return rec, errors.Join(err, updateErr)
}

// foreign says that the image is for another machine, where the kernel has
// refused its program.
func (m *monitor) foreign(ctx context.Context, err error) error {
	if !errors.Is(err, executor.ErrNotExecutable) {
		return err
	}
	rec, loadErr := m.set.load(m.id)
	if loadErr != nil {
		return errors.Join(err, loadErr)
	}
	e := m.set.e
	mf, loadErr := e.Images.Load(ctx, rec.Image.Manifest, nil, nil)
	if loadErr != nil || platforms.Only(e.Platform()).Match(mf.Platform()) {
		return errors.Join(err, loadErr)
	}
	return fmt.Errorf("%w: the image is for %s, and this machine is %s: running it needs an emulator",
		err, platforms.Format(mf.Platform()), platforms.Format(e.Platform()))
}

// StartCode is docker's exit code for what kept a command from starting.
func StartCode(err error) int {
	switch {
	case errors.Is(err, executor.ErrNotFound):
		return CodeNotFound
	case errors.Is(err, executor.ErrNotExecutable):
		return CodeNotExecutable
	}
	return CodeEngine
}
