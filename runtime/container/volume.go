package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/strata-build/strata/internal/nearest"
	"github.com/strata-build/strata/runtime/engine"
	"github.com/strata-build/strata/runtime/rootfs"
	"github.com/strata-build/strata/runtime/snapshot"
	"github.com/strata-build/strata/runtime/store"
	"github.com/strata-build/strata/runtime/tree"
)

var (
	// ErrNoVolume says that there is no volume of that name.
	ErrNoVolume = errors.New("no such volume")
	// ErrVolumeInUse says that a container mounts the volume.
	ErrVolumeInUse = errors.New("the volume is in use")
)

// Volume is a directory that containers share and that outlives them.
type Volume struct {
	Name      string
	Created   time.Time
	Anonymous bool
	Labels    map[string]string `json:",omitempty"`
	// Filled is set once it has the files of the first image that it was
	// mounted in.
	Filled bool
}

func clean(target string) string { return path.Clean("/" + target) }

func (s *Set) putVolume(v Volume) error {
	ref := store.Ref(engine.VolumePrefix + v.Name)
	if err := s.e.Store.PutRecord(engine.BucketVolumes, v.Name, v, ref); err != nil {
		return fmt.Errorf("record volume %s: %w", v.Name, err)
	}
	return nil
}

func volumeLock(name string) string { return "volume " + name }

// withVolume runs fn while nobody else makes, fills or removes the volume.
func (s *Set) withVolume(ctx context.Context, name string, fn func(v *Volume, exists bool) error) error {
	if err := checkName("volume", name); err != nil {
		return err
	}
	lock, err := s.e.Store.Lock(ctx, volumeLock(name))
	if err != nil {
		return err
	}
	v := Volume{Name: name}
	exists, err := s.e.Store.GetRecord(engine.BucketVolumes, name, &v)
	if err == nil {
		err = fn(&v, exists)
	}
	return errors.Join(err, s.releaseVolume(lock, name))
}

// releaseVolume gives a volume's lock back, and removes it with the volume.
func (s *Set) releaseVolume(lock *store.Lock, name string) error {
	var v Volume
	exists, err := s.e.Store.GetRecord(engine.BucketVolumes, name, &v)
	if exists || err != nil {
		return errors.Join(err, lock.Unlock())
	}
	return lock.Remove()
}

// CreateVolume makes a volume, if there is none of that name. One without a
// name gets a random one.
func (s *Set) CreateVolume(ctx context.Context, name string, labels map[string]string) (Volume, error) {
	v := Volume{Name: name, Labels: labels}
	if name == "" {
		v.Name, v.Anonymous = newID(), true
	}
	if _, err := s.makeVolume(ctx, v); err != nil {
		return Volume{}, err
	}
	return s.Volume(v.Name)
}

// ensureVolume makes a volume where there is none.
func (s *Set) ensureVolume(ctx context.Context, name string, anonymous bool) (made bool, err error) {
	return s.makeVolume(ctx, Volume{Name: name, Anonymous: anonymous})
}

func (s *Set) makeVolume(ctx context.Context, like Volume) (made bool, err error) {
	err = s.withVolume(ctx, like.Name, func(v *Volume, exists bool) error {
		if exists {
			return nil
		}
		*v = like
		dir, err := s.VolumeDir(v.Name)
		if err != nil {
			return err
		}
		if err := s.own(engine.VolumePrefix, v.Name, func() error { return os.MkdirAll(dir, 0o755) }); err != nil {
			return err
		}
		v.Created, made = time.Now().UTC(), true
		return s.putVolume(*v)
	})
	return made, err
}

// VolumeDir is where a volume's files are.
func (s *Set) VolumeDir(name string) (string, error) {
	if err := checkName("volume", name); err != nil {
		return "", err
	}
	dir, err := s.e.Volumes()
	return filepath.Join(dir, name), err
}

// Volume returns the volume of that name.
func (s *Set) Volume(name string) (Volume, error) {
	v := Volume{Name: name}
	ok, err := s.e.Store.GetRecord(engine.BucketVolumes, name, &v)
	if err != nil || ok {
		return v, err
	}
	all, err := s.Volumes()
	if err != nil {
		return v, err
	}
	var names []string
	for _, v := range all {
		names = append(names, v.Name)
	}
	if near := nearest.Name(name, names); near != "" {
		return v, fmt.Errorf("%s: %w; did you mean %s?", name, ErrNoVolume, near)
	}
	return v, fmt.Errorf("%s: %w; `strata volume ls` lists them", name, ErrNoVolume)
}

