package layer

import (
	"archive/tar"
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// TestHeaderIsArchiveTar: our bytes are those of archive/tar.
func TestHeaderIsArchiveTar(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 20000 {
		h := randomHeader(r)
		want, err := archiveTar(h)
		if err != nil {
			t.Fatalf("%+v: %v", h, err)
		}
		got, err := h.appendTo(nil)
		if err != nil {
			t.Fatalf("%+v: %v", h, err)
		}
		if !bytes.Equal(got, want) {
			at := 0
			for at < min(len(got), len(want)) && got[at] == want[at] {
				at++
			}
			t.Fatalf("header %d %+v: %d bytes, want %d; they differ from byte %d", i, h, len(got), len(want), at)
		}
	}
}

func archiveTar(h *header) ([]byte, error) {
	var buf bytes.Buffer
	std := tar.Header{
		Typeflag: h.typeflag, Name: h.name, Linkname: h.link, Mode: h.mode, Uid: int(h.uid), Gid: int(h.gid), Size: h.size,
		ModTime: time.Unix(h.mtime, 0), Devmajor: h.major, Devminor: h.minor, Format: tar.FormatPAX,
	}
	for attr, value := range h.xattrs {
		if std.PAXRecords == nil {
			std.PAXRecords = map[string]string{}
		}
		std.PAXRecords[xattrRecord+attr] = value
	}
	err := tar.NewWriter(&buf).WriteHeader(&std)
	return buf.Bytes(), err
}

func randomHeader(r *rand.Rand) *header {
	pick := func(values ...int64) int64 { return values[r.IntN(len(values))] }
	types := []byte{typeRegular, typeLink, typeSymlink, typeChar, typeBlock, typeDirectory, typeFIFO}
	h := &header{
		name:     randomName(r),
		typeflag: types[r.IntN(len(types))],
		mode:     r.Int64N(0o10000),
		uid:      pick(0, 1000, 1<<21-1, 1<<21, 4294967294),
		gid:      pick(0, 1000, 1<<21-1, 1<<21),
		mtime:    pick(0, 0, 1700000000, 1<<33-1, 1<<33, -1, -5000000000),
	}
	switch h.typeflag {
	case typeRegular:
		h.size = pick(0, 1, 511, 512, 1<<20, 1<<33-1, 1<<33, 1<<40)
	case typeLink, typeSymlink:
		h.link = strings.TrimSuffix(randomName(r), "/")
	case typeChar, typeBlock:
		h.major, h.minor = r.Int64N(1<<12), r.Int64N(1<<20)
	case typeDirectory:
		h.name += "/"
	}
	if r.IntN(3) == 0 {
		h.xattrs = map[string]string{"user.a": strings.Repeat("v", r.IntN(200)), "security.capability": "\x01\x00\n"}
	}
	return h
}

func randomName(r *rand.Rand) string {
	var parts []string
	for range 1 + r.IntN(6) {
		part := strings.Repeat("n", 1+r.IntN(60))
		if r.IntN(10) == 0 {
			part = []string{"ü", "\xff", "new\nline", strings.Repeat("long", 50), "PaxHeaders.0"}[r.IntN(5)]
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, "/")
}

func TestHeaderRefuses(t *testing.T) {
	for _, h := range []*header{
		{name: "f", typeflag: typeRegular, xattrs: map[string]string{"user.a=b": "x"}},
		{name: "f", typeflag: typeRegular, xattrs: map[string]string{"user.a": strings.Repeat("x", 1<<20)}},
	} {
		if _, err := h.appendTo(nil); err == nil {
			t.Errorf("%.50s was written", fmt.Sprint(h))
		}
	}
}

func BenchmarkHeader(b *testing.B) {
	h := &header{name: "usr/share/doc/package/copyright", typeflag: typeRegular, mode: 0o644, size: 5000, mtime: 1700000000}
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := h.appendTo(buf); err != nil {
			b.Fatal(err)
		}
	}
}
