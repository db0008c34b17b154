package image

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/runtime/registry"
	"github.com/strata-build/strata/runtime/store"
)

func TestPullAndUnpack(t *testing.T) {
	s, srv := newSetup(t), newServer(t)
	img := remoteImage(t, srv, "a/b:1", 5)
	var mu sync.Mutex
	seen := map[digest.Digest]int64{}
	got, err := s.Pull(context.Background(), PullRequest{Ref: ref(t, srv.host+"/a/b:1"), Unpack: true, Progress: func(d ocispec.Descriptor, n int64) {
		mu.Lock()
		defer mu.Unlock()
		seen[d.Digest] = n
	}})
	if err != nil {
		t.Fatal(err)
	}
	want, _ := img.Digest()
	id, _ := img.ConfigName()
	if got.Name != srv.host+"/a/b:1" || got.Desc.Digest.String() != want.String() || got.ID.String() != id.String() {
		t.Errorf("pulled %+v", got)
	}
	m, _ := img.Manifest()
	for _, l := range m.Layers {
		d := digest.Digest(l.Digest.String())
		if digest.FromBytes(s.layers.imported[d]) != d {
			t.Errorf("layer %s was not unpacked", d)
		}
		if size, ok := s.blobs.HasBlob(d); !ok || size != l.Size {
			t.Errorf("layer %s is not in the store", d)
		}
		if seen[d] != l.Size {
			t.Errorf("progress of %s ends at %d of %d", d, seen[d], l.Size)
		}
		if n := srv.count("GET /v2/a/b/blobs/" + d.String()); n != 1 {
			t.Errorf("layer %s was asked for %d times", d, n)
		}
	}
	// Once everything is there, the layers need no network.
	srv.misbehave(nil)
	loaded, err := s.Load(context.Background(), got.Desc, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if ids, err := s.Unpack(context.Background(), UnpackRequest{Manifest: loaded}); err != nil || len(ids) != 5 {
		t.Errorf("Unpack = %q, %v", ids, err)
	}
	if n := srv.count(""); n != 0 {
		t.Errorf("%d requests", n)
	}
}

func TestPullOfPlatforms(t *testing.T) {
	srv := newServer(t)
	idx := remoteIndex(t, srv, "a/b:1", "linux/amd64", "linux/arm64", "linux/arm/v7")
	for name, test := range map[string]struct {
		req   PullRequest
		blobs int
	}{
		"default": {PullRequest{}, 2},
		"two":     {PullRequest{Platforms: []ocispec.Platform{{OS: "linux", Architecture: "arm64"}, amd64}}, 4},
		"all":     {PullRequest{AllPlatforms: true}, 6},
	} {
		s := newSetup(t)
		test.req.Ref = ref(t, srv.host+"/a/b:1")
		img, err := s.Pull(context.Background(), test.req)
		if err != nil {
			t.Fatal(err)
		}
		if img.Desc.Digest != idx || img.ID != img.Desc.Digest {
			t.Errorf("%s: pulled %+v", name, img)
		}
		all, err := s.LoadAll(context.Background(), img.Desc, nil)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, m := range all {
			for _, l := range m.Layers {
				if _, ok := s.blobs.HasBlob(l.Digest); ok {
					n++
				}
			}
		}
		if n != test.blobs {
			t.Errorf("%s: %d layers in the store, want %d", name, n, test.blobs)
		}
	}
	s := newSetup(t)
	_, err := s.Pull(context.Background(), PullRequest{Ref: ref(t, srv.host+"/a/b:1"), Platforms: []ocispec.Platform{{OS: "linux", Architecture: "s390x"}}})
	if !errors.Is(err, ErrNoPlatform) {
		t.Errorf("err = %v", err)
	}
	wantError(t, err, "linux/s390x", "linux/arm64")
}

// A layer that was cut in the middle goes on from there, also in another
// process; nothing unverified is in the store in between.
func TestInterruptedLayerIsResumed(t *testing.T) {
	s, srv := newSetup(t), newServer(t)
	img := remoteImage(t, srv, "a/b:1", 1)
	m, _ := img.Manifest()
	d := digest.Digest(m.Layers[0].Digest.String())
	srv.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, d.String()) {
			if r.Header.Get("Range") != "" {
				w.WriteHeader(http.StatusServiceUnavailable)
				return true
			}
			srv.next.ServeHTTP(&cutAfter{w, 500}, r)
			return true
		}
		return false
	})
	req := PullRequest{Ref: ref(t, srv.host+"/a/b:1"), Unpack: true}
	if _, err := s.Pull(context.Background(), req); err == nil {
		t.Fatal("the pull succeeded")
	}
	if _, ok := s.blobs.HasBlob(d); ok {
		t.Fatal("an incomplete blob stands in the store")
	}
	if len(s.layers.imported) != 0 {
		t.Error("an incomplete layer was taken")
	}
	var ranges []string
	srv.misbehave(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, d.String()) {
			ranges = append(ranges, r.Header.Get("Range"))
		}
		return false
	})
	if _, err := s.Pull(context.Background(), req); err != nil {
		t.Fatal(err)
	}
	if len(ranges) != 1 || !strings.HasPrefix(ranges[0], "bytes=500-") {
		t.Errorf("ranges %q", ranges)
	}
	if digest.FromBytes(s.layers.imported[d]) != d {
		t.Error("the layer was not unpacked as it is")
	}
}

