package exporter

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/klauspost/compress/zstd"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// layoutOf exports to an OCI directory and validates it with
// go-containerregistry.
func (s *setup) layoutOf(t testing.TB, img Image, more string) (string, Result) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "oci")
	result := s.mustExport(t, img, "type=oci,tar=false,dest="+dir+more)
	validLayout(t, dir, result.Desc.Digest)
	return dir, result
}

func validLayout(t testing.TB, dir string, want digest.Digest) {
	t.Helper()
	idx, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	m, err := idx.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(idx); err != nil {
		t.Error(err)
	}
	if !slices.ContainsFunc(m.Manifests, func(d v1.Descriptor) bool { return d.Digest.String() == want.String() }) {
		t.Errorf("index.json does not have %s", want)
	}
}

func TestImagesAreValid(t *testing.T) {
	for _, more := range []string{"", ",oci-mediatypes=false", ",annotation.x=y"} {
		s := newSetup(t)
		s.layoutOf(t, s.image(t, "linux/amd64"), more)
		s.layoutOf(t, s.image(t, "linux/amd64", "linux/arm64", "linux/arm/v7"), more)
	}
	s := newSetup(t)
	s.layoutOf(t, Image{Platforms: []PlatformImage{{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}}}}, "")
}

// go-containerregistry validates gzip layers only; the others are compared
// with the layers themselves.
func TestOtherCompressionsAreValid(t *testing.T) {
	for _, kind := range []string{"zstd", "uncompressed"} {
		s := newSetup(t)
		img := s.image(t, "linux/amd64")
		result := s.mustExport(t, img, "type=oci,dest=-,compression="+kind)
		var m ocispec.Manifest
		s.blob(t, result.Desc.Digest, &m)
		var config ocispec.Image
		s.blob(t, m.Config.Digest, &config)
		for i, l := range m.Layers {
			b, err := s.store.OpenBlob(l.Digest)
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(b)
			if err != nil {
				t.Fatal(err)
			}
			if kind == "zstd" {
				dec, _ := zstd.NewReader(nil)
				if data, err = dec.DecodeAll(data, nil); err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(data, s.layers.tars[img.Platforms[0].Layers[i]]) || config.RootFS.DiffIDs[i] != digest.FromBytes(data) {
				t.Errorf("%s: layer %d is another", kind, i)
			}
		}
	}
}

// The digest is the same on every machine. It is pinned: it changes only when
// it is meant to.
func TestDigestIsReproducible(t *testing.T) {
	for _, platforms := range [][]string{{"linux/amd64"}, {"linux/amd64", "linux/arm64"}} {
		var seen []string
		for range 2 {
			s := newSetup(t)
			result := s.mustExport(t, s.image(t, platforms...), "type=oci,dest=-")
			seen = append(seen, result.Desc.Digest.String()+string(s.stdout.Bytes()))
		}
		if seen[0] != seen[1] {
			t.Errorf("%v: two stores, two results", platforms)
		}
	}
	s := newSetup(t)
	result := s.mustExport(t, s.image(t, "linux/amd64"), "type=oci,dest=-,compression=uncompressed")
	if want := "sha256:9dffc54effa4f535093ee4c21e36c456a83131c4496126433c64afb33bfad9a6"; result.Desc.Digest.String() != want {
		t.Errorf("digest %s, want %s", result.Desc.Digest, want)
	}
}

func TestMediaTypes(t *testing.T) {
	for more, want := range map[string][]string{
		"":                      {ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, ocispec.MediaTypeImageLayerGzip},
		",oci-mediatypes=false": {dockerManifest, dockerConfig, dockerLayerGzip},
		",compression=zstd":     {ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, ocispec.MediaTypeImageLayerZstd},
		",compression=uncompressed,oci-mediatypes=false": {dockerManifest, dockerConfig, dockerLayer},
	} {
		s := newSetup(t)
		result := s.mustExport(t, s.image(t, "linux/amd64"), "type=oci,dest=-"+more)
		var m ocispec.Manifest
		s.blob(t, result.Desc.Digest, &m)
		if got := []string{m.MediaType, m.Config.MediaType, m.Layers[0].MediaType}; !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", more, got, want)
		}
		if m.Layers[0].Annotations != nil {
			t.Errorf("the store's notes are in the manifest: %v", m.Layers[0].Annotations)
		}
	}
}

