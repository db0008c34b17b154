package layer

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// maxWindow is the largest zstd window that is accepted: what `zstd --ultra`
// makes without further options.
const maxWindow = 128 << 20

// Decompress returns the uncompressed stream of r, which is gzip, zstd, xz,
// bzip2 or plain, by its first bytes; and the name of what it found, "" for
// plain. Close frees what the decompressor holds, and does not close r.
func Decompress(r io.Reader) (io.ReadCloser, string, error) {
	buffered := bufio.NewReaderSize(r, 64<<10)
	magic, err := buffered.Peek(8)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, "", err
	}
	kind := compressionOf(magic)
	out, err := decompressor(buffered, kind)
	if err != nil {
		return nil, kind, fmt.Errorf("read %s: %w", kind, err)
	}
	return out, kind, nil
}

func decompressor(r *bufio.Reader, kind string) (io.ReadCloser, error) {
	switch kind {
	case "gzip":
		return gzip.NewReader(r)
	case "zstd":
		z, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(2))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	case "xz":
		x, err := xz.NewReader(r)
		if err != nil {
			return nil, err
		}
		return io.NopCloser(x), nil
	case "bzip2":
		return io.NopCloser(bzip2.NewReader(r)), nil
	default:
		return io.NopCloser(r), nil
	}
}

func compressionOf(magic []byte) string {
	for kind, begin := range map[string]string{
		"gzip":  "\x1f\x8b\x08",
		"zstd":  "\x28\xb5\x2f\xfd",
		"xz":    "\xfd7zXZ\x00",
		"bzip2": "BZh",
	} {
		if bytes.HasPrefix(magic, []byte(begin)) {
			return kind
		}
	}
	if len(magic) >= 4 && magic[0]&0xf0 == 0x50 && string(magic[1:4]) == "\x2a\x4d\x18" {
		return "zstd" // a skippable frame
	}
	return ""
}
