package image

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/containerd/platforms"
	digest "github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// localIndex makes an index of one-layer images; "" is a platform that the
// index does not name.
func (s *setup) localIndex(t testing.TB, names ...string) ocispec.Descriptor {
	t.Helper()
	idx := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, name := range names {
		p := amd64
		if name != "" {
			p = platforms.MustParse(name)
		}
		desc := s.localImage(t, p, "layer for "+name)
		if name != "" {
			desc.Platform = &p
		}
		idx.Manifests = append(idx.Manifests, desc)
	}
	idx.Manifests = append(idx.Manifests, ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("attestation"), Size: 11,
		Platform: &ocispec.Platform{OS: "unknown", Architecture: "unknown"},
	})
	d, size := s.putJSON(t, idx)
	return ocispec.Descriptor{MediaType: idx.MediaType, Digest: d, Size: size}
}

func TestLoadChoosesPlatform(t *testing.T) {
	s := newSetup(t)
	idx := s.localIndex(t, "linux/arm/v5", "linux/arm/v6", "linux/arm64", "linux/amd64", "linux/s390x", "windows/amd64")
	for want, got := range map[string]string{
		"linux/amd64": "linux/amd64", "linux/arm64": "linux/arm64", "linux/arm64/v8": "linux/arm64",
		"linux/arm/v7": "linux/arm/v6", "linux/arm/v6": "linux/arm/v6", "linux/arm/v5": "linux/arm/v5",
		"linux/386": "", "linux/riscv64": "", "windows/amd64": "windows/amd64",
	} {
		p := platforms.MustParse(want)
		m, err := s.Load(context.Background(), idx, &p, nil)
		if got == "" {
			if !errors.Is(err, ErrNoPlatform) {
				t.Errorf("%s: %v", want, err)
			}
			wantError(t, err, want, "linux/s390x", "linux/arm/v6")
			continue
		}
		if err != nil || platforms.Format(m.Platform()) != got {
			t.Errorf("%s: got %s, %v; want %s", want, platforms.Format(m.Platform()), err, got)
		}
	}
	if m, err := s.Load(context.Background(), idx, nil, nil); err != nil || platforms.Format(m.Platform()) != "linux/amd64" {
		t.Errorf("the default platform: %+v, %v", m, err)
	}
}

func TestLoadTakesUnnamedPlatformLast(t *testing.T) {
	s := newSetup(t)
	p := platforms.MustParse("linux/s390x")
	m, err := s.Load(context.Background(), s.localIndex(t, "", "linux/s390x"), &p, nil)
	if err != nil || m.Platform().Architecture != "s390x" {
		t.Errorf("got %+v, %v", m.Platform(), err)
	}
	if _, err := s.Load(context.Background(), s.localIndex(t, "", "linux/arm64"), &p, nil); err != nil {
		t.Errorf("the unnamed one was not taken: %v", err)
	}
}

// A descriptor may say only the digest; the loaded image says the rest.
func TestLoadByDigestOnly(t *testing.T) {
	s := newSetup(t)
	desc := s.localImage(t, amd64, "a", "b")
	m, err := s.Load(context.Background(), ocispec.Descriptor{Digest: desc.Digest}, nil, nil)
	if err != nil || m.Desc.MediaType != desc.MediaType || m.Desc.Size != desc.Size || len(m.Layers) != 2 {
		t.Errorf("got %+v, %v", m.Desc, err)
	}
}

func TestMalformedManifests(t *testing.T) {
	good := `{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:` + hexOf("{}") + `","size":2}`
	for name, doc := range map[string]string{
		"no json":          `{`,
		"nothing":          `{}`,
		"null":             `null`,
		"array":            `[]`,
		"both kinds":       `{"config":` + good + `,"layers":[],"manifests":[]}`,
		"layers and index": `{"layers":[],"manifests":[]}`,
		"schema 1":         `{"schemaVersion":1,"fsLayers":[{"blobSum":"sha256:0"}]}`,
		"bad digest":       `{"config":{"digest":"sha256:../../x","size":1},"layers":[]}`,
		"other algorithm":  `{"config":{"digest":"md5:d41d8cd98f00b204e9800998ecf8427e","size":1},"layers":[]}`,
		"negative size":    `{"config":` + good + `,"layers":[{"digest":"sha256:` + hexOf("x") + `","size":-1}]}`,
		"other media type": `{"mediaType":"application/vnd.oci.image.index.v1+json","config":` + good + `,"layers":[]}`,
		"diff ids missing": `{"config":` + good + `,"layers":[{"digest":"sha256:` + hexOf("x") + `","size":1}]}`,
	} {
		s := newSetup(t)
		s.put(t, []byte("{}"))
		d := s.put(t, []byte(doc))
		_, err := s.Load(context.Background(), ocispec.Descriptor{Digest: d, Size: int64(len(doc)), MediaType: ocispec.MediaTypeImageManifest}, nil, nil)
		if !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNestingIsBounded(t *testing.T) {
	s := newSetup(t)
	desc := s.localImage(t, amd64, "x")
	for range 20 {
		idx := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{desc}}
		d, size := s.putJSON(t, idx)
		desc = ocispec.Descriptor{MediaType: idx.MediaType, Digest: d, Size: size}
	}
	if _, err := s.Load(context.Background(), desc, nil, nil); !errors.Is(err, ErrMalformed) {
		t.Errorf("Load: %v", err)
	}
	if _, err := s.LoadAll(context.Background(), desc, nil); !errors.Is(err, ErrMalformed) {
		t.Errorf("LoadAll: %v", err)
	}
}

// A document that the disk damaged is fetched again where there is a source.
func TestDamagedDocumentIsFetchedAgain(t *testing.T) {
	s, srv := newSetup(t), newServer(t)
	img := remoteImage(t, srv, "a/b:1", 1)
	d, _ := img.Digest()
	desc := ocispec.Descriptor{Digest: digest.Digest(d.String())}
	src := s.RegistrySource(ref(t, srv.host+"/a/b:1"))
	if _, err := s.Load(context.Background(), desc, nil, src); err != nil {
		t.Fatal(err)
	}
	path, err := s.blobs.BlobPath(desc.Digest)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damage(t, path, strings.Replace(string(data), "sha256", "sha257", 1))
	if _, err := s.Load(context.Background(), desc, nil, nil); err == nil {
		t.Error("the damage was not seen")
	}
	if _, err := s.Load(context.Background(), desc, nil, src); err != nil {
		t.Errorf("with a source: %v", err)
	}
}

func damage(t testing.TB, path, content string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o444); err != nil {
		t.Fatal(err)
	}
}

func FuzzDocument(f *testing.F) {
	f.Add([]byte(`{"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"digest":"sha256:x","size":1},"layers":[{}]}`))
	f.Add([]byte(`{"manifests":[{"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","platform":{"os":"linux","architecture":"arm","variant":"v7"}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		doc, err := parseDocument(ocispec.Descriptor{Digest: digest.FromBytes(data)}, data)
		if err != nil {
			return
		}
		if doc.isIndex() == (doc.blobs() != nil) {
			t.Error("it is not exactly one of manifest and index")
		}
		if doc.isIndex() {
			_, _ = choose(doc, amd64)
		}
		for _, d := range append(doc.blobs(), doc.Manifests...) {
			if d.Digest.Validate() != nil || d.Size < 0 {
				t.Errorf("descriptor %+v was let through", d)
			}
		}
		if _, err := json.Marshal(doc.desc); err != nil {
			t.Error(err)
		}
	})
}
