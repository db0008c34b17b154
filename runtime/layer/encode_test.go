package layer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/klauspost/compress/gzip"
	digest "github.com/opencontainers/go-digest"

	"github.com/strata-build/strata/internal/testenv"
)

// compressible returns bytes that compress to about a half, in a mix of kinds.
func compressible(n int) []byte {
	r := rng(n)
	data := make([]byte, 0, n+4096)
	for len(data) < n {
		switch r.IntN(4) {
		case 0:
			data = append(data, bytes.Repeat([]byte{byte(r.IntN(256))}, r.IntN(2000))...)
		case 1:
			for range r.IntN(2000) {
				data = append(data, byte(r.IntN(256)))
			}
		case 2:
			if len(data) > 5000 {
				at := r.IntN(len(data) - 4000)
				data = append(data, data[at:at+r.IntN(4000)]...)
			}
		default:
			data = fmt.Appendf(data, "line %d of %d\n", r.IntN(100), r.IntN(10000))
		}
	}
	return data[:n]
}

// TestEncodeIsDeterministic: the bytes depend on the content alone, neither on
// the number of cores nor on the pieces it comes in nor on what was compressed
// before.
func TestEncodeIsDeterministic(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	compressions := []Compression{{}, {Level: 6}, {Type: Zstd}, {Type: Zstd, Level: 7}, {Type: None}}
	for _, size := range []int{0, 1000, parallelFrom, parallelFrom + 1, 3<<20 + 12345} {
		data := compressible(size)
		for _, c := range compressions {
			first := digest.Digest("")
			for _, procs := range []int{1, 2} {
				runtime.GOMAXPROCS(procs)
				for _, piece := range []int{997, 3 << 20} {
					got := encodePieces(t, data, c, piece)
					if first == "" {
						first = got
					}
					if got != first {
						t.Errorf("%d bytes, %+v, %d cores, pieces of %d: other bytes", size, c, procs, piece)
					}
				}
			}
		}
	}
}

func encodePieces(t *testing.T, data []byte, c Compression, piece int) digest.Digest {
	t.Helper()
	var out bytes.Buffer
	made, err := encode(t.Context(), &out, mustNormal(t, c), func(w io.Writer) error {
		for rest := data; len(rest) > 0; {
			n := min(piece, len(rest))
			if _, err := w.Write(rest[:n]); err != nil {
				return err
			}
			rest = rest[n:]
		}
		return nil
	})
	must(t, err)
	if made.diffID != digest.FromBytes(data) || made.size != int64(len(data)) {
		t.Errorf("diff ID %s of %d bytes", made.diffID, made.size)
	}
	return digest.FromBytes(out.Bytes())
}

