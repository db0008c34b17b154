package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/distribution/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// memBlobs is content to push.
type memBlobs map[digest.Digest][]byte

type memBlob struct{ *bytes.Reader }

func (memBlob) Close() error { return nil }

func (m memBlobs) open(d digest.Digest) (Blob, error) {
	data, ok := m[d]
	if !ok {
		return nil, fmt.Errorf("no blob %s", d)
	}
	return memBlob{bytes.NewReader(data)}, nil
}

func (m memBlobs) add(data []byte) digest.Digest {
	d := digest.FromBytes(data)
	m[d] = data
	return d
}

// addImage adds an image and returns its descriptor.
func (m memBlobs) addImage(t testing.TB, img v1.Image) ocispec.Descriptor {
	t.Helper()
	raw, err := img.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	m.add(config)
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		m.addLayer(t, l)
	}
	kind, _ := img.MediaType()
	return ocispec.Descriptor{MediaType: string(kind), Digest: m.add(raw), Size: int64(len(raw))}
}

func (m memBlobs) addLayer(t testing.TB, l v1.Layer) {
	t.Helper()
	r, err := l.Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	m.add(data)
}

func randomImage(t testing.TB, size int64, layers int64) v1.Image {
	t.Helper()
	img, err := random.Image(size, layers)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// pulled validates an image of a registry with go-containerregistry.
func pulled(t testing.TB, s *server, name string) v1.Image {
	t.Helper()
	img, err := remote.Image(parseName(t, s.host+"/"+name))
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(img); err != nil {
		t.Error(err)
	}
	return img
}

func TestPushImage(t *testing.T) {
	s := newServer(t)
	blobs := memBlobs{}
	desc := blobs.addImage(t, randomImage(t, 5000, 4))
	var mu sync.Mutex
	states := map[UpdateState]int{}
	sent := map[digest.Digest]int64{}
	req := PushRequest{Ref: ref(t, s.host+"/x/y:1"), Desc: desc, Open: blobs.open, Progress: func(u Update) {
		mu.Lock()
		defer mu.Unlock()
		sent[u.Desc.Digest] = u.Offset
		if u.State != Uploading {
			states[u.State]++
		}
	}}
	if err := newClient(t, Options{}).Push(context.Background(), req); err != nil {
		t.Fatal(err)
	}
	if d, _ := pulled(t, s, "x/y:1").Digest(); d.String() != desc.Digest.String() {
		t.Errorf("the registry has %s, not %s", d, desc.Digest)
	}
	if states[Uploaded] != 6 || len(sent) != 6 {
		t.Errorf("states %v, want 6 uploads", states)
	}
	for d, n := range sent {
		if n != int64(len(blobs[d])) {
			t.Errorf("progress of %s ends at %d of %d", d, n, len(blobs[d]))
		}
	}
	clear(states)
	s.misbehave(nil)
	if err := newClient(t, Options{}).Push(context.Background(), req); err != nil {
		t.Fatal(err)
	}
	if states[Existing] != 5 || s.count("POST") != 0 || s.count("PATCH") != 0 {
		t.Errorf("the second push uploaded again: %v, %q", states, s.requests)
	}
}

func TestPushIndexOrder(t *testing.T) {
	s := newServer(t)
	blobs := memBlobs{}
	idx, err := random.Index(1000, 2, 3)
	if err != nil {
		t.Fatal(err)
	}
	im, _ := idx.IndexManifest()
	for _, m := range im.Manifests {
		img, err := idx.Image(m.Digest)
		if err != nil {
			t.Fatal(err)
		}
		blobs.addImage(t, img)
	}
	raw, _ := idx.RawManifest()
	desc := ocispec.Descriptor{MediaType: string(im.MediaType), Digest: blobs.add(raw), Size: int64(len(raw))}
	s.misbehave(nil)
	if err := newClient(t, Options{}).Push(context.Background(), PushRequest{Ref: ref(t, s.host+"/x/y:multi"), Desc: desc, Open: blobs.open}); err != nil {
		t.Fatal(err)
	}
	got, err := remote.Index(parseName(t, s.host+"/x/y:multi"))
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(got); err != nil {
		t.Error(err)
	}
	// Manifests come after all blobs, and the tag is last.
	last := slices.IndexFunc(s.requests, func(r string) bool { return strings.HasPrefix(r, "PUT /v2/x/y/manifests/sha256") })
	for i, r := range s.requests {
		if strings.HasPrefix(r, "PUT /v2/x/y/blobs") && i > last {
			t.Errorf("request %d %s comes after the first manifest", i, r)
		}
	}
	tag := slices.Index(s.requests, "PUT /v2/x/y/manifests/multi")
	for i, r := range s.requests {
		if strings.HasPrefix(r, "PUT") && i > tag {
			t.Errorf("%s comes after the tag", r)
		}
	}
}

func TestPushByDigest(t *testing.T) {
	s := newServer(t)
	blobs := memBlobs{}
	desc := blobs.addImage(t, randomImage(t, 100, 1))
	named := reference.TrimNamed(ref(t, s.host+"/x/y"))
	if err := newClient(t, Options{}).Push(context.Background(), PushRequest{Ref: named, Desc: desc, Open: blobs.open}); err != nil {
		t.Fatal(err)
	}
	pulled(t, s, "x/y@"+desc.Digest.String())
	if s.count("manifests/latest") != 0 {
		t.Error("a tag was written")
	}
}

func TestPushSurvives(t *testing.T) {
	cut := func(_ http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		_, _ = io.CopyN(io.Discard, r.Body, 500)
		panic(http.ErrAbortHandler)
	}
	for name, f := range map[string]fault{
		"500 to HEAD":      times(2, "HEAD", status(500)),
		"500 to POST":      times(2, "POST", status(500)),
		"500 to PATCH":     times(2, "PATCH", status(503)),
		"500 to PUT":       times(2, "PUT", status(502)),
		"429 to PATCH":     times(2, "PATCH", status(429)),
		"cut PATCH":        times(3, "PATCH", cut),
		"cut PUT":          times(2, "PUT", cut),
		"session gone":     times(2, "PATCH", status(404)),
		"range refused":    times(2, "PATCH", status(416)),
		"manifest refused": times(1, "manifests/1", status(500)),
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			blobs := memBlobs{}
			desc := blobs.addImage(t, randomImage(t, 5000, 3))
			c := newClient(t, Options{})
			s.misbehave(f)
			if err := c.Push(context.Background(), PushRequest{Ref: ref(t, s.host+"/x/y:1"), Desc: desc, Open: blobs.open}); err != nil {
				t.Fatal(err)
			}
			s.misbehave(nil)
			pulled(t, s, "x/y:1")
		})
	}
}

