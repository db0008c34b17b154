package container

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/strata-build/strata/runtime/snapshot"
)

// mountPointsID begins the names of the layers below every container's image.
// They hold what is mounted upon: an image that lacks /proc, /etc/hosts or the
// target of a volume gets it from there, and not in the tree of the container's
// own changes, where `diff` and `commit` would find it.
const mountPointsID = "mountpoints1"

// point is a place to mount upon.
type point struct {
	path string
	file bool
}

// standardPoints are those of every container.
func standardPoints() []point {
	return []point{
		{path: "/dev"}, {path: "/proc"}, {path: "/sys"},
		{"/etc/hosts", true}, {"/etc/hostname", true}, {"/etc/resolv.conf", true},
	}
}

// pointsOf are those of a container's mounts. Below /dev, /proc and /sys lies
// nothing of an image.
func pointsOf(mounts []Mount) []point {
	var points []point
	for _, m := range mounts {
		p := point{clean(m.Target), isFile(m)}
		first, _, _ := strings.Cut(p.path[1:], "/")
		if p.path == "/" || slices.Contains([]string{"dev", "proc", "sys"}, first) {
			continue
		}
		points = append(points, p)
	}
	slices.SortFunc(points, func(a, b point) int { return strings.Compare(a.path, b.path) })
	return points
}

// isFile tells what a target has to be: what a bind's source is.
func isFile(m Mount) bool {
	if m.Type != MountBind {
		return false
	}
	info, err := os.Stat(m.Source)
	return err == nil && !info.IsDir()
}

// layerOf names the layer of some points.
func layerOf(points []point) string {
	if len(points) == 0 {
		return mountPointsID
	}
	h := sha256.New()
	for _, p := range points {
		fmt.Fprintf(h, "%v %q\n", p.file, p.path)
	}
	return mountPointsID + "-" + hex.EncodeToString(h.Sum(nil))
}

// mountPoints makes the layer for a container's mounts where it is missing.
func (s *Set) mountPoints(ctx context.Context, mounts []Mount) (string, error) {
	points := pointsOf(mounts)
	id := layerOf(points)
	if there, err := s.e.Layers.Hold(id); there || err != nil {
		return id, err
	}
	key := "container mount points " + newID()
	dir, err := s.e.Snapshots.NewLayer(ctx, key)
	if err != nil {
		return "", fmt.Errorf("make mount points: %w", err)
	}
	if err := makePoints(dir, append(standardPoints(), points...)); err != nil {
		return "", errors.Join(s.e.Store.Explain(err), s.e.Snapshots.Remove(ctx, key))
	}
	err = s.e.Snapshots.Commit(ctx, id, key)
	if errors.Is(err, snapshot.ErrExists) { // another process was faster
		_, err = s.e.Layers.Hold(id)
	}
	if err != nil {
		return "", fmt.Errorf("make mount points: %w", err)
	}
	return id, nil
}

// makePoints makes the points in an empty directory. Of two that contradict
// each other the first is made; to mount upon the other fails later.
func makePoints(root string, points []point) error {
	for _, p := range points {
		err := makeDirs(root, filepath.Dir(p.path))
		if err == nil && p.file {
			err = emptyFile(filepath.Join(root, p.path))
		} else if err == nil {
			err = makeDirs(root, p.path)
		}
		if err != nil && !errors.Is(err, errContradiction) {
			return err
		}
	}
	return nil
}

var errContradiction = errors.New("something else is there")

func makeDirs(root, path string) error {
	dir := root
	for name := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		dir = filepath.Join(dir, name)
		if info, err := os.Lstat(dir); err == nil {
			if !info.IsDir() {
				return errContradiction
			}
			continue
		}
		// The second sets what the umask took.
		if err := errors.Join(os.Mkdir(dir, 0o755), os.Chmod(dir, 0o755)); err != nil {
			return err
		}
	}
	return nil
}

func emptyFile(path string) error {
	if _, err := os.Lstat(path); err == nil {
		return errContradiction
	}
	return errors.Join(os.WriteFile(path, nil, 0o644), os.Chmod(path, 0o644))
}