func TestWrongBytesAreFetchedOnceMore(t *testing.T) {
	for name, wrong := range map[string]int{"once": 1, "always": 99} {
		s, srv := newSetup(t), newServer(t)
		img := remoteImage(t, srv, "a/b:1", 1)
		m, _ := img.Manifest()
		d := digest.Digest(m.Layers[0].Digest.String())
		var mu sync.Mutex
		left := wrong
		srv.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
			mu.Lock()
			defer mu.Unlock()
			if left == 0 || !strings.Contains(r.URL.Path, d.String()) {
				return false
			}
			left--
			flipped(w, r, srv.next)
			return true
		})
		_, err := s.Pull(context.Background(), PullRequest{Ref: ref(t, srv.host+"/a/b:1"), Unpack: true})
		if wrong == 1 && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if wrong == 99 {
			if !errors.Is(err, registry.ErrUnverified) {
				t.Errorf("%s: %v", name, err)
			}
			wantError(t, err, srv.host, d.String(), "try again")
			if _, ok := s.blobs.HasBlob(d); ok {
				t.Error("wrong bytes stand in the store")
			}
			if len(s.layers.imported) != 0 {
				t.Error("wrong bytes were taken as a layer")
			}
			w, offset, err := s.blobs.ResumeBlob(context.Background(), d)
			if err != nil || offset != 0 {
				t.Errorf("wrong bytes are kept for the next attempt: %d, %v", offset, err)
			}
			w.Close()
		}
	}
}

// A part on disk that is not the blob's is dropped, and the blob fetched whole.
func TestWrongPartOnDisk(t *testing.T) {
	s, srv := newSetup(t), newServer(t)
	img := remoteImage(t, srv, "a/b:1", 1)
	m, _ := img.Manifest()
	d := digest.Digest(m.Layers[0].Digest.String())
	w, _, err := s.blobs.ResumeBlob(context.Background(), d)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("not of this blob")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Pull(context.Background(), PullRequest{Ref: ref(t, srv.host+"/a/b:1"), Unpack: true}); err != nil {
		t.Fatal(err)
	}
	if digest.FromBytes(s.layers.imported[d]) != d {
		t.Error("the layer was not unpacked as it is")
	}
}

