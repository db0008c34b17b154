package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/strata-build/strata/internal/nearest"
	"github.com/strata-build/strata/runtime/engine"
	"github.com/strata-build/strata/runtime/rootfs"
	"github.com/strata-build/strata/runtime/snapshot"
	"github.com/strata-build/strata/runtime/store"
)

// Set is the containers of a store. It is safe for concurrent use, also by
// several processes.
type Set struct{ e *engine.Engine }

// New returns the containers of an engine's store.
func New(e *engine.Engine) *Set { return &Set{e} }

// Engine is the engine whose store they are in.
func (s *Set) Engine() *engine.Engine { return s.e }

// The locks of a container: a monitor holds its run lock as long as it lives;
// the edit lock is held from reading a record until writing it.
func runLock(id string) string  { return "container run " + id }
func editLock(id string) string { return "container edit " + id }

// namesLock is held while a name is given.
const namesLock = "container names"

// refs are what a record keeps from collection.
func (r *Record) refs() []store.Ref {
	refs := []store.Ref{snapshot.KeptRef(r.ID), engine.ContainerPrefix + store.Ref(r.ID), store.BlobRef(r.Image.Manifest.Digest)}
	for _, blob := range r.Image.Blobs {
		refs = append(refs, store.BlobRef(blob))
	}
	for _, id := range r.Image.Layers {
		refs = append(refs, snapshot.Ref(id))
	}
	return refs
}

func (s *Set) put(rec *Record) error {
	if err := s.e.Store.PutRecord(engine.BucketContainers, rec.ID, rec, rec.refs()...); err != nil {
		return fmt.Errorf("record container %s: %w", rec.ShortID(), err)
	}
	return nil
}

// update changes a record under its edit lock.
func (s *Set) update(ctx context.Context, id string, change func(*Record) error) (Record, error) {
	lock, err := s.e.Store.Lock(ctx, editLock(id))
	if err != nil {
		return Record{}, err
	}
	rec, err := s.load(id)
	if err == nil {
		if err = change(&rec); err == nil {
			err = s.put(&rec)
		}
	}
	return rec, errors.Join(err, lock.Unlock())
}

// load reads a record as it was written.
func (s *Set) load(id string) (Record, error) {
	var rec Record
	ok, err := s.e.Store.GetRecord(engine.BucketContainers, id, &rec)
	if err != nil {
		return rec, fmt.Errorf("read container %s: %w", id, err)
	}
	if !ok {
		return rec, fmt.Errorf("%s: %w", id, ErrNotFound)
	}
	return rec, nil
}

// Get returns a container as it is now.
func (s *Set) Get(id string) (Record, error) {
	rec, err := s.load(id)
	if err == nil {
		err = s.settle(&rec)
	}
	return rec, err
}

// settle corrects the state of a container whose monitor died, or could not
// write down how it ended. The monitor
// wrote the record while it held the run lock, so a record read before the
// lock was seen free may just be old: it is read again, and may be gone.
func (s *Set) settle(rec *Record) error {
	if !rec.State.Live() || s.held(rec.ID) {
		return nil
	}
	now, err := s.load(rec.ID)
	if err != nil {
		return err
	}
	*rec = now
	if !rec.State.Live() || s.held(rec.ID) {
		return nil
	}
	code, left, err := s.leftExit(rec.ID)
	if err != nil {
		return err
	}
	why := "its end could not be written down, as its disk was full"
	if !left {
		code, why = killedCode, "its monitor process was killed, and the container with it"
	}
	rec.State = State{
		Status: Exited, ExitCode: code, StartedAt: rec.State.StartedAt, FinishedAt: rec.State.FinishedAt,
		Restarts: rec.State.Restarts, Cgroup: rec.State.Cgroup, Error: why,
	}
	return nil
}

// killedCode is the exit code of what SIGKILL has ended.
const killedCode = 128 + 9

func (s *Set) held(id string) bool {
	_, held := s.e.Store.Holder(runLock(id))
	return held
}

