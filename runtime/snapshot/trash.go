package snapshot

import (
	"context"
	"errors"
	"os"
	"sync"

	"github.com/strata-build/strata/runtime/store/rmtree"
	"golang.org/x/sys/unix"
)

// trash deletes in the background what was renamed into the trash directory.
type trash struct {
	mu      sync.Mutex
	names   []string
	running bool
}

// toTrash renames a directory into the trash, and returns its name there. When
// it is not there the error is os.ErrNotExist.
func (c *core) toTrash(path string) (string, error) {
	name, err := c.ownedName()
	if err != nil {
		return "", err
	}
	if err := unix.Rename(path, c.path(dirTrash, name)); err != nil {
		return "", &os.PathError{Op: "rename into trash", Path: path, Err: err}
	}
	return name, nil
}

// discard removes a directory by way of the trash, and returns when it is
// deleted.
func (c *core) discard(path string) error {
	name, err := c.toTrash(path)
	if err != nil {
		return err
	}
	dir, err := os.Open(c.path(dirTrash))
	if err != nil {
		return err
	}
	return errors.Join(rmtree.Remove(context.Background(), dir, name), dir.Close())
}

// throwAway removes a directory by way of the trash, in the background.
func (c *core) throwAway(path string) error {
	name, err := c.toTrash(path)
	if err != nil {
		return err
	}
	c.trash.mu.Lock()
	defer c.trash.mu.Unlock()
	c.trash.names = append(c.trash.names, name)
	if !c.trash.running {
		c.trash.running = true
		go c.emptyInBackground()
	}
	return nil
}

// emptyInBackground deletes until nothing is left. What cannot be deleted
// stays in the trash, where Reap finds it and reports why.
func (c *core) emptyInBackground() {
	dir, err := os.Open(c.path(dirTrash))
	if err == nil {
		defer dir.Close()
	}
	for {
		names := c.trash.next()
		if names == nil {
			return
		}
		for _, name := range names {
			if err == nil {
				_ = rmtree.Remove(context.Background(), dir, name)
			}
		}
	}
}

// next returns what is to be deleted, or nil when the worker is to end.
func (t *trash) next() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	names := t.names
	t.names = nil
	t.running = names != nil
	return names
}

// emptyTrash deletes everything in the trash, whoever put it there.
func (c *core) emptyTrash(ctx context.Context) error {
	dir, err := os.Open(c.path(dirTrash))
	if err != nil {
		return err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, rmtree.Remove(ctx, dir, name))
	}
	return errors.Join(errs...)
}
