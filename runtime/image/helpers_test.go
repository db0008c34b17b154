package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/name"
	memory "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	digest "github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/runtime/layer"
	"github.com/strata-build/strata/runtime/registry"
	"github.com/strata-build/strata/runtime/store"
)

// server is an in-memory registry that counts and can misbehave.
type server struct {
	host string
	next http.Handler

	mu       sync.Mutex
	requests []string
	fault    func(w http.ResponseWriter, r *http.Request) bool
}

func newServer(t testing.TB) *server {
	t.Helper()
	s := &server{next: memory.New(memory.Logger(log.New(io.Discard, "", 0)))}
	ts := httptest.NewServer(s)
	t.Cleanup(ts.Close)
	s.host = strings.TrimPrefix(ts.URL, "http://")
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.Method+" "+r.URL.Path)
	fault := s.fault
	s.mu.Unlock()
	if fault == nil || !fault(w, r) {
		s.next.ServeHTTP(w, r)
	}
}

func (s *server) misbehave(f func(w http.ResponseWriter, r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault, s.requests = f, nil
}

func (s *server) count(part string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, r := range s.requests {
		if strings.Contains(r, part) {
			n++
		}
	}
	return n
}

// fakeLayers reads what it is given to unpack, and keeps the bytes.
type fakeLayers struct {
	mu       sync.Mutex
	imported map[digest.Digest][]byte // by blob
	needs    map[digest.Digest]bool   // layers that ask for their parents
	parents  map[digest.Digest][]string
}

func newFakeLayers() *fakeLayers {
	return &fakeLayers{imported: map[digest.Digest][]byte{}, needs: map[digest.Digest]bool{}, parents: map[digest.Digest][]string{}}
}

// Import implements Layers. The id is the blob's digest in hex.
func (f *fakeLayers) Import(ctx context.Context, req layer.ImportRequest) (string, error) {
	r, err := req.Open(ctx)
	if err != nil {
		return "", err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		return "", err
	}
	if f.needs[req.Desc.Digest] {
		below, err := req.Parents(ctx)
		if err != nil {
			return "", err
		}
		f.mu.Lock()
		f.parents[req.Desc.Digest] = below
		f.mu.Unlock()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.imported[req.Desc.Digest] = data
	return req.Desc.Digest.Encoded()[:12], nil
}

// setup is an image store with a registry client.
type setup struct {
	*Store
	blobs  *store.Store
	layers *fakeLayers
}

func newSetup(t testing.TB) *setup {
	t.Helper()
	blobs, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { blobs.Close() })
	client, err := registry.New(registry.Options{Backoff: func(int) time.Duration { return 0 }, Attempts: 2})
	if err != nil {
		t.Fatal(err)
	}
	layers := newFakeLayers()
	images := New(Options{Store: blobs, Layers: layers, Registry: client, Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}})
	return &setup{images, blobs, layers}
}

func ref(t testing.TB, s string) reference.Named {
	t.Helper()
	r, err := registry.ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// remoteImage puts a random image into a registry.
func remoteImage(t testing.TB, s *server, repo string, layers int64) v1.Image {
	t.Helper()
	img := randomImage(t, layers, "linux/amd64")
	if err := remote.Write(parse(t, s.host+"/"+repo), img); err != nil {
		t.Fatal(err)
	}
	return img
}

// fakeImage is an image of random layers for a platform.
type fakeImage struct {
	config, manifest []byte
	layers           map[v1.Hash]v1.Layer
}

// RawConfigFile implements partial.CompressedImageCore.
func (f *fakeImage) RawConfigFile() ([]byte, error) { return f.config, nil }

// RawManifest implements partial.CompressedImageCore.
func (f *fakeImage) RawManifest() ([]byte, error) { return f.manifest, nil }

// MediaType implements partial.CompressedImageCore.
func (f *fakeImage) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

// LayerByDigest implements partial.CompressedImageCore.
func (f *fakeImage) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	return f.layers[h], nil
}