func TestPushFailsClearly(t *testing.T) {
	for name, test := range map[string]struct {
		fault fault
		says  string
		is    error
	}{
		"always 500":    {times(999, "PATCH", status(500)), "error of its own", nil},
		"denied":        {times(999, "POST", status(403)), "strata login", ErrUnauthorized},
		"no repository": {times(999, "POST", status(404)), "does not have it", ErrNotFound},
		"wrong digest":  {times(999, "PUT /v2/x/y/blobs", status(400)), "strata fsck", ErrUnverified},
		"no location": {times(999, "POST", func(w http.ResponseWriter, _ *http.Request, _ http.Handler) bool {
			w.WriteHeader(http.StatusAccepted)
			return true
		}), "Location", nil},
		"other manifest": {times(99, "manifests/1", func(w http.ResponseWriter, _ *http.Request, _ http.Handler) bool {
			w.Header().Set("Docker-Content-Digest", "sha256:0000")
			w.WriteHeader(http.StatusCreated)
			return true
		}), "keeps the manifest as sha256:0000", ErrUnverified},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			blobs := memBlobs{}
			desc := blobs.addImage(t, randomImage(t, 500, 1))
			s.misbehave(test.fault)
			err := newClient(t, Options{}).Push(context.Background(), PushRequest{Ref: ref(t, s.host+"/x/y:1"), Desc: desc, Open: blobs.open})
			wantError(t, err, test.says, s.host)
			if test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("%v is not %v", err, test.is)
			}
		})
	}
}

