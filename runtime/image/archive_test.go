package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	digest "github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/runtime/store"
)

// tarEntry is one entry of a test archive.
type tarEntry struct {
	name, content, link string
	kind                byte
}

func file(name, content string) tarEntry {
	return tarEntry{name: name, content: content, kind: tar.TypeReg}
}

func link(name, target string) tarEntry {
	return tarEntry{name: name, link: target, kind: tar.TypeSymlink}
}

func tarOf(t testing.TB, entries ...tarEntry) []byte {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Typeflag: e.kind, Linkname: e.link, Size: int64(len(e.content)), Mode: 0o644}
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, e.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func jsonOf(t testing.TB, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func configOf(t testing.TB, layers ...string) string {
	t.Helper()
	img := ocispec.Image{Platform: amd64, RootFS: ocispec.RootFS{Type: "layers"}}
	for _, l := range layers {
		img.RootFS.DiffIDs = append(img.RootFS.DiffIDs, digest.FromString(l))
	}
	return jsonOf(t, img)
}

func gzipOf(t testing.TB, content string) string {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	if _, err := io.WriteString(w, content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.String()
}

// ociArchive makes an OCI layout with one image a named by annotations.
func ociArchive(t testing.TB, annotations map[string]string, layers ...string) map[string]string {
	t.Helper()
	files := map[string]string{"oci-layout": `{"imageLayoutVersion":"1.0.0"}`}
	blob := func(content, kind string) ocispec.Descriptor {
		files["blobs/sha256/"+hexOf(content)] = content
		return ocispec.Descriptor{MediaType: kind, Digest: digest.FromString(content), Size: int64(len(content))}
	}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	m.Config = blob(configOf(t, layers...), ocispec.MediaTypeImageConfig)
	for _, l := range layers {
		m.Layers = append(m.Layers, blob(l, ocispec.MediaTypeImageLayer))
	}
	desc := blob(jsonOf(t, m), ocispec.MediaTypeImageManifest)
	desc.Annotations = annotations
	files["index.json"] = jsonOf(t, ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []ocispec.Descriptor{desc}})
	return files
}

func entriesOf(files map[string]string) []tarEntry {
	var entries []tarEntry
	for _, name := range slices.Sorted(maps.Keys(files)) {
		entries = append(entries, file(name, files[name]))
	}
	return entries
}

// importOne imports an archive of one image, loads it and reads its layers.
func importOne(t testing.TB, archive []byte, layers ...string) Imported {
	t.Helper()
	s := newSetup(t)
	images, err := s.Import(context.Background(), bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	if len(images) != 1 {
		t.Fatalf("imported %+v, want one image", images)
	}
	m, err := s.Load(context.Background(), images[0].Desc, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Unpack(context.Background(), UnpackRequest{Manifest: m}); err != nil {
		t.Fatal(err)
	}
	for i, l := range m.Layers {
		if got := string(s.layers.imported[l.Digest]); got != layers[i] {
			t.Errorf("layer %d is %q, want %q", i, got, layers[i])
		}
	}
	if len(m.Layers) != len(layers) {
		t.Errorf("%d layers, want %d", len(m.Layers), len(layers))
	}
	return images[0]
}

func TestImportOCI(t *testing.T) {
	for name, test := range map[string]struct {
		annotations map[string]string
		names       []string
		tag         string
	}{
		"containerd": {map[string]string{annotationName: "docker.io/library/app:1", ocispec.AnnotationRefName: "1"}, []string{"app:1"}, "1"},
		"full name":  {map[string]string{ocispec.AnnotationRefName: "quay.io/a/b:2"}, []string{"quay.io/a/b:2"}, ""},
		"tag":        {map[string]string{ocispec.AnnotationRefName: "v3"}, nil, "v3"},
		"nothing":    {nil, nil, ""},
		"nonsense":   {map[string]string{annotationName: "../../UPPER CASE"}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			img := importOne(t, tarOf(t, entriesOf(ociArchive(t, test.annotations, "one", "two"))...), "one", "two")
			if !slices.Equal(img.Names, test.names) || img.Tag != test.tag {
				t.Errorf("names %q, tag %q; want %q, %q", img.Names, img.Tag, test.names, test.tag)
			}
		})
	}
}

func TestImportCompressedArchive(t *testing.T) {
	plain := tarOf(t, entriesOf(ociArchive(t, nil, "one"))...)
	importOne(t, []byte(gzipOf(t, string(plain))), "one")
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	importOne(t, enc.EncodeAll(plain, nil), "one")
}

// dockerArchive is what `docker save` wrote up to version 24.
func dockerArchive(t testing.TB, tags []string, layers ...string) []tarEntry {
	t.Helper()
	config := configOf(t, layers...)
	entry := dockerEntry{Config: hexOf(config) + ".json", RepoTags: tags}
	var entries []tarEntry
	for i, l := range layers {
		dir := fmt.Sprintf("%064x", i)
		entries = append(entries, tarEntry{name: dir + "/", kind: tar.TypeDir}, file(dir+"/VERSION", "1.0"), file(dir+"/json", "{}"), file(dir+"/layer.tar", l))
		entry.Layers = append(entry.Layers, dir+"/layer.tar")
	}
	return append(entries, file(entry.Config, config), file("manifest.json", jsonOf(t, []dockerEntry{entry})), file("repositories", "{}"))
}

func TestImportDocker(t *testing.T) {
	entries := dockerArchive(t, []string{"app:1", "quay.io/x/y:2"}, "one", "two")
	img := importOne(t, tarOf(t, entries...), "one", "two")
	if want := []string{"app:1", "quay.io/x/y:2"}; !slices.Equal(img.Names, want) {
		t.Errorf("names %q, want %q", img.Names, want)
	}
	slices.Reverse(entries)
	if again := importOne(t, tarOf(t, entries...), "one", "two"); again.Desc.Digest != img.Desc.Digest {
		t.Error("the order of the archive changes the image")
	}
	if none := importOne(t, tarOf(t, dockerArchive(t, nil, "one")...), "one"); none.Names != nil {
		t.Errorf("names %q of nothing", none.Names)
	}
}

// Layers that are equal are written once by docker, and linked by podman and
// skopeo.
func TestImportLinkedLayers(t *testing.T) {
	config := configOf(t, "one", "one", "two")
	hex := hexOf("one")
	entry := dockerEntry{Config: "c.json", Layers: []string{hex + ".tar", "b/layer.tar", "./d/layer.tar"}}
	entries := []tarEntry{
		link("b/layer.tar", "../a/layer.tar"), link("a/layer.tar", "../"+hex+".tar"), file(hex+".tar", "one"),
		{name: "d/layer.tar", link: "two.tar", kind: tar.TypeLink}, file("two.tar", "two"),
		file("c.json", config), file("manifest.json", jsonOf(t, []dockerEntry{entry})),
	}
	importOne(t, tarOf(t, entries...), "one", "one", "two")
}

func TestImportDockerWithCompressedLayers(t *testing.T) {
	packed := gzipOf(t, "one")
	entry := dockerEntry{Config: "c.json", Layers: []string{"l"}}
	s := newSetup(t)
	images, err := s.Import(context.Background(), bytes.NewReader(tarOf(t,
		file("l", packed), file("c.json", configOf(t, "one")), file("manifest.json", jsonOf(t, []dockerEntry{entry})))))
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.Load(context.Background(), images[0].Desc, nil, nil)
	if err != nil || m.Layers[0].MediaType != ocispec.MediaTypeImageLayerGzip {
		t.Errorf("layers %+v, %v", m.Layers, err)
	}
}

func TestImportSeveralImages(t *testing.T) {
	one, two := configOf(t, "one"), configOf(t, "one", "two")
	entries := []dockerEntry{
		{Config: "1.json", RepoTags: []string{"a:1"}, Layers: []string{"l1"}},
		{Config: "2.json", RepoTags: []string{"b:1"}, Layers: []string{"l1", "l2"}},
		{Config: "1.json", RepoTags: []string{"a:2"}, Layers: []string{"l1"}},
	}
	s := newSetup(t)
	images, err := s.Import(context.Background(), bytes.NewReader(tarOf(t, file("manifest.json", jsonOf(t, entries)),
		file("1.json", one), file("2.json", two), file("l1", "one"), file("l2", "two"))))
	if err != nil || len(images) != 2 || strings.Join(images[0].Names, " ") != "a:1 a:2" || strings.Join(images[1].Names, " ") != "b:1" {
		t.Errorf("imported %+v, %v", images, err)
	}
}

// A modern `docker save` is an OCI layout whose names may be in manifest.json.
func TestImportBothFormats(t *testing.T) {
	files := ociArchive(t, nil, "one")
	config := configOf(t, "one")
	files["manifest.json"] = jsonOf(t, []dockerEntry{{Config: "blobs/sha256/" + hexOf(config), RepoTags: []string{"app:7"}, Layers: []string{"blobs/sha256/" + hexOf("one")}}})
	if img := importOne(t, tarOf(t, entriesOf(files)...), "one"); strings.Join(img.Names, " ") != "app:7" {
		t.Errorf("names %q", img.Names)
	}
}

func TestImportHostileArchives(t *testing.T) {
	good := ociArchive(t, nil, "one")
	changed := func(name, content string) []tarEntry {
		files := maps.Clone(good)
		files[name] = content
		return entriesOf(files)
	}
	without := func(part string) []tarEntry {
		files := maps.Clone(good)
		maps.DeleteFunc(files, func(_, content string) bool { return content == part })
		return entriesOf(files)
	}
	layer := "blobs/sha256/" + hexOf("one")
	docker := func(entry dockerEntry, more ...tarEntry) []tarEntry {
		return append(more, file("c", configOf(t, "one")), file("manifest.json", jsonOf(t, []dockerEntry{entry})))
	}
	for name, test := range map[string]struct {
		entries []tarEntry
		says    string
	}{
		"empty":               {nil, "neither index.json"},
		"rootfs":              {[]tarEntry{file("bin/sh", "x")}, "strata import"},
		"wrong blob":          {changed(layer, "other"), hexOf("one")},
		"missing layer":       {without("one"), hexOf("one")},
		"missing config":      {without(configOf(t, "one")), hexOf(configOf(t, "one"))},
		"blob outside":        {changed("blobs/sha256/../../../etc/passwd", "x"), "neither"},
		"bad blob name":       {changed("blobs/sha256/xyz", "x"), "xyz"},
		"bad algorithm":       {changed("blobs/md5/d41d8cd98f00b204e9800998ecf8427e", ""), "md5"},
		"two indexes":         {append(entriesOf(good), file("./index.json", good["index.json"])), "twice"},
		"index is no json":    {changed("index.json", "{"), "index.json"},
		"bad digest in index": {changed("index.json", `{"manifests":[{"digest":"sha256:../x"}]}`), "sha256:../x"},
		"no images":           {changed("index.json", `{"manifests":[]}`), "no image"},
		"huge index":          {changed("index.json", strings.Repeat(" ", maxDocument+1)), "more than"},
		"manifest no json":    {[]tarEntry{file("manifest.json", "[")}, "manifest.json"},
		"no docker images":    {[]tarEntry{file("manifest.json", "[]")}, "no image"},
		"no such config":      {docker(dockerEntry{Config: "../../etc/passwd"}), "etc/passwd"},
		"no such layer":       {docker(dockerEntry{Config: "c", Layers: []string{"/etc/passwd"}}), "etc/passwd"},
		"link loop":           {docker(dockerEntry{Config: "c", Layers: []string{"l"}}, link("l", "m"), link("m", "l")), "not in the archive"},
		"link out":            {docker(dockerEntry{Config: "c", Layers: []string{"l"}}, link("l", "/etc/passwd")), "not in the archive"},
		"layer is another":    {docker(dockerEntry{Config: "c", Layers: []string{"l"}}, file("l", "two")), hexOf("one")},
		"too many layers":     {docker(dockerEntry{Config: "c", Layers: []string{"l", "l"}}, file("l", "one")), "2 layers"},
		"config no json":      {[]tarEntry{file("c", "{"), file("manifest.json", `[{"Config":"c"}]`)}, "config"},
		"device as layer":     {docker(dockerEntry{Config: "c", Layers: []string{"l"}}, tarEntry{name: "l", kind: tar.TypeBlock}), "not in the archive"},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "blob outside" {
				// It is no blob at all, only a name in a map.
				importOne(t, tarOf(t, test.entries...), "one")
				return
			}
			s := newSetup(t)
			_, err := s.Import(context.Background(), bytes.NewReader(tarOf(t, test.entries...)))
			wantError(t, err, "image archive", test.says)
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrMissing) && !errors.Is(err, store.ErrMismatch) {
				t.Errorf("%v is of no kind", err)
			}
		})
	}
}