func TestLayerTypesAreConverted(t *testing.T) {
	for _, test := range []struct{ in, oci, docker string }{
		{dockerLayerGzip, ocispec.MediaTypeImageLayerGzip, dockerLayerGzip},
		{dockerLayer, ocispec.MediaTypeImageLayer, dockerLayer},
		{"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", ocispec.MediaTypeImageLayerGzip, dockerLayerGzip},
		{"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", ocispec.MediaTypeImageLayerGzip, dockerLayerGzip},
		{"application/vnd.oci.image.layer.v1.tar+zstd", ocispec.MediaTypeImageLayerZstd, ""},
		{"text/plain", "", ""},
	} {
		for kind, want := range map[Type]string{OCI: test.oci, Docker: test.docker} {
			got, err := layerDescriptor(ocispec.Descriptor{MediaType: test.in, Digest: "sha256:x", Size: 1}, Output{Type: kind})
			if want == "" && err == nil || want != "" && got.MediaType != want {
				t.Errorf("%s for %s: %s, %v; want %s", test.in, kind, got.MediaType, err, want)
			}
		}
	}
}

func history(entries ...string) []ocispec.History {
	var list []ocispec.History
	for _, e := range entries {
		what, when, _ := strings.Cut(e, "@")
		h := ocispec.History{CreatedBy: strings.TrimSuffix(what, "-"), EmptyLayer: strings.HasSuffix(what, "-")}
		if when != "" {
			t, err := time.Parse(time.DateOnly, when)
			if err != nil {
				panic(err)
			}
			h.Created = &t
		}
		list = append(list, h)
	}
	return list
}

// show writes history as it is written above.
func show(list []ocispec.History) []string {
	var out []string
	for _, h := range list {
		s := h.CreatedBy
		if h.EmptyLayer {
			s += "-"
		}
		if h.Created != nil {
			s += "@" + h.Created.Format(time.DateOnly)
		}
		out = append(out, s)
	}
	return out
}

