package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/strata-build/strata/runtime/snapshot"
)

// mountPointsID is the layer below every container's image. It holds what is
// mounted upon in every container: an image that lacks /proc or /etc/hosts
// gets it from there, and not in the tree of the container's own changes,
// where `diff` and `commit` would find it.
const mountPointsID = "mountpoints1"

// mountPoints makes that layer where it is missing.
func (s *Set) mountPoints(ctx context.Context) (string, error) {
	if s.e.Layers.Have(mountPointsID) {
		return mountPointsID, s.e.Store.LeaseMade(snapshot.Ref(mountPointsID))
	}
	key := "container mount points " + newID()
	dir, err := s.e.Snapshots.NewLayer(ctx, key)
	if err != nil {
		return "", fmt.Errorf("make mount points: %w", err)
	}
	if err := makePoints(dir); err != nil {
		return "", errors.Join(s.e.Store.Explain(err), s.e.Snapshots.Remove(ctx, key))
	}
	if err := s.e.Snapshots.Commit(ctx, mountPointsID, key); err != nil && !errors.Is(err, snapshot.ErrExists) {
		return "", fmt.Errorf("make mount points: %w", err)
	}
	return mountPointsID, nil
}

func makePoints(root string) error {
	for _, dir := range []string{"dev", "proc", "sys", "etc"} {
		path := filepath.Join(root, dir)
		// The second sets what the umask took.
		if err := errors.Join(os.Mkdir(path, 0o755), os.Chmod(path, 0o755)); err != nil {
			return err
		}
	}
	for _, file := range []string{"etc/hosts", "etc/hostname", "etc/resolv.conf"} {
		path := filepath.Join(root, file)
		if err := errors.Join(os.WriteFile(path, nil, 0o644), os.Chmod(path, 0o644)); err != nil {
			return err
		}
	}
	return nil
}
