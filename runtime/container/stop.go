package container

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// DefaultStopTimeout is how long `stop` waits before it kills.
const DefaultStopTimeout = 10 * time.Second

// poll is how often the state of a container is looked at that is about to
// change.
const poll = 5 * time.Millisecond

// ParseSignal reads a signal as kill(1) takes it: a number, or a name with or
// without SIG.
func ParseSignal(text string) (unix.Signal, error) {
	if n, err := strconv.Atoi(text); err == nil && n > 0 && n <= 64 {
		return unix.Signal(n), nil
	}
	name := strings.ToUpper(text)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if sig := unix.SignalNum(name); sig != 0 {
		return sig, nil
	}
	if n, ok := realTime(strings.TrimPrefix(name, "SIG")); ok {
		return unix.Signal(n), nil
	}
	return 0, fmt.Errorf("signal %q is not known: it takes a name such as TERM, or a number from 1 to 64", text)
}

// The first and the last real-time signal, as the C library counts.
const (
	rtMin = 34
	rtMax = 64
)

// realTime reads RTMIN+3 and RTMAX-14: systemd's stop signal is one of those.
func realTime(name string) (int, bool) {
	for prefix, base := range map[string]int{"RTMIN": rtMin, "RTMAX": rtMax} {
		rest, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		n, err := strconv.Atoi(cmp.Or(rest, "0"))
		if sig := base + n; err == nil && sig >= rtMin && sig <= rtMax {
			return sig, true
		}
	}
	return 0, false
}

// Signal sends a signal to the first process of a running container. A signal
// that asks it to end keeps it from being started again.
func (s *Set) Signal(ctx context.Context, id string, sig unix.Signal) error {
	rec, err := s.Get(id)
	if err != nil {
		return err
	}
	ends := sig == unix.SIGKILL || sig == rec.stopSignal()
	if rec.State.Status != Running && !(ends && rec.State.Live()) {
		return fmt.Errorf("%s: %w", rec.Name, ErrNotRunning)
	}
	if ends {
		if rec, err = s.requestStop(ctx, id); err != nil {
			return err
		}
	}
	err = s.signal(&rec, sig)
	if err == nil && sig == unix.SIGKILL { // which a frozen process does not heed
		err = s.thaw(ctx, &rec)
	}
	return err
}

// requestStop writes down that the container is not to be started again. Where
// there is no room to write, its monitor is told: removing a container is how
// one gets room.
func (s *Set) requestStop(ctx context.Context, id string) (Record, error) {
	rec, err := s.update(ctx, id, func(rec *Record) error {
		if rec.Config.Restart.Policy != RestartNo || rec.State.Live() {
			rec.State.StopRequested = true
		}
		return nil
	})
	full := errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
	if monitor := rec.State.Monitor; full && monitor > 0 && monitor != os.Getpid() {
		_ = unix.Kill(monitor, unix.SIGTERM) // it may have just gone
		return rec, nil
	}
	return rec, err
}

// signal sends to the very process that the record means.
func (s *Set) signal(rec *Record, sig unix.Signal) error {
	if rec.State.PID == 0 {
		return nil // between two runs
	}
	fd, err := unix.PidfdOpen(rec.State.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil // it has just ended
	}
	if err != nil {
		return fmt.Errorf("open the process of container %s: %w", rec.Name, err)
	}
	f := os.NewFile(uintptr(fd), rec.Name)
	defer f.Close()
	if rec.target().Check() != nil {
		return nil // it has ended, and the number may be another's
	}
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("send signal %d to container %s: %w", sig, rec.Name, err)
	}
	return nil
}

func (r *Record) stopSignal() unix.Signal {
	sig, err := ParseSignal(cmp.Or(r.Config.StopSignal, "TERM"))
	if err != nil {
		return unix.SIGTERM // what an image says may be anything
	}
	return sig
}

// StopOptions say how a container is stopped.
type StopOptions struct {
	// Timeout is how long it may take before it is killed; negative is the
	// container's own time.
	Timeout time.Duration
	// Signal is sent in place of the container's own; 0 is that.
	Signal unix.Signal
}

// Forever is a stop timeout that does not pass.
const Forever = time.Duration(1<<63 - 1)

func (c *Config) stopTimeout() time.Duration {
	switch {
	case c.StopTimeout == nil:
		return DefaultStopTimeout
	case *c.StopTimeout < 0:
		return Forever
	}
	return *c.StopTimeout
}

// Stop asks a container to end, and kills it when it has not after a while. One
// that does not run stays as it is.
func (s *Set) Stop(ctx context.Context, id string, opt StopOptions) error {
	rec, err := s.Get(id)
	if err != nil || !rec.State.Live() {
		return err
	}
	if opt.Timeout < 0 {
		opt.Timeout = rec.Config.stopTimeout()
	}
	if rec, err = s.requestStop(ctx, id); err != nil {
		return err
	}
	if err := s.thaw(ctx, &rec); err != nil {
		return err
	}
	if err := s.signal(&rec, cmp.Or(opt.Signal, rec.stopSignal())); err != nil {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, opt.Timeout)
	defer cancel()
	err = s.gone(waiting, id)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return s.Kill(ctx, id)
	}
	return err
}

// Kill kills a container, and returns when it has ended. One that does not run
// stays as it is. It may be restarted just now, so it is killed until it ends.
func (s *Set) Kill(ctx context.Context, id string) error {
	for {
		rec, err := s.Get(id)
		if err != nil || !rec.State.Live() {
			return err
		}
		if rec, err = s.requestStop(ctx, id); err != nil {
			return err
		}
		if err := errors.Join(s.thaw(ctx, &rec), s.signal(&rec, unix.SIGKILL)); err != nil {
			return err
		}
		waiting, cancel := context.WithTimeout(ctx, killAgain)
		err = s.gone(waiting, id)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return err
		}
	}
}

// killAgain is how long a container may take to end before it is killed once
// more.
const killAgain = 200 * time.Millisecond

// gone returns when no monitor is in charge of the container any more.
func (s *Set) gone(ctx context.Context, id string) error {
	for s.held(id) {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(poll):
		}
	}
	return nil
}

// Wait waits until a container has ended, and returns how. One that is removed
// then may be gone already.
func (s *Set) Wait(ctx context.Context, id string) (Record, error) {
	exit, err := s.openExit(id)
	if err != nil {
		return Record{}, err
	}
	if exit != nil {
		defer exit.Close()
	}
	rec, err := s.Get(id)
	for err == nil && s.ending(&rec) {
		select {
		case <-ctx.Done():
			return rec, context.Cause(ctx)
		case <-time.After(poll):
		}
		var now Record
		if now, err = s.Get(id); errors.Is(err, ErrNotFound) {
			var left bool
			if rec.State.ExitCode, left, err = readExit(exit); !left {
				rec.State.ExitCode = killedCode // it was removed by force
			}
			return rec, err
		}
		rec = now
	}
	return rec, err
}

// ending tells whether there is something to wait for: an end, and of a
// container that is removed then, that its name is free again.
func (s *Set) ending(rec *Record) bool {
	if rec.State.Status == Exited && !rec.Config.AutoRemove {
		return false
	}
	return rec.State.Live() || s.held(rec.ID)
}