// List returns all containers, the newest first. What remained of containers
// with AutoRemove whose monitor died is removed on the way.
func (s *Set) List(ctx context.Context) ([]Record, error) {
	var all []Record
	for entry, err := range s.e.Store.Records(engine.BucketContainers) {
		if err != nil {
			return nil, fmt.Errorf("list containers: %w", err)
		}
		var rec Record
		if err := entry.Decode(&rec); err != nil {
			return nil, fmt.Errorf("list containers: %s: %w", entry.Key, err)
		}
		switch err := s.settle(&rec); {
		case errors.Is(err, ErrNotFound):
			continue // since it was listed
		case err != nil:
			return nil, err
		}
		if s.abandoned(&rec) {
			if err := s.Remove(ctx, rec.ID, RemoveOptions{Volumes: true}); err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrRunning) {
				return nil, err
			}
			continue
		}
		all = append(all, rec)
	}
	slices.SortFunc(all, func(a, b Record) int { return b.Created.Compare(a.Created) })
	return all, nil
}

// abandoned tells whether a container has run and should have been removed. One
// that has never run waits for its start, unless who was to start it is gone.
func (s *Set) abandoned(rec *Record) bool {
	if !rec.Config.AutoRemove || s.held(rec.ID) {
		return false
	}
	pending := rec.Pending && rec.State.Status == Created
	return rec.State.Status == Exited || pending && time.Since(rec.Created) > startGrace
}

// startGrace is how long `run` may take from making a container to starting it.
const startGrace = time.Minute

// Find returns the container that a user means: by name, id, or a unique
// beginning of an id.
func (s *Set) Find(ctx context.Context, name string) (Record, error) {
	if len(name) == 64 && isID(name) {
		return s.Get(name)
	}
	all, err := s.List(ctx)
	if err != nil {
		return Record{}, err
	}
	return choose(all, strings.TrimPrefix(name, "/"))
}