func TestPushOfDamagedStore(t *testing.T) {
	s := newServer(t)
	blobs := memBlobs{}
	desc := blobs.addImage(t, randomImage(t, 500, 1))
	blobs[desc.Digest] = append([]byte(" "), blobs[desc.Digest]...)
	err := newClient(t, Options{}).Push(context.Background(), PushRequest{Ref: ref(t, s.host+"/x/y:1"), Desc: desc, Open: blobs.open})
	wantError(t, err, desc.Digest.String(), "its content is")
	if s.count("PUT") != 0 {
		t.Error("something was written")
	}
}

// uploads is a registry's upload protocol for one repository, with partial
// uploads that can be asked about, mounts and a limit on request bodies.
type uploads struct {
	mu       sync.Mutex
	limit    int64
	sessions map[string][]byte
	blobs    map[string][]byte
	others   map[string][]string // blobs of other repositories
	log      []string
	cutAt    int64 // the first PATCH is cut after so many bytes
}

func (u *uploads) serve(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
	rest, ok := strings.CutPrefix(r.URL.Path, "/v2/x/y/blobs/")
	if !ok {
		return false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.log = append(u.log, strings.TrimSpace(r.Method+" "+r.Header.Get("Content-Range")))
	switch r.Method {
	case http.MethodHead:
		w.WriteHeader(http.StatusNotFound)
	case http.MethodPost:
		from, d := r.URL.Query().Get("from"), r.URL.Query().Get("mount")
		if slices.Contains(u.others[from], d) {
			u.blobs[d] = nil
			w.WriteHeader(http.StatusCreated)
			return true
		}
		id := fmt.Sprint(len(u.sessions))
		u.sessions[id] = nil
		u.accept(w, id, http.StatusAccepted)
	case http.MethodGet:
		u.accept(w, strings.TrimPrefix(rest, "uploads/"), http.StatusNoContent)
	case http.MethodPatch:
		u.patch(w, r, strings.TrimPrefix(rest, "uploads/"))
	case http.MethodPut:
		data, d := u.sessions[strings.TrimPrefix(rest, "uploads/")], r.URL.Query().Get("digest")
		if digest.FromBytes(data).String() != d {
			w.WriteHeader(http.StatusBadRequest)
			return true
		}
		u.blobs[d] = data
		w.WriteHeader(http.StatusCreated)
	}
	return true
}

func (u *uploads) patch(w http.ResponseWriter, r *http.Request, id string) {
	if u.limit > 0 && r.ContentLength > u.limit {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return
	}
	var start int
	if cr := r.Header.Get("Content-Range"); cr != "" {
		_, _ = fmt.Sscanf(cr, "%d-", &start)
	}
	if start != len(u.sessions[id]) {
		w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		return
	}
	if u.cutAt > 0 {
		data, _ := io.ReadAll(io.LimitReader(r.Body, u.cutAt))
		u.sessions[id] = append(u.sessions[id], data...)
		u.cutAt = 0
		panic(http.ErrAbortHandler)
	}
	data, _ := io.ReadAll(r.Body)
	u.sessions[id] = append(u.sessions[id], data...)
	u.accept(w, id, http.StatusAccepted)
}

func (u *uploads) accept(w http.ResponseWriter, id string, code int) {
	w.Header().Set("Location", "/v2/x/y/blobs/uploads/"+id)
	w.Header().Set("Range", fmt.Sprintf("0-%d", max(0, len(u.sessions[id])-1)))
	w.WriteHeader(code)
}

func newUploads() *uploads {
	return &uploads{sessions: map[string][]byte{}, blobs: map[string][]byte{}, others: map[string][]string{}}
}

// oneBlob pushes a single blob through the protocol above.
func oneBlob(t testing.TB, u *uploads, size int, sources ...string) (*server, error) {
	t.Helper()
	s := newServer(t)
	s.misbehave(u.serve)
	blobs := memBlobs{}
	d := blobs.add(bytes.Repeat([]byte("x"), size))
	p := &pusher{client: newClient(t, Options{}), ep: endpoint{host: s.host, repo: "x/y", insecure: true}, req: PushRequest{Open: blobs.open}, sources: map[digest.Digest][]string{d: sources}}
	var err error
	if p.session, err = p.client.session(context.Background(), p.ep); err != nil {
		t.Fatal(err)
	}
	err = p.blob(context.Background(), ocispec.Descriptor{Digest: d, Size: int64(size)})
	if _, ok := u.blobs[d.String()]; err == nil && !ok {
		t.Error("the blob did not arrive")
	}
	return s, err
}

func TestUploadResumes(t *testing.T) {
	u := newUploads()
	u.cutAt = 60_000
	if _, err := oneBlob(t, u, 200_000); err != nil {
		t.Fatal(err)
	}
	want := []string{"HEAD", "POST", "PATCH", "GET", "PATCH 60000-199999", "PUT"}
	if !slices.Equal(u.log, want) {
		t.Errorf("requests %q, want %q", u.log, want)
	}
}

func TestUploadInChunksAfter413(t *testing.T) {
	u := newUploads()
	u.limit = chunk
	if _, err := oneBlob(t, u, 2*chunk+5); err != nil {
		t.Fatal(err)
	}
	if n := len(u.log); !slices.Contains(u.log, fmt.Sprintf("PATCH %d-%d", 2*chunk, 2*chunk+4)) || n > 8 {
		t.Errorf("requests %q", u.log)
	}
}

func TestUploadMounts(t *testing.T) {
	u := newUploads()
	u.others["lib/base"] = []string{digest.FromBytes(bytes.Repeat([]byte("x"), 1000)).String()}
	if _, err := oneBlob(t, u, 1000, "lib/other", "lib/base"); err != nil {
		t.Fatal(err)
	}
	if want := []string{"HEAD", "POST", "POST"}; !slices.Equal(u.log, want) {
		t.Errorf("requests %q, want %q", u.log, want)
	}
}

func TestPushScopesAndSources(t *testing.T) {
	s := newServer(t)
	blobs := memBlobs{}
	desc := blobs.addImage(t, randomImage(t, 100, 1))
	var scopes []string
	auth := tokenAuth(s, "user", "secret-pw")
	s.misbehave(func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		if r.URL.Path == "/token" {
			scopes = r.URL.Query()["scope"]
		}
		return auth(w, r, next)
	})
	config := write(t, `{"auths":{"`+s.host+`":{"username":"user","password":"secret-pw"}}}`, t.TempDir(), "config.json")
	err := newClient(t, Options{ConfigPaths: []string{config}}).Push(context.Background(), PushRequest{
		Ref: ref(t, s.host+"/x/y:1"), Desc: desc, Open: blobs.open,
		Sources: func(digest.Digest) []reference.Named {
			return []reference.Named{ref(t, s.host+"/lib/base:1"), ref(t, "other.example/lib/base"), ref(t, s.host+"/x/y:2")}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"repository:x/y:push,pull", "repository:lib/base:pull"}; !slices.Equal(scopes, want) {
		t.Errorf("scopes %q, want %q", scopes, want)
	}
}

func TestReceivedBytes(t *testing.T) {
	for header, want := range map[string]int64{"0-0": 0, "0-99": 100, "bytes=0-99": 100, "": -1, "0-": -1, "x": -1, "0--5": -1} {
		n, ok := receivedBytes(header)
		if !ok {
			n = -1
		}
		if n != want {
			t.Errorf("receivedBytes(%q) = %d, want %d", header, n, want)
		}
	}
}
