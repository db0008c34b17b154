package layer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
)

// ErrNotTar says that a stream is no tar.
var ErrNotTar = errors.New("it is not a tar archive")

// ImportTar makes a layer of a tar that stands for itself, such as that of a
// root file system, and returns its id. The tar may be compressed; the layer
// is the tar's, whatever the compression: the diff ID is that of the tar as it
// is, with its own times and order. The process leases layer and blob.
func (s *Store) ImportTar(ctx context.Context, r io.Reader, c Compression) (string, error) {
	c, err := c.normal()
	if err != nil {
		return "", err
	}
	plain, kind, err := Decompress(r)
	if err != nil {
		return "", fmt.Errorf("import tar: %w", err)
	}
	made, desc, err := s.write(ctx, c, nil, func(w io.Writer) error { return copyTar(w, plain) })
	if closeErr := plain.Close(); err == nil { // which says the same again
		err = closeErr
	}
	if err != nil {
		if kind != "" {
			return "", fmt.Errorf("import %s-compressed tar: %w", kind, err)
		}
		return "", fmt.Errorf("import tar: %w", err)
	}
	return s.Import(ctx, ImportRequest{Desc: desc, DiffID: made.diffID})
}

// copyTar copies a tar; what is none is found out before it is kept. An empty
// tar is two blocks of zeros.
func copyTar(w io.Writer, r io.Reader) error {
	buffered := bufio.NewReaderSize(r, tarBuffer)
	head, err := buffered.Peek(tarBlock)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if len(head) < tarBlock || !tarHead(head) {
		return ErrNotTar
	}
	_, err = io.CopyBuffer(writerOnly{w}, buffered, make([]byte, tarBuffer))
	return err
}

const tarBlock = 512

// tarHead reports whether a block is a tar header by its checksum, or all
// zeros.
func tarHead(block []byte) bool {
	const at, end = 148, 156 // where the header has its checksum
	var sum, stored int64
	for i, b := range block {
		if i >= at && i < end {
			b = ' '
		}
		sum += int64(b)
	}
	zeros := true
	for _, b := range block[at:end] {
		zeros = zeros && b == 0
		if b >= '0' && b <= '7' {
			stored = stored<<3 | int64(b-'0')
		}
	}
	return zeros && sum == (end-at)*' ' || stored == sum
}