// TestEncodedBytes pins the bytes themselves: an image's digests must not change
// with a new version of a library unnoticed.
func TestEncodedBytes(t *testing.T) {
	data := compressible(2<<20 + 1)
	for c, want := range map[Compression]string{
		{}:                     "994465b4b78649c79df85cefa7dfa384601703f92ce487e02b12aca93133af1b",
		{Type: Zstd}:           "2a6ab5d297995812699e70ab4b566dd042fcce6a112ab452004b0cbbdb57cd81",
		{Type: Gzip, Level: 6}: "93d16930eedf8303de77307f168335657a2c799b464161022765dd047138a5f2",
	} {
		if got := encodePieces(t, data, c, 1<<20).Encoded(); got != want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

func TestGzipHeader(t *testing.T) {
	for _, size := range []int{10, 3 << 20} {
		r, err := gzip.NewReader(bytes.NewReader(packed(t, compressible(size), Compression{})))
		must(t, err)
		if r.Name != "" || r.ModTime.Unix() != 0 || r.Comment != "" || len(r.Extra) > 0 {
			t.Errorf("%d bytes: %+v", size, r.Header)
		}
	}
}

func TestEncodeFails(t *testing.T) {
	for _, size := range []int{10, 3 << 20} {
		for _, c := range []Compression{{}, {Type: Zstd}, {Type: None}} {
			produce := func(w io.Writer) error { _, err := w.Write(compressible(size)); return err }
			if _, err := encode(t.Context(), brokenWriter{}, mustNormal(t, c), produce); !errors.Is(err, errBroken) {
				t.Errorf("%d bytes, %+v: a writer that fails: %v", size, c, err)
			}
			if _, err := encode(t.Context(), io.Discard, mustNormal(t, c), func(w io.Writer) error {
				return errors.Join(produce(w), errBroken)
			}); !errors.Is(err, errBroken) {
				t.Errorf("%d bytes, %+v: a producer that fails: %v", size, c, err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := encode(ctx, io.Discard, mustNormal(t, c), produce); !errors.Is(err, context.Canceled) {
				t.Errorf("%d bytes, %+v: cancelled: %v", size, c, err)
			}
		}
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }

// TestDecompress reads what the usual programs write.
func TestDecompress(t *testing.T) {
	data := compressible(300000)
	file := filepath.Join(t.TempDir(), "data")
	must(t, os.WriteFile(file, data, 0o600))
	for name, args := range map[string][]string{
		"gzip": {"gzip", "-c"}, "bzip2": {"bzip2", "-c"}, "xz": {"xz", "-c"}, "zstd": {"zstd", "-c", "-q", "--ultra", "-22", "--long=27"}, "": {"cat"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := exec.Command(testenv.Tool(t, args[0]), append(args[1:], file)...).Output()
			must(t, err)
			r, kind, err := Decompress(bytes.NewReader(out))
			must(t, err)
			got, err := io.ReadAll(r)
			if kind != name || !bytes.Equal(got, data) || err != nil {
				t.Errorf("%q: %d bytes, %v", kind, len(got), err)
			}
			must(t, r.Close())
		})
	}
}

// TestDecompressParts: several frames, and frames to skip.
func TestDecompressParts(t *testing.T) {
	skip := []byte("\x53\x2a\x4d\x18\x03\x00\x00\x00abc")
	for _, c := range []Compression{{}, {Type: Zstd}} {
		one := packed(t, []byte("hello "), c)
		stream := append(append([]byte{}, one...), one...)
		if c.Type == Zstd {
			stream = append(append(append([]byte{}, skip...), stream...), skip...)
		}
		r, _, err := Decompress(bytes.NewReader(stream))
		must(t, err)
		got, err := io.ReadAll(r)
		if string(got) != "hello hello " || err != nil {
			t.Errorf("%+v: %q, %v", c, got, err)
		}
	}
	for _, text := range []string{"", "x", "\x1f", "\x28\xb5"} {
		r, kind, err := Decompress(bytes.NewReader([]byte(text)))
		must(t, err)
		if got, err := io.ReadAll(r); string(got) != text || kind != "" || err != nil {
			t.Errorf("%q: %q, %q, %v", text, got, kind, err)
		}
	}
}

func FuzzDecompress(f *testing.F) {
	for _, c := range []Compression{{}, {Type: Zstd}, {Type: None}} {
		f.Add(packed(f, compressible(3000), c))
	}
	f.Add([]byte("\xfd7zXZ\x00"))
	f.Add([]byte("BZh91AY&SY"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, _, err := Decompress(bytes.NewReader(data))
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, io.LimitReader(r, 10<<20))
		_ = r.Close() // says again what the reading said
	})
}

func TestReadAhead(t *testing.T) {
	data := compressible(3 << 20)
	r := newReadAhead(bytes.NewReader(data))
	got, err := io.ReadAll(r)
	if !bytes.Equal(got, data) || err != nil {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	must(t, r.Close())
	failing := newReadAhead(io.MultiReader(bytes.NewReader(data), errorReader{}))
	if n, err := io.Copy(io.Discard, failing); n != int64(len(data)) || !errors.Is(err, errBroken) {
		t.Errorf("%d bytes, %v", n, err)
	}
	must(t, failing.Close())
	unread := newReadAhead(zeroReader{})
	must(t, unread.Close()) // ends although nobody reads
	must(t, unread.Close())
}
