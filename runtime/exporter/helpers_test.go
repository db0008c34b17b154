package exporter

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/platforms"
	memory "github.com/google/go-containerregistry/pkg/registry"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/runtime/image"
	"github.com/strata-build/strata/runtime/layer"
	"github.com/strata-build/strata/runtime/registry"
	"github.com/strata-build/strata/runtime/store"
	"github.com/strata-build/strata/runtime/tree"
)

// fakeLayers makes blobs of tar files in memory. Layers have no directories:
// what needs those is tested with the real layer store.
type fakeLayers struct {
	store *store.Store
	tars  map[string][]byte

	mu   sync.Mutex
	made int
}

// Blob implements layers.
func (f *fakeLayers) Blob(ctx context.Context, id string, c layer.Compression) (layer.Info, error) {
	data, ok := f.tars[id]
	if !ok {
		return layer.Info{}, fmt.Errorf("no layer %s", id)
	}
	packed, kind := pack(data, c)
	w, err := f.store.NewBlob(ctx)
	if err != nil {
		return layer.Info{}, err
	}
	defer w.Close()
	if _, err := w.Write(packed); err != nil {
		return layer.Info{}, err
	}
	d, size, err := w.Commit(ctx, "", -1)
	f.mu.Lock()
	f.made++
	f.mu.Unlock()
	return layer.Info{DiffID: digest.FromBytes(data), Desc: ocispec.Descriptor{
		MediaType: kind, Digest: d, Size: size, Annotations: map[string]string{"containerd.io/uncompressed": "internal"},
	}}, err
}

// Layer implements layers.
func (f *fakeLayers) Layer(id string) (string, error) {
	return "", fmt.Errorf("layer %s has no directory", id)
}

// Format implements layers.
func (f *fakeLayers) Format() tree.Format { return tree.Format{} }

func pack(data []byte, c layer.Compression) ([]byte, string) {
	var buf bytes.Buffer
	var w io.WriteCloser
	kind := ocispec.MediaTypeImageLayerGzip
	switch c.Type {
	case layer.None:
		return data, ocispec.MediaTypeImageLayer
	case layer.Zstd:
		w, _ = zstd.NewWriter(&buf)
		kind = ocispec.MediaTypeImageLayerZstd
	default:
		w = gzip.NewWriter(&buf)
	}
	_, _ = w.Write(data)
	_ = w.Close()
	return buf.Bytes(), kind
}

// setup is an exporter over a fresh store.
type setup struct {
	*Exporter
	store  *store.Store
	images *image.Store
	layers *fakeLayers
	stdout *bytes.Buffer
	epochs []time.Time
}

func newSetup(t testing.TB) *setup {
	t.Helper()
	st, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	client, err := registry.New(registry.Options{Backoff: func(int) time.Duration { return 0 }})
	if err != nil {
		t.Fatal(err)
	}
	s := &setup{store: st, layers: &fakeLayers{store: st, tars: map[string][]byte{}}, stdout: &bytes.Buffer{}}
	s.images = image.New(image.Options{Store: st, Registry: client})
	s.Exporter = New(Options{
		Store: st, Images: s.images, Stdout: s.stdout, DockerHost: "unix:///nonexistent/docker.sock",
	})
	s.at = func(epoch time.Time) layers {
		s.epochs = append(s.epochs, epoch)
		return s.layers
	}
	return s
}

// newRegistry starts an in-memory registry.
func newRegistry(t testing.TB) string {
	t.Helper()
	ts := httptest.NewServer(memory.New(memory.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(ts.Close)
	return strings.TrimPrefix(ts.URL, "http://")
}

// addLayer makes a layer of one file.
func (s *setup) addLayer(t testing.TB, id, name, content string) string {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	if err := tw.WriteHeader(&tar.Header{Name: name, Size: int64(len(content)), Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(tw, content); err != nil {
		t.Fatal(err)
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	s.layers.tars[id] = buf.Bytes()
	return id
}

// platformImage makes an image of two layers for a platform.
func (s *setup) platformImage(t testing.TB, platform string) PlatformImage {
	t.Helper()
	p := platforms.MustParse(platform)
	id := strings.ReplaceAll(platform, "/", "-")
	return PlatformImage{
		Platform: p,
		Layers:   []string{s.addLayer(t, "base-"+id, "etc/os", "base for "+platform), s.addLayer(t, "app-"+id, "app", strings.Repeat("app ", 5000))},
		Config:   mustJSON(t, map[string]any{"os": p.OS, "architecture": p.Architecture, "variant": p.Variant, "config": map[string]any{"Cmd": []string{"/app"}, "Healthcheck": map[string]any{"Test": []string{"NONE"}}}}),
	}
}

func (s *setup) image(t testing.TB, platforms ...string) Image {
	t.Helper()
	img := Image{Names: []string{"app:1"}}
	for _, p := range platforms {
		img.Platforms = append(img.Platforms, s.platformImage(t, p))
	}
	return img
}

// export parses outputs and exports.
func (s *setup) export(t testing.TB, img Image, outputs ...string) (Result, error) {
	t.Helper()
	var parsed []Output
	for _, o := range outputs {
		out, err := ParseOutput(o)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, out)
	}
	return s.Export(context.Background(), img, parsed, nil)
}

func (s *setup) mustExport(t testing.TB, img Image, outputs ...string) Result {
	t.Helper()
	result, err := s.export(t, img, outputs...)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// blob reads a blob of the store.
func (s *setup) blob(t testing.TB, d digest.Digest, v any) {
	t.Helper()
	b, err := s.store.OpenBlob(d)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	data, err := io.ReadAll(b)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatalf("%s: %v", data, err)
	}
}

func mustJSON(t testing.TB, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func wantError(t testing.TB, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want one with %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q lacks %q", err, part)
		}
	}
}