func randomImage(t testing.TB, layers int64, platform string) v1.Image {
	t.Helper()
	f := &fakeImage{layers: map[v1.Hash]v1.Layer{}}
	config := ocispec.Image{Platform: platforms.MustParse(platform), RootFS: ocispec.RootFS{Type: "layers"}}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for range layers {
		l, err := random.Layer(2000, types.OCILayer)
		if err != nil {
			t.Fatal(err)
		}
		h, _ := l.Digest()
		diffID, _ := l.DiffID()
		size, _ := l.Size()
		f.layers[h] = l
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.Digest(diffID.String()))
		m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.Digest(h.String()), Size: size})
	}
	f.config = []byte(jsonOf(t, config))
	m.Config = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromBytes(f.config), Size: int64(len(f.config))}
	f.manifest = []byte(jsonOf(t, m))
	img, err := partial.CompressedToImage(f)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// remoteIndex puts an index of random images into a registry, and returns its
// digest.
func remoteIndex(t testing.TB, s *server, repo string, names ...string) digest.Digest {
	t.Helper()
	idx := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	repository := parse(t, s.host+"/"+repo).Context()
	for _, name := range names {
		img := randomImage(t, 2, name)
		d, _ := img.Digest()
		size, _ := img.Size()
		if err := remote.Write(repository.Digest(d.String()), img); err != nil {
			t.Fatal(err)
		}
		p := platforms.MustParse(name)
		idx.Manifests = append(idx.Manifests, ocispec.Descriptor{
			MediaType: ocispec.MediaTypeImageManifest, Digest: digest.Digest(d.String()), Size: size, Platform: &p,
		})
	}
	data := []byte(jsonOf(t, idx))
	if err := remote.Put(parse(t, s.host+"/"+repo), rawManifest(data)); err != nil {
		t.Fatal(err)
	}
	return digest.FromBytes(data)
}

// rawManifest is an index as go-containerregistry puts it.
type rawManifest []byte

// RawManifest implements remote.Taggable.
func (r rawManifest) RawManifest() ([]byte, error) { return r, nil }

// MediaType makes it an index.
func (rawManifest) MediaType() (types.MediaType, error) { return types.OCIImageIndex, nil }

func parse(t testing.TB, s string) name.Reference {
	t.Helper()
	r, err := name.ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// put stores bytes as a blob.
func (s *setup) put(t testing.TB, data []byte) digest.Digest {
	t.Helper()
	d := digest.FromBytes(data)
	if err := s.putBytes(context.Background(), d, data); err != nil {
		t.Fatal(err)
	}
	return d
}

func (s *setup) putJSON(t testing.TB, v any) (digest.Digest, int64) {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return s.put(t, data), int64(len(data))
}

// localImage makes an image of the given layers in the store.
func (s *setup) localImage(t testing.TB, platform ocispec.Platform, layers ...string) ocispec.Descriptor {
	t.Helper()
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Layers: []ocispec.Descriptor{}}
	config := ocispec.Image{Platform: platform, RootFS: ocispec.RootFS{Type: "layers"}}
	for _, content := range layers {
		d := s.put(t, []byte(content))
		m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: d, Size: int64(len(content))})
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, d)
	}
	m.Config.MediaType = ocispec.MediaTypeImageConfig
	m.Config.Digest, m.Config.Size = s.putJSON(t, config)
	d, size := s.putJSON(t, m)
	return ocispec.Descriptor{MediaType: m.MediaType, Digest: d, Size: size}
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

func hexOf(data string) string {
	sum := sha256.Sum256([]byte(data))
	return hex.EncodeToString(sum[:])
}

var amd64 = ocispec.Platform{OS: "linux", Architecture: "amd64"}

// cutAfter hangs up after n bytes of the answer.
type cutAfter struct {
	http.ResponseWriter
	left int
}

func (c *cutAfter) Write(p []byte) (int, error) {
	if len(p) <= c.left {
		c.left -= len(p)
		return c.ResponseWriter.Write(p)
	}
	_, _ = c.ResponseWriter.Write(p[:c.left])
	_ = http.NewResponseController(c.ResponseWriter).Flush()
	panic(http.ErrAbortHandler)
}

// flipped changes the last byte of an answer.
func flipped(w http.ResponseWriter, r *http.Request, next http.Handler) {
	rec := httptest.NewRecorder()
	next.ServeHTTP(rec, r)
	body := bytes.Clone(rec.Body.Bytes())
	body[len(body)-1] ^= 1
	for k, v := range rec.Header() {
		w.Header()[k] = v
	}
	w.WriteHeader(rec.Code)
	fmt.Fprintf(w, "%s", body)
}
