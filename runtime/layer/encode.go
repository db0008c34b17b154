package layer

import (
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"

	digest "github.com/opencontainers/go-digest"
)

// encoded tells what went through an encoder.
type encoded struct {
	diffID digest.Digest
	size   int64 // of the tar
}

// encode runs produce, and compresses what it writes to w in the same pass that
// computes the diff ID.
func encode(ctx context.Context, w io.Writer, c Compression, produce func(io.Writer) error) (encoded, error) {
	e := encoder{ctx: ctx, w: w, c: c, hash: sha256.New()}
	err := produce(&e)
	if err == nil {
		err = e.finish()
	}
	if err != nil {
		return encoded{}, errors.Join(err, e.abandon())
	}
	return encoded{digest.NewDigest(digest.SHA256, e.hash), e.size}, nil
}

// encoder takes a tar. It keeps the beginning, until it is clear whether the
// whole is short.
type encoder struct {
	ctx    context.Context
	w      io.Writer
	c      Compression
	hash   hash.Hash
	size   int64
	held   []byte
	stream io.WriteCloser // once the tar is longer than parallelFrom
}

func (e *encoder) Write(p []byte) (int, error) {
	if err := e.ctx.Err(); err != nil {
		return 0, err
	}
	e.hash.Write(p)
	e.size += int64(len(p))
	if e.stream == nil {
		if len(e.held)+len(p) <= parallelFrom {
			e.held = append(e.held, p...)
			return len(p), nil
		}
		if err := e.begin(); err != nil {
			return 0, err
		}
	}
	return e.stream.Write(p)
}

// begin starts the stream with what was held.
func (e *encoder) begin() error {
	stream, err := e.c.stream(e.w)
	if err != nil {
		return err
	}
	e.stream = stream
	_, err = e.stream.Write(e.held)
	e.held = nil
	return err
}

func (e *encoder) finish() error {
	if e.stream == nil {
		return e.c.compress(e.w, e.held)
	}
	stream := e.stream
	e.stream = nil
	return stream.Close()
}

// abandon ends the compressor's goroutines after a failure.
func (e *encoder) abandon() error {
	if e.stream == nil {
		return nil
	}
	return e.stream.Close()
}
