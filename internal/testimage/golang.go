package testimage

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/strata-build/strata/internal/testenv"
)

// Golang is the busybox image with this machine's Go at /usr/local/go.
func Golang(t testing.TB) v1.Image {
	t.Helper()
	out, err := exec.Command(testenv.Tool(t, "go"), "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if err := packGo(&buf, strings.TrimSpace(string(out))); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(buf.Bytes())), nil
	}, tarball.WithCompressionLevel(gzip.BestSpeed))
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(Busybox(t), layer)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// packGo packs what compiling needs: no tests, no documentation.
func packGo(w io.Writer, root string) error {
	tw := tar.NewWriter(w)
	keep := []string{"bin", "pkg", "src", "VERSION", "go.env"}
	for _, name := range keep {
		err := filepath.WalkDir(filepath.Join(root, name), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() && d.Name() == "testdata" {
				return filepath.SkipDir
			}
			if strings.HasSuffix(path, "_test.go") || !d.IsDir() && !d.Type().IsRegular() {
				return nil
			}
			return packFile(tw, root, path, d)
		})
		if err != nil {
			return err
		}
	}
	return tw.Close()
}

func packFile(tw *tar.Writer, root, path string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	rel, err := filepath.Rel(root, path)
	if err != nil {
		return err
	}
	h := &tar.Header{Name: "usr/local/go/" + rel, Mode: int64(info.Mode().Perm()), Typeflag: tar.TypeReg, Size: info.Size()}
	if d.IsDir() {
		h.Typeflag, h.Size, h.Name = tar.TypeDir, 0, h.Name+"/"
	}
	if err := tw.WriteHeader(h); err != nil || d.IsDir() {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(tw, f)
	return err
}
