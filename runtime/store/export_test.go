package store

import "context"

// DropLocks removes the files of locks that nobody holds, as Collect does.
func DropLocks(ctx context.Context, s *Store) error { return s.dropLocks(ctx) }

// LockPath is where the file of a lock is.
func LockPath(s *Store, name string) string { return s.lockPath(name) }
