package store

import "context"

// DropLocks removes the files of locks that nobody holds, as Collect does.
func DropLocks(ctx context.Context, s *Store) error { return s.dropLocks(ctx) }
