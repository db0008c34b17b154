// Package bounded has readers and writers that end before their stream does: a
// reader with its context, and a writer that keeps only the beginning.
package bounded

import (
	"context"
	"io"
	"strings"
)

// Reader reads from r until the context ends; it then says why that has ended.
func Reader(ctx context.Context, r io.Reader) io.Reader { return &reader{ctx, r} }

type reader struct {
	ctx context.Context
	io.Reader
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.Reader.Read(p)
}

// Head keeps the first Max bytes of what is written to it, and takes the rest as
// well, so that whoever writes goes on.
type Head struct {
	Max  int
	text strings.Builder
}

// Write implements io.Writer.
func (h *Head) Write(p []byte) (int, error) {
	h.text.Write(p[:min(len(p), max(0, h.Max-h.text.Len()))])
	return len(p), nil
}

// String is what was kept.
func (h *Head) String() string { return h.text.String() }