func choose(all []Record, name string) (Record, error) {
	if name == "" {
		return Record{}, errors.New("an empty name is no container's")
	}
	var found []Record
	for _, rec := range all {
		if rec.Name == name {
			return rec, nil
		}
		if isID(name) && strings.HasPrefix(rec.ID, name) {
			found = append(found, rec)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return Record{}, unknown(all, name)
	}
	return Record{}, fmt.Errorf("%s stands for several containers: give more of the id", name)
}

// Near returns the name of a container that is spelled like another name; there
// may be none.
func (s *Set) Near(ctx context.Context, name string) ([]string, error) {
	all, err := s.List(ctx)
	if err != nil {
		return nil, err
	}
	if near := near(all, name); near != "" {
		return []string{near}, nil
	}
	return nil, nil
}

func near(all []Record, name string) string {
	names := make([]string, len(all))
	for i, rec := range all {
		names[i] = rec.Name
	}
	return nearest.Name(name, names)
}

// unknown says which container was probably meant.
func unknown(all []Record, name string) error {
	if near := near(all, name); near != "" {
		return fmt.Errorf("%s: %w; did you mean %s?", name, ErrNotFound, near)
	}
	return fmt.Errorf("%s: %w; `strata ps -a` lists them", name, ErrNotFound)
}

// dir is the container's directory.
func (s *Set) dir(id string) (string, error) {
	if err := store.ValidName(id); err != nil {
		return "", fmt.Errorf("container: %w", err)
	}
	dir, err := s.e.Containers()
	return filepath.Join(dir, id), err
}

// RemoveOptions say how a container is removed.
type RemoveOptions struct {
	// Force kills a running container first.
	Force bool
	// Volumes removes its anonymous volumes too.
	Volumes bool
}

// Remove removes a container with all that it has written. A running one is
// ErrRunning unless it is forced.
func (s *Set) Remove(ctx context.Context, id string, opt RemoveOptions) error {
	lock, err := s.claim(ctx, id, opt.Force)
	if err != nil {
		return err
	}
	if err := s.remove(ctx, id, opt.Volumes); err != nil {
		return errors.Join(err, lock.Unlock())
	}
	return lock.Remove()
}

// claim takes the run lock of a container that does not run, or is killed for
// it. One that is just starting or ending is waited for.
func (s *Set) claim(ctx context.Context, id string, force bool) (*store.Lock, error) {
	for {
		if force {
			if err := s.Kill(ctx, id); err != nil {
				return nil, err
			}
		}
		lock, ok, err := s.e.Store.TryLock(runLock(id))
		if err != nil || ok {
			return lock, err
		}
		rec, err := s.Get(id)
		if err != nil {
			return nil, err
		}
		if rec.State.Live() && !force {
			return nil, fmt.Errorf("%s: %w: stop it first, or use -f", rec.Name, ErrRunning)
		}
		if err := s.pause(ctx, id); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
	}
}

// remove removes what belongs to a container; the caller holds its run lock.
// The record goes first: what is left after a crash falls to collection.
func (s *Set) remove(ctx context.Context, id string, volumes bool) error {
	lock, err := s.e.Store.Lock(ctx, editLock(id))
	if err != nil {
		return err
	}
	rec, err := s.load(id)
	if err == nil {
		err = s.e.Store.DeleteRecord(engine.BucketContainers, id)
	}
	if err != nil {
		return errors.Join(err, lock.Unlock())
	}
	errs := []error{s.removeGroup(ctx, &rec), s.e.Snapshots.DropKept(id), s.removeDir(id), lock.Remove()}
	if volumes {
		for _, m := range rec.Config.Mounts {
			if m.Anonymous {
				errs = append(errs, s.RemoveVolume(ctx, m.Source))
			}
		}
	}
	errs = slices.DeleteFunc(errs, func(err error) bool {
		return errors.Is(err, snapshot.ErrNotFound) || errors.Is(err, ErrNoVolume) || errors.Is(err, ErrVolumeInUse)
	})
	return errors.Join(errs...)
}

func (s *Set) removeDir(id string) error {
	dir, err := s.e.Containers()
	if err != nil {
		return err
	}
	return removeBelow(dir, id)
}

// removeBelow removes a directory without following a link in it.
func removeBelow(dir, name string) error {
	root, err := rootfs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(root.RemoveAll(name), root.Close())
}

// removeGroup removes the control group that a killed monitor left.
func (s *Set) removeGroup(ctx context.Context, rec *Record) error {
	if rec.State.Cgroup == "" {
		return nil
	}
	group, err := s.group(rec)
	if group == nil || err != nil {
		return err
	}
	return errors.Join(group.Kill(ctx), group.Delete(ctx), group.Close())
}

// Rename gives a container another name.
func (s *Set) Rename(ctx context.Context, id, name string) error {
	if err := checkName("container", name); err != nil {
		return err
	}
	lock, err := s.e.Store.Lock(ctx, namesLock)
	if err != nil {
		return err
	}
	if rec, loadErr := s.load(id); loadErr == nil && rec.Name == name {
		return errors.Join(fmt.Errorf("container %s has that name already", name), lock.Unlock())
	}
	err = s.free(ctx, name)
	if err == nil {
		_, err = s.update(ctx, id, func(rec *Record) error { rec.Name = name; return nil })
	}
	return errors.Join(err, lock.Unlock())
}

// free says whether a name can be given; the caller holds the names lock.
func (s *Set) free(ctx context.Context, name string) error {
	names, err := s.names()
	if err != nil || !names[name] {
		return err
	}
	// What was to be removed goes now, and its name with it.
	all, err := s.List(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(all, func(rec Record) bool { return rec.Name == name })
	if i >= 0 {
		return fmt.Errorf("%q: %w by container %s: remove it (`strata rm %s`), or choose another", name, ErrNameInUse, all[i].ShortID(), name)
	}
	return nil
}

// names are those in use, read without a look at what each container does.
func (s *Set) names() (map[string]bool, error) {
	names := map[string]bool{}
	for entry, err := range s.e.Store.Records(engine.BucketContainers) {
		if err != nil {
			return nil, fmt.Errorf("list containers: %w", err)
		}
		var rec struct{ Name string }
		if err := entry.Decode(&rec); err != nil {
			return nil, fmt.Errorf("list containers: %s: %w", entry.Key, err)
		}
		names[rec.Name] = true
	}
	return names, nil
}

// makeDir makes a container's directory.
func (s *Set) makeDir(id string) error {
	dir, err := s.dir(id)
	if err != nil {
		return err
	}
	return s.own(engine.ContainerPrefix, id, func() error { return os.Mkdir(dir, 0o700) })
}

// own makes a directory that a collection leaves alone as long as this process
// lives: the record that refers to it comes later.
func (s *Set) own(prefix, id string, mkdir func() error) error {
	return s.e.Store.Acquire(func() error {
		if err := s.e.Store.LeaseMade(store.Ref(prefix + id)); err != nil {
			return err
		}
		return s.e.Store.Explain(mkdir())
	})
}