func TestHistory(t *testing.T) {
	base := history("base@2020-05-05", "CMD-@2020-05-06")
	epoch := time.Date(2021, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, test := range map[string]struct {
		given  []ocispec.History
		base   []ocispec.History
		layers int
		want   []string
	}{
		"nothing":               {nil, nil, 0, nil},
		"none for two layers":   {nil, nil, 2, []string{"step 0@2021-01-01", "created by strata@2021-01-01"}},
		"as it should be":       {history("a", "b-", "c"), nil, 2, []string{"a@2021-01-01", "b-@2021-01-01", "c@2021-01-01"}},
		"too much":              {history("a", "b", "c"), nil, 1, []string{"a@2021-01-01", "b-@2021-01-01", "c-@2021-01-01"}},
		"too little":            {history("a", "b-"), nil, 2, []string{"a@2021-01-01", "b-@2021-01-01", "created by strata@2021-01-01"}},
		"later than the epoch":  {history("a@2024-01-01", "b@2019-01-01"), nil, 2, []string{"a@2021-01-01", "b@2019-01-01"}},
		"base keeps its times":  {slices.Concat(base, history("RUN", "ENV-")), base, 2, []string{"base@2020-05-05", "CMD-@2020-05-06", "RUN@2021-01-01", "ENV-@2021-01-01"}},
		"metadata after a base": {slices.Concat(base, history("ENV-")), base, 1, []string{"base@2020-05-05", "CMD-@2020-05-06", "ENV-@2020-05-06"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := alignHistory(test.given, PlatformImage{Descriptions: []string{"step 0"}}, test.layers, epoch)
			clampHistory(got, ocispec.Image{History: test.base}, epoch)
			if diff := cmp.Diff(test.want, show(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A base image from after the epoch keeps its history, since nobody rewrites
// its layers.
func TestBaseHistoryAfterEpoch(t *testing.T) {
	base := history("base@2030-05-05")
	got := alignHistory(slices.Concat(base, history("RUN")), PlatformImage{}, 2, time.Unix(0, 0).UTC())
	clampHistory(got, ocispec.Image{History: base}, time.Unix(0, 0).UTC())
	if want := []string{"base@2030-05-05", "RUN@1970-01-01"}; !slices.Equal(show(got), want) {
		t.Errorf("got %q, want %q", show(got), want)
	}
}

func TestConfigTimes(t *testing.T) {
	for name, test := range map[string]struct {
		created string
		epoch   time.Time
		more    string
		want    string
	}{
		"default epoch":        {`"2024-01-01T00:00:00Z"`, time.Time{}, "", `"1970-01-01T00:00:00Z"`},
		"build's epoch":        {`"2024-01-01T00:00:00Z"`, time.Unix(86400, 0), "", `"1970-01-02T00:00:00Z"`},
		"output's epoch":       {`"2024-01-01T00:00:00Z"`, time.Unix(86400, 0), ",source-date-epoch=172800", `"1970-01-03T00:00:00Z"`},
		"earlier than epoch":   {`"1969-01-01T00:00:00.000Z"`, time.Time{}, "", `"1969-01-01T00:00:00.000Z"`},
		"from the last step":   {"", time.Unix(5, 0), "", `"1970-01-01T00:00:05Z"`},
		"null stays":           {"null", time.Time{}, "", "null"},
		"zone makes no change": {`"2024-01-01T00:00:00Z"`, time.Unix(86400, 0).In(time.FixedZone("x", 3600)), "", `"1970-01-02T00:00:00Z"`},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSetup(t)
			img := s.image(t, "linux/amd64")
			img.Epoch = test.epoch
			config := map[string]json.RawMessage{"os": []byte(`"linux"`), "architecture": []byte(`"amd64"`)}
			if test.created != "" {
				config["created"] = []byte(test.created)
			}
			img.Platforms[0].Config = mustJSON(t, config)
			result := s.mustExport(t, img, "type=oci,dest=-"+test.more)
			var got map[string]json.RawMessage
			s.blob(t, result.ConfigDigest, &got)
			if string(got["created"]) != test.want {
				t.Errorf("created %s, want %s", got["created"], test.want)
			}
		})
	}
}

func TestConfigKeepsUnknownFields(t *testing.T) {
	s := newSetup(t)
	img := s.image(t, "linux/amd64")
	img.Platforms[0].Config = []byte(`{"os":"linux","architecture":"amd64","moby.thing":{"a":[1,2]},"config":{"OnBuild":["RUN x"],"Labels":{"z":"<&>"}},"rootfs":{"type":"layers","diff_ids":["sha256:stale"]}}`)
	result := s.mustExport(t, img, "type=oci,dest=-")
	var got map[string]any
	s.blob(t, result.ConfigDigest, &got)
	if _, ok := got["moby.thing"]; !ok {
		t.Error("an unknown field is gone")
	}
	if n := len(got["rootfs"].(map[string]any)["diff_ids"].([]any)); n != 2 {
		t.Errorf("%d diff ids, want 2", n)
	}
}

func TestConfigErrors(t *testing.T) {
	for config, says := range map[string]string{
		"{": "read image config", "null": "null", `{"architecture":"amd64"}`: "no os", `{"os":"linux"}`: "no architecture",
	} {
		s := newSetup(t)
		img := s.image(t, "linux/amd64")
		img.Platforms[0].Config = []byte(config)
		_, err := s.export(t, img, "type=oci,dest=-")
		wantError(t, err, says)
	}
}

func TestAnnotations(t *testing.T) {
	s := newSetup(t)
	img := s.image(t, "linux/amd64", "linux/arm64")
	img.Annotations = Annotations{Manifest: map[string]string{"from": "build", "both": "build"}}
	result := s.mustExport(t, img, "type=oci,dest=-,annotation.both=output,annotation-index.i=1,annotation-manifest[linux/arm64].arm=yes,annotation-manifest-descriptor.d=2,annotation-index-descriptor.id=3")
	var idx ocispec.Index
	s.blob(t, result.Desc.Digest, &idx)
	if diff := cmp.Diff(map[string]string{"i": "1"}, idx.Annotations); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]string{"id": "3"}, result.Desc.Annotations); diff != "" {
		t.Error(diff)
	}
	for i, want := range []map[string]string{{"from": "build", "both": "output"}, {"from": "build", "both": "output", "arm": "yes"}} {
		var m ocispec.Manifest
		s.blob(t, idx.Manifests[i].Digest, &m)
		if diff := cmp.Diff(want, m.Annotations); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(map[string]string{"d": "2"}, idx.Manifests[i].Annotations); diff != "" {
			t.Error(diff)
		}
	}
	for in, says := range map[string]string{
		"type=oci,dest=-,annotation-manifest[linux/s390x].a=b":      "linux/s390x",
		"type=oci,dest=-,annotation-index.a=b,oci-mediatypes=false": "oci-mediatypes",
	} {
		_, err := s.export(t, img, in)
		wantError(t, err, says)
	}
	_, err := s.export(t, s.image(t, "linux/amd64"), "type=oci,dest=-,annotation-index.a=b")
	wantError(t, err, "several platforms")
}

func TestIndexEntries(t *testing.T) {
	s := newSetup(t)
	result := s.mustExport(t, s.image(t, "linux/amd64", "linux/arm/v7"), "type=oci,dest=-")
	var idx ocispec.Index
	s.blob(t, result.Desc.Digest, &idx)
	if len(idx.Manifests) != 2 || idx.Manifests[1].Platform == nil || idx.Manifests[1].Platform.Variant != "v7" {
		t.Errorf("index %+v", idx.Manifests)
	}
	if result.ConfigDigest != "" || result.IDFile() != result.Desc.Digest.String() {
		t.Errorf("result %+v", result)
	}
}

func TestResultFiles(t *testing.T) {
	s := newSetup(t)
	result := s.mustExport(t, s.image(t, "linux/amd64"), `type=oci,dest=-,"name=app:1,quay.io/a/b"`)
	if result.IDFile() != result.ConfigDigest.String() || result.ConfigDigest == "" {
		t.Errorf("iidfile %q", result.IDFile())
	}
	data, err := result.Metadata()
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	if m["containerimage.digest"] != result.Desc.Digest.String() || m["containerimage.config.digest"] != result.ConfigDigest.String() ||
		m["image.name"] != "docker.io/library/app:1,quay.io/a/b:latest" || m["containerimage.descriptor"].(map[string]any)["size"] == nil {
		t.Errorf("metadata %s", data)
	}
	if data, err := (Result{}).Metadata(); err != nil || string(data) != "{}\n" {
		t.Errorf("metadata of nothing %s, %v", data, err)
	}
}

func TestNamesAreChecked(t *testing.T) {
	s := newSetup(t)
	for _, name := range []string{"UPPER", "app@sha256:" + strings.Repeat("a", 64)} {
		img := s.image(t, "linux/amd64")
		img.Names = []string{name}
		if _, err := s.export(t, img, "type=oci,dest=-"); err == nil {
			t.Errorf("the name %q was accepted", name)
		}
	}
}

func TestEpochReachesTheLayers(t *testing.T) {
	s := newSetup(t)
	img := s.image(t, "linux/amd64")
	s.mustExport(t, img, "type=oci,dest=-")
	img.Epoch = time.Unix(99, 0)
	s.mustExport(t, img, "type=oci,dest=-")
	if s.epochs[0].Unix() != 0 || s.epochs[0].IsZero() || s.epochs[len(s.epochs)-1].Unix() != 99 {
		t.Errorf("epochs %v", s.epochs)
	}
}

func TestExportOfNothing(t *testing.T) {
	s := newSetup(t)
	if _, err := s.Export(context.Background(), Image{}, nil, nil); err == nil {
		t.Error("no error")
	}
	if result := s.mustExport(t, s.image(t, "linux/amd64"), "type=cacheonly"); result.IDFile() != "" || s.layers.made != 0 {
		t.Errorf("cacheonly made %+v", result)
	}
}