func TestImportTruncatedArchive(t *testing.T) {
	whole := tarOf(t, entriesOf(ociArchive(t, nil, "one", strings.Repeat("two", 2000)))...)
	for _, n := range []int{100, 600, 3000, len(whole) - 3000} {
		s := newSetup(t)
		if _, err := s.Import(context.Background(), bytes.NewReader(whole[:n])); err == nil {
			t.Errorf("an archive of %d of %d bytes was accepted", n, len(whole))
		}
	}
}

func TestImportSparseBomb(t *testing.T) {
	// archive/tar writes no sparse files, so the header is made by hand: 1 TiB
	// in no block at all.
	block := make([]byte, 512)
	copy(block, "blobs/sha256/"+hexOf("x"))
	copy(block[100:], "0000644\x00")
	copy(block[124:], "00000000000\x00")
	block[156] = tar.TypeGNUSparse
	copy(block[257:], "ustar  \x00")
	copy(block[483:], "\x80\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00")
	copy(block[148:], "        ")
	sum := 0
	for _, b := range block {
		sum += int(b)
	}
	copy(block[148:], fmt.Sprintf("%06o\x00 ", sum))
	s := newSetup(t)
	_, err := s.Import(context.Background(), bytes.NewReader(append(block, make([]byte, 1024)...)))
	wantError(t, err, "sparse")
}

func FuzzImport(f *testing.F) {
	f.Add(tarOf(f, entriesOf(ociArchive(f, map[string]string{annotationName: "docker.io/library/app:1"}, "one"))...))
	f.Add(tarOf(f, dockerArchive(f, []string{"app:1"}, "one", "two")...))
	f.Add([]byte(gzipOf(f, string(tarOf(f, link("manifest.json", "index.json"), file("index.json", "{}"))))))
	f.Fuzz(func(t *testing.T, data []byte) {
		s := newSetup(t)
		images, err := s.Import(context.Background(), bytes.NewReader(data))
		if err != nil {
			return
		}
		for _, img := range images {
			all, err := s.LoadAll(context.Background(), img.Desc, nil)
			if err != nil || len(all) == 0 {
				t.Errorf("imported image %s cannot be loaded: %v", img.Desc.Digest, err)
			}
			for _, m := range all {
				for _, l := range m.Layers {
					if size, ok := s.blobs.HasBlob(l.Digest); !ok || size != l.Size {
						t.Errorf("layer %s of an imported image is not there", l.Digest)
					}
				}
			}
		}
	})
}
