package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/cgroup"
)

// freezeLock is held by who freezes a container for a while, or changes whether
// it is paused. The kernel releases it if that process is killed, and then the
// monitor wakes the container.
func freezeLock(id string) string { return "container freeze " + id }

// freezeSignal tells the monitor to look after the freezeLock. Its default is
// to be ignored: a monitor that does not listen is none the worse for it.
const freezeSignal = unix.SIGWINCH

// freeze stops the container's processes until thaw is called, if it has a
// control group: rootless, mostly, it has none. Those of a paused container
// stand already, and will.
func (s *Set) freeze(ctx context.Context, id string) (thaw func() error, err error) {
	lock, err := s.e.Store.Lock(ctx, freezeLock(id))
	if err != nil {
		return nil, err
	}
	group, err := s.freezeLocked(ctx, id)
	if err != nil {
		return nil, errors.Join(err, lock.Remove())
	}
	return func() error {
		if group == nil {
			return lock.Remove()
		}
		return errors.Join(group.Thaw(context.WithoutCancel(ctx)), group.Close(), lock.Remove())
	}, nil
}

// freezeLocked returns the group that is to be thawed, if any.
func (s *Set) freezeLocked(ctx context.Context, id string) (*cgroup.Group, error) {
	rec, err := s.Get(id)
	if err != nil || rec.State.Status != Running || rec.State.Paused {
		return nil, err
	}
	group, err := s.group(&rec)
	if err != nil || group == nil {
		return nil, err
	}
	if monitor := rec.State.Monitor; monitor > 0 {
		_ = unix.Kill(monitor, freezeSignal) // it may have just gone
	}
	if err := group.Freeze(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("pause container %s: %w", rec.Name, err), group.Close())
	}
	return group, nil
}

// wakeAbandoned wakes the container when whoever has frozen it is gone, each
// time that freezeSignal comes, until ctx ends.
func (s *Set) wakeAbandoned(ctx context.Context, id string, signals <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-signals:
			// There is nobody to tell of an error. The next `pause` and
			// `unpause` has it, too.
			_ = s.wakeWhenFree(ctx, id)
		}
	}
}

// wakeWhenFree waits for the freezeLock. It was given back with the container
// awake, or its holder was killed.
func (s *Set) wakeWhenFree(ctx context.Context, id string) error {
	lock, err := s.e.Store.Lock(ctx, freezeLock(id))
	if err != nil {
		return err
	}
	rec, err := s.load(id)
	if err == nil && rec.State.Status == Running && !rec.State.Paused {
		err = s.wake(ctx, &rec)
	}
	return errors.Join(err, lock.Remove())
}

func (s *Set) wake(ctx context.Context, rec *Record) error {
	group, err := s.group(rec)
	if err != nil || group == nil {
		return err
	}
	return errors.Join(group.Thaw(ctx), group.Close())
}

// Freeze stops all processes of a running container; Thaw lets them go on.
func (s *Set) Freeze(ctx context.Context, id string) error { return s.setPaused(ctx, id, true) }

// Thaw lets the processes of a frozen container go on.
func (s *Set) Thaw(ctx context.Context, id string) error { return s.setPaused(ctx, id, false) }

// setPaused waits for a commit that has frozen the container.
func (s *Set) setPaused(ctx context.Context, id string, paused bool) error {
	lock, err := s.e.Store.Lock(ctx, freezeLock(id))
	if err != nil {
		return err
	}
	_, err = s.update(ctx, id, func(rec *Record) error {
		if rec.State.Status != Running || !s.held(id) {
			return fmt.Errorf("%s: %w", rec.Name, ErrNotRunning)
		}
		group, err := s.group(rec)
		if err != nil {
			return err
		}
		if group == nil && rec.State.Cgroup != "" {
			return fmt.Errorf("%s: %w", rec.Name, ErrNotRunning) // any more
		}
		if group == nil {
			return fmt.Errorf("container %s cannot be paused: it has no control group here", rec.Name)
		}
		if paused {
			err = group.Freeze(ctx)
		} else {
			err = group.Thaw(ctx)
		}
		rec.State.Paused = paused
		return errors.Join(err, group.Close())
	})
	return errors.Join(err, lock.Remove())
}

// thaw wakes a paused container, which could not end otherwise.
func (s *Set) thaw(ctx context.Context, rec *Record) error {
	if !rec.State.Paused {
		return nil
	}
	if err := s.Thaw(ctx, rec.ID); !errors.Is(err, ErrNotRunning) {
		return err
	}
	return nil // it has ended meanwhile
}

// attendFreezes begins to wake the container whenever it was left frozen.
func (s *Set) attendFreezes(ctx context.Context, id string) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, freezeSignal)
	go s.wakeAbandoned(ctx, id, signals)
	return func() {
		signal.Stop(signals)
		cancel()
	}
}
