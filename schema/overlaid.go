package schema

import (
	"io/fs"
	"time"
)

// overlaid is the fs.FileInfo of a file that LoadOptions.Overlay gives, or of
// a directory that holds one.
type overlaid struct {
	name string
	size int64
	dir  bool
}

func (o overlaid) Name() string     { return o.name }
func (o overlaid) Size() int64      { return o.size }
func (overlaid) ModTime() time.Time { return time.Time{} }
func (o overlaid) IsDir() bool      { return o.dir }

// Mode has no write permission: nothing is ever written there.
func (o overlaid) Mode() fs.FileMode {
	if o.dir {
		return fs.ModeDir | 0o555
	}
	return 0o444
}

func (overlaid) Sys() any { return nil }