func TestUnpackWaitsForParents(t *testing.T) {
	s := newSetup(t)
	desc := s.localImage(t, amd64, "one", "two", "three", "four", "five", "six")
	m, err := s.Load(context.Background(), desc, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range m.Layers {
		s.layers.needs[l.Digest] = true
	}
	ids, err := s.Unpack(context.Background(), UnpackRequest{Manifest: m, Jobs: 1})
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range m.Layers {
		if got := strings.Join(s.layers.parents[l.Digest], " "); got != strings.Join(ids[:i], " ") {
			t.Errorf("layer %d: parents %q, want %q", i, got, ids[:i])
		}
	}
}

func TestUnpackErrors(t *testing.T) {
	s := newSetup(t)
	desc := s.localImage(t, amd64, "one", "two")
	m, err := s.Load(context.Background(), desc, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.blobs.DeleteBlob(m.Layers[1].Digest); err != nil {
		t.Fatal(err)
	}
	_, err = s.Unpack(context.Background(), UnpackRequest{Manifest: m})
	if !errors.Is(err, ErrMissing) {
		t.Errorf("err = %v", err)
	}
	wantError(t, err, "layer 2 of 2", m.Layers[1].Digest.String())
	m.Layers = m.Layers[:1]
	m.Layers[0].Size++
	if _, err = s.Unpack(context.Background(), UnpackRequest{Manifest: m}); !errors.Is(err, ErrMalformed) {
		t.Errorf("a layer of another size: %v", err)
	}
	m.Layers[0].MediaType = "application/vnd.in-toto+json"
	_, err = s.Unpack(context.Background(), UnpackRequest{Manifest: m})
	wantError(t, err, "not a file system layer")
}

func TestPush(t *testing.T) {
	s, srv := newSetup(t), newServer(t)
	remoteImage(t, srv, "a/b:1", 3)
	img, err := s.Pull(context.Background(), PullRequest{Ref: ref(t, srv.host+"/a/b:1")})
	if err != nil {
		t.Fatal(err)
	}
	other := newServer(t)
	if err := s.Push(context.Background(), PushRequest{Name: other.host + "/copy:2", Desc: img.Desc}); err != nil {
		t.Fatal(err)
	}
	got, err := remote.Image(parse(t, other.host+"/copy:2"))
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(got); err != nil {
		t.Error(err)
	}
}

func TestPushOfIncompleteIndex(t *testing.T) {
	s, srv := newSetup(t), newServer(t)
	remoteIndex(t, srv, "a/b:1", "linux/amd64", "linux/arm64")
	img, err := s.Pull(context.Background(), PullRequest{Ref: ref(t, srv.host+"/a/b:1")})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Push(context.Background(), PushRequest{Name: srv.host + "/c:1", Desc: img.Desc})
	if !errors.Is(err, ErrMissing) {
		t.Errorf("err = %v", err)
	}
	wantError(t, err, "linux/arm64", "pull all platforms")
}

func TestRepositoriesToMountFrom(t *testing.T) {
	s, srv := newSetup(t), newServer(t)
	img := remoteImage(t, srv, "base/debian:12", 2)
	if _, err := s.Pull(context.Background(), PullRequest{Ref: ref(t, srv.host+"/base/debian:12")}); err != nil {
		t.Fatal(err)
	}
	found, err := s.repositories(context.Background(), ref(t, srv.host+"/app:1"))
	if err != nil {
		t.Fatal(err)
	}
	m, _ := img.Manifest()
	for _, l := range m.Layers {
		if refs := found[digest.Digest(l.Digest.String())]; len(refs) != 1 || refs[0].Name() != srv.host+"/base/debian" {
			t.Errorf("layer %s: %v", l.Digest, refs)
		}
	}
	if found, err := s.repositories(context.Background(), ref(t, "elsewhere.example/app:1")); err != nil || len(found) != 0 {
		t.Errorf("for another registry: %v, %v", found, err)
	}
}

func TestTeeCommitsAtTheEnd(t *testing.T) {
	s := newSetup(t)
	content := bytes.Repeat([]byte("x"), 100)
	desc := ocispec.Descriptor{Digest: digest.FromBytes(content), Size: 100}
	w, _, err := s.blobs.ResumeBlob(context.Background(), desc.Digest)
	if err != nil {
		t.Fatal(err)
	}
	tr := &tee{ctx: context.Background(), r: nopCloser{bytes.NewReader(content)}, w: w, desc: desc}
	buf := make([]byte, 100)
	if n, err := tr.Read(buf); n != 100 || err != nil {
		t.Fatalf("Read = %d, %v", n, err)
	}
	if _, ok := s.blobs.HasBlob(desc.Digest); ok {
		t.Error("the blob is there before its end was seen")
	}
	if _, err := tr.Read(buf); err == nil || err.Error() != "EOF" {
		t.Errorf("at the end: %v", err)
	}
	if _, ok := s.blobs.HasBlob(desc.Digest); !ok {
		t.Error("the blob is not there after its end")
	}
	if err := tr.Close(); err != nil {
		t.Error(err)
	}
	if _, _, err := s.blobs.ResumeBlob(context.Background(), desc.Digest); !errors.Is(err, store.ErrExists) {
		t.Errorf("ResumeBlob afterwards: %v", err)
	}
}

type nopCloser struct{ *bytes.Reader }

func (nopCloser) Close() error { return nil }
