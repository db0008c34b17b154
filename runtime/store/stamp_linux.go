package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Stamp says when something was put in place, as far as power loss is
// concerned: in which boot, and before which Sync. It is short enough for a
// symbolic link to hold it.
type Stamp string

// boot is this boot of the machine, and the file that counts its Syncs.
type boot struct {
	id string
	f  *os.File
	// last is 1 + the generation of this process's last stamp; 0 is none.
	last atomic.Uint64
	// synced caches the generation up to which an earlier boot was synced.
	synced sync.Map
}

// generationWidth makes all contents of the generation file equally long, so
// that overwriting is one write.
const generationWidth = 20

func (b *boot) open(s *Store, id string) error {
	if id == "" {
		text, err := os.ReadFile(bootIDFile)
		if err != nil {
			return fmt.Errorf("identify this boot: %w", err)
		}
		id = strings.TrimSpace(string(text))
	}
	if err := ValidName(id); err != nil {
		return fmt.Errorf("identify this boot: %w", err)
	}
	b.id = id
	f, err := os.OpenFile(s.path(dirBoots, id), os.O_RDWR|os.O_CREATE, 0o600)
	b.f = f
	return s.Explain(err)
}

func (b *boot) close() error { return b.f.Close() }

// generation reads the current generation; the shared lock must be held.
func (b *boot) generation() (uint64, error) {
	buf := make([]byte, generationWidth)
	n, err := b.f.ReadAt(buf, 0)
	if n == 0 {
		return 0, nil // no Sync yet in this boot
	}
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(string(buf), 10, 64)
}

func (b *boot) setGeneration(g uint64) error {
	_, err := b.f.WriteAt(fmt.Appendf(nil, "%0*d", generationWidth, g), 0)
	return err
}

// BootID returns the id of this boot of the machine.
func (s *Store) BootID() string { return s.boot.id }

// Stamped runs fn under the shared lock (see Acquire). What fn puts in place
// and marks with the stamp counts until the machine stops, and beyond it if a
// Sync follows. The content may have been written before; the stamp must be
// written to where its content is in one step, such as a rename.
func (s *Store) Stamped(fn func(Stamp) error) error {
	return s.Acquire(func() error {
		g, err := s.boot.generation()
		if err != nil {
			return fmt.Errorf("read generation of boot %s: %w", s.boot.id, err)
		}
		s.boot.note(g)
		return fn(Stamp(s.boot.id + "." + strconv.FormatUint(g, 10)))
	})
}

func (b *boot) note(g uint64) {
	for {
		last := b.last.Load()
		if last > g || b.last.CompareAndSwap(last, g+1) {
			return
		}
	}
}

// Trusts reports whether no power loss can have damaged what carries the
// stamp.
func (s *Store) Trusts(stamp Stamp) bool {
	i := strings.LastIndexByte(string(stamp), '.')
	if i < 0 {
		return false
	}
	id := string(stamp[:i])
	if id == s.boot.id {
		return true
	}
	g, err := strconv.ParseUint(string(stamp[i+1:]), 10, 64)
	return err == nil && ValidName(id) == nil && g < s.syncedBefore(id)
}

// syncedBefore returns the first generation of a boot that no Sync covers.
func (s *Store) syncedBefore(id string) uint64 {
	if n, ok := s.boot.synced.Load(id); ok && id != s.boot.id {
		return n.(uint64)
	}
	var n uint64
	text, err := os.ReadFile(s.syncedPath(id))
	if err == nil {
		g, perr := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
		if perr == nil {
			n = g + 1
		}
	}
	s.boot.synced.Store(id, n)
	return n
}

func (s *Store) syncedPath(id string) string { return s.path(dirBoots, id+".synced") }

// Unsynced reports whether this process put something in place that no Sync
// covers yet.
func (s *Store) Unsynced() bool { return s.boot.last.Load() > s.syncedBefore(s.boot.id) }

// Sync writes everything that anybody made before the call to the disk, and
// marks it as good for all later boots. It may take as long as the disk
// needs: call it when nobody waits.
func (s *Store) Sync(ctx context.Context) error {
	var want uint64
	err := s.Acquire(func() (err error) {
		want, err = s.boot.generation()
		return err
	})
	if err != nil {
		return fmt.Errorf("sync store: %w", err)
	}
	l, err := s.Lock(ctx, "store sync")
	if err != nil {
		return fmt.Errorf("sync store: %w", err)
	}
	if s.syncedBefore(s.boot.id) <= want {
		err = s.syncNow(ctx)
	}
	if err := errors.Join(err, l.Unlock()); err != nil {
		return fmt.Errorf("sync store: %w", err)
	}
	return nil
}

// syncNow begins a new generation, and then writes the old one. The order
// matters: nobody can stamp the old generation while it is written.
func (s *Store) syncNow(ctx context.Context) error {
	var old uint64
	err := s.exclusively(ctx, func() (err error) {
		if old, err = s.boot.generation(); err != nil {
			return err
		}
		return s.boot.setGeneration(old + 1)
	})
	if err != nil {
		return err
	}
	root, err := os.Open(s.root)
	if err != nil {
		return err
	}
	if err := errors.Join(unix.Syncfs(int(root.Fd())), root.Close()); err != nil {
		return &os.PathError{Op: "syncfs", Path: s.root, Err: err}
	}
	if err := s.writeDurably(s.syncedPath(s.boot.id), fmt.Appendf(nil, "%d\n", old)); err != nil {
		return err
	}
	return removeFile(s.unsyncedPath())
}

func (s *Store) unsyncedPath() string { return s.path(dirBoots, s.boot.id+".unsynced") }

// noteUnsynced leaves a note that there is something to sync, for SyncDue.
func (s *Store) noteUnsynced() error {
	if !s.Unsynced() {
		return nil
	}
	f, err := os.OpenFile(s.unsyncedPath(), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("close store: %w", err)
	}
	return f.Close()
}

// SyncDue reports whether something that an earlier process made waits for a
// Sync, and has waited for so long that the kernel has written it by now: the
// Sync is then quick, and no command has to wait for the disk.
func (s *Store) SyncDue(wait time.Duration) bool {
	info, err := os.Stat(s.unsyncedPath())
	return err == nil && time.Since(info.ModTime()) > wait
}