// Volumes lists the volumes by name.
func (s *Set) Volumes() ([]Volume, error) {
	var all []Volume
	for entry, err := range s.e.Store.Records(engine.BucketVolumes) {
		if err != nil {
			return nil, fmt.Errorf("list volumes: %w", err)
		}
		var v Volume
		if err := entry.Decode(&v); err != nil {
			return nil, fmt.Errorf("list volumes: %s: %w", entry.Key, err)
		}
		all = append(all, v)
	}
	slices.SortFunc(all, func(a, b Volume) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// RemoveVolume removes a volume with its files, unless a container uses it.
func (s *Set) RemoveVolume(ctx context.Context, name string) error {
	return s.withVolume(ctx, name, func(_ *Volume, exists bool) error {
		if !exists {
			return fmt.Errorf("%s: %w", name, ErrNoVolume)
		}
		users, err := s.VolumeUsers(name)
		if err != nil {
			return err
		}
		if len(users) > 0 {
			return fmt.Errorf("%s: %w by the container %s: remove that first", name, ErrVolumeInUse, strings.Join(users, ", "))
		}
		if err := s.e.Store.DeleteRecord(engine.BucketVolumes, name); err != nil {
			return err
		}
		dir, err := s.e.Volumes()
		if err != nil {
			return err
		}
		return removeBelow(dir, name)
	})
}

// VolumeSize is how many bytes the files of a volume have.
func (s *Set) VolumeSize(ctx context.Context, name string) (int64, error) {
	dir, err := s.VolumeDir(name)
	if err != nil {
		return 0, err
	}
	size, _, err := snapshot.Usage(ctx, dir, s.e.Layers.Format())
	if errors.Is(err, os.ErrNotExist) {
		return 0, fmt.Errorf("%s: %w", name, ErrNoVolume)
	}
	return size, err
}

// VolumeUsers names the containers that mount a volume.
func (s *Set) VolumeUsers(name string) ([]string, error) {
	var users []string
	for entry, err := range s.e.Store.Records(engine.BucketContainers) {
		if err != nil {
			return nil, fmt.Errorf("list containers: %w", err)
		}
		var rec Record
		if err := entry.Decode(&rec); err != nil {
			return nil, fmt.Errorf("list containers: %s: %w", entry.Key, err)
		}
		if slices.ContainsFunc(rec.Config.Mounts, func(m Mount) bool { return m.Type == MountVolume && m.Source == name }) {
			users = append(users, rec.Name)
		}
	}
	return users, nil
}

// fill gives a volume that is mounted for the first time, and is empty, what
// the image has at the target, with the owner and mode of that directory.
func (s *Set) fill(ctx context.Context, m Mount, root *rootfs.Root) error {
	return s.withVolume(ctx, m.Source, func(v *Volume, exists bool) error {
		if !exists {
			return fmt.Errorf("%s: %w", m.Source, ErrNoVolume)
		}
		if v.Filled || m.NoCopy {
			return nil
		}
		dir, err := s.VolumeDir(m.Source)
		if err != nil {
			return err
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
			return err
		}
		if err := copyInto(ctx, dir, root, m.Target); err != nil {
			err = fmt.Errorf("fill volume %s from the image's %s: %w", m.Source, m.Target, err)
			return errors.Join(err, emptyDir(dir)) // a part would be taken for the whole
		}
		v.Filled = true
		return s.putVolume(*v)
	})
}

func emptyDir(dir string) error {
	entries, err := os.ReadDir(dir)
	errs := []error{err}
	for _, e := range entries {
		errs = append(errs, removeBelow(dir, e.Name()))
	}
	return errors.Join(errs...)
}

// copyInto copies a directory of a root; where it is none, there is nothing to
// copy.
func copyInto(ctx context.Context, dir string, root *rootfs.Root, target string) error {
	from, err := root.Sub(target)
	if err != nil {
		return nil //nolint:nilerr // the mount point is made later, or refused there
	}
	defer from.Close()
	to, err := rootfs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(tree.Copy(ctx, to, from), to.Close())
}
