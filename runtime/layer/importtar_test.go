package layer

import (
	"bytes"
	"errors"
	"os/exec"
	"strings"
	"testing"

	digest "github.com/opencontainers/go-digest"

	"github.com/strata-build/strata/internal/testenv"
)

// A tar is the same layer whatever it is compressed with, and its blob the
// same everywhere.
func TestImportTar(t *testing.T) {
	plain := makeTar(t, entry{name: "./"}, entry{name: "./etc/"}, entry{name: "./etc/hosts", data: strings.Repeat("127.0.0.1 me\n", 1000)})
	var first Info
	for _, tool := range []string{"cat", "gzip", "bzip2", "xz", "zstd"} {
		f := newFixture(t)
		cmd := exec.Command(testenv.Tool(t, tool))
		cmd.Stdin = bytes.NewReader(plain)
		data, err := cmd.Output()
		must(t, err)
		id, err := f.ImportTar(t.Context(), bytes.NewReader(data), Compression{})
		must(t, err)
		info, err := f.Blob(t.Context(), id, Compression{})
		must(t, err)
		if want := digest.FromBytes(plain); info.DiffID != want {
			t.Errorf("%s: the diff ID is %s, want %s", tool, info.DiffID, want)
		}
		if first.DiffID != "" && info.Desc.Digest != first.Desc.Digest {
			t.Errorf("%s: the blob is %s, of others %s", tool, info.Desc.Digest, first.Desc.Digest)
		}
		first = info
		checkBlob(t, f, info)
	}
}

func TestImportTarRefuses(t *testing.T) {
	whole := makeTar(t, entry{name: "a", data: strings.Repeat("x", 5000)})
	gz := packed(t, whole, Compression{Type: Gzip})
	tests := map[string][]byte{
		"nothing":       nil,
		"text":          []byte(strings.Repeat("no tar at all\n", 100)),
		"cut":           whole[:3000],
		"cut gzip":      gz[:len(gz)-20],
		"gzip of text":  packed(t, []byte(strings.Repeat("no tar\n", 200)), Compression{Type: Gzip}),
		"climbing link": makeTar(t, entry{name: "a", kind: '1', link: "../../../etc/passwd"}),
	}
	for name, data := range tests {
		f := newFixture(t)
		_, err := f.ImportTar(t.Context(), bytes.NewReader(data), Compression{})
		if err == nil {
			t.Errorf("%s: it was imported", name)
		}
		if strings.Contains(name, "text") || name == "nothing" {
			if !errors.Is(err, ErrNotTar) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	// An empty tree is a tree.
	if _, err := newFixture(t).ImportTar(t.Context(), bytes.NewReader(makeTar(t)), Compression{}); err != nil {
		t.Errorf("an empty tar: %v", err)
	}
}
