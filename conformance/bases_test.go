package conformance

import (
	"archive/tar"
	"bytes"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/strata-build/strata/internal/testimage"
)

// pushBases pushes the bases that no Dockerfile can say; others are a case's
// own ../base.Dockerfile.
func (l *lab) pushBases(t *testing.T) {
	t.Helper()
	busybox := testimage.Busybox(t)
	testimage.Push(t, l.registry, "busybox:1", busybox)
	testimage.Push(t, l.registry, "nolayers:1", must(t)(mutate.ConfigFile(empty.Image, &v1.ConfigFile{
		OS: "linux", Architecture: "amd64",
		Config: v1.Config{Env: []string{"FROM_BASE=1"}, Cmd: []string{"base"}, WorkingDir: "/work"},
	})))
	testimage.Push(t, l.registry, "noconfig:1", must(t)(mutate.ConfigFile(oneFile(t, "noconfig"), &v1.ConfigFile{
		OS: "linux", Architecture: "amd64", RootFS: rootFS(t, oneFile(t, "noconfig")),
	})))
	testimage.Push(t, l.registry, "nohistory:1", withoutHistory(t, busybox, oneFile(t, "nohistory")))
	testimage.Push(t, l.registry, "docker-types:1", mutate.ConfigMediaType(
		mutate.MediaType(busybox, types.DockerManifestSchema2), types.DockerConfigJSON))
	l.pushIndex(t, "multi:1", "amd64", "arm64")
	testimage.Push(t, l.registry, "arm64:1", forArchitecture(t, "arm64"))
	l.pushIndex(t, "armonly:1", "arm64")
}

func must(t *testing.T) func(v1.Image, error) v1.Image {
	t.Helper()
	return func(img v1.Image, err error) v1.Image {
		if err != nil {
			t.Fatal(err)
		}
		return img
	}
}

// oneFile is an image with the file /arch that says something.
func oneFile(t *testing.T, text string) v1.Image {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.WriteHeader(&tar.Header{Name: "arch", Mode: 0o644, Size: int64(len(text)), Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return must(t)(testimage.FromTar(buf.Bytes(), v1.Config{}))
}

// withoutHistory puts an image's layers on another's, and drops their history.
func withoutHistory(t *testing.T, base, top v1.Image) v1.Image {
	t.Helper()
	layers, err := top.Layers()
	if err != nil {
		t.Fatal(err)
	}
	img := must(t)(mutate.AppendLayers(base, layers...))
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.History = nil
	return must(t)(mutate.ConfigFile(img, config))
}

func rootFS(t *testing.T, img v1.Image) v1.RootFS {
	t.Helper()
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	return config.RootFS
}

// forArchitecture is an image of another architecture.
func forArchitecture(t *testing.T, arch string) v1.Image {
	t.Helper()
	img := oneFile(t, arch)
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.Architecture = arch
	if arch == "arm64" {
		config.Variant = "v8"
	}
	return must(t)(mutate.ConfigFile(img, config))
}

// pushIndex pushes an image of several architectures.
func (l *lab) pushIndex(t *testing.T, repository string, archs ...string) {
	t.Helper()
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range archs {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        forArchitecture(t, arch),
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
	}
	ref, err := name.ParseReference(l.registry + "/" + repository)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(ref, index); err != nil {
		t.Fatal(err)
	}
}
