package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestPullImage(t *testing.T) {
	s := newServer(t)
	img := s.addImage(t, "a/b:1")
	want, _ := img.Digest()
	c := newClient(t, Options{})
	r := ref(t, s.host+"/a/b:1")

	desc, err := c.Resolve(context.Background(), r)
	if err != nil || desc.Digest.String() != want.String() {
		t.Fatalf("Resolve = %v, %v; want %v", desc, err, want)
	}
	raw, err := c.Manifest(context.Background(), r, desc)
	wantRaw, _ := img.RawManifest()
	if err != nil || !bytes.Equal(raw, wantRaw) {
		t.Fatalf("Manifest: %v", err)
	}
	m, _ := img.Manifest()
	config := ocispec.Descriptor{Digest: digest.Digest(m.Config.Digest.String()), Size: m.Config.Size}
	if _, err := c.Bytes(context.Background(), r, config); err != nil {
		t.Fatal(err)
	}
	for _, l := range m.Layers {
		if _, err := fetch(c, r, ocispec.Descriptor{Digest: digest.Digest(l.Digest.String()), Size: l.Size}, 0); err != nil {
			t.Fatal(err)
		}
	}
}

func TestResolveWithoutUsefulHead(t *testing.T) {
	s := newServer(t)
	want, _ := s.addImage(t, "a/b:1").Digest()
	for _, code := range []int{http.StatusMethodNotAllowed, http.StatusOK, http.StatusBadRequest} {
		s.misbehave(times(1, "HEAD", status(code)))
		desc, err := newClient(t, Options{}).Resolve(context.Background(), ref(t, s.host+"/a/b:1"))
		if err != nil || desc.Digest.String() != want.String() {
			t.Errorf("HEAD answers %d: %v, %v", code, desc, err)
		}
	}
}

func TestResolveRefusesAnotherDigest(t *testing.T) {
	s := newServer(t)
	s.addImage(t, "a/b:1")
	other := digest.FromString("other")
	s.misbehave(func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		r.URL.Path = strings.Replace(r.URL.Path, other.String(), "1", 1)
		return false
	})
	_, err := newClient(t, Options{}).Resolve(context.Background(), ref(t, s.host+"/a/b@"+other.String()))
	if !errors.Is(err, ErrUnverified) {
		t.Fatalf("err = %v", err)
	}
	wantError(t, err, s.host, other.String())
}

func TestManifestIsVerified(t *testing.T) {
	s := newServer(t)
	s.addImage(t, "a/b:1")
	c := newClient(t, Options{})
	r := ref(t, s.host+"/a/b:1")
	desc, err := c.Resolve(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	s.misbehave(times(99, "GET /v2/a/b/manifests", wrongBytes))
	_, err = c.Manifest(context.Background(), r, desc)
	if !errors.Is(err, ErrUnverified) {
		t.Fatalf("err = %v", err)
	}
	wantError(t, err, s.host, desc.Digest.String(), "try again")
}

func TestFetchSurvives(t *testing.T) {
	tests := map[string]struct {
		fault    fault
		opts     Options
		requests int // for the blob; 0 means any
	}{
		"nothing":           {nil, Options{}, 1},
		"500 then ok":       {times(2, "GET /v2/a/b/blobs", status(500)), Options{}, 3},
		"429 then ok":       {times(1, "GET /v2/a/b/blobs", status(429)), Options{}, 2},
		"cuts":              {times(3, "GET /v2/a/b/blobs", cutAfter(100)), Options{}, 4},
		"cuts at once":      {times(3, "GET /v2/a/b/blobs", cutAfter(0)), Options{}, 4},
		"many short pieces": {times(40, "GET /v2/a/b/blobs", cutAfter(200)), Options{Attempts: 2}, 41},
		"ranges":            {nil, Options{RangeSize: 1000}, 20},
		"cut ranges":        {times(12, "GET /v2/a/b/blobs", cutAfter(300)), Options{RangeSize: 1000}, 0},
		"failing ranges":    {times(7, "GET /v2/a/b/blobs", status(503)), Options{RangeSize: 1000, Attempts: 8}, 27},
		"two connections":   {nil, Options{RangeSize: 1000, Connections: 2}, 20},
		"one connection":    {nil, Options{RangeSize: 1000, Connections: 1}, 1},
		"no ranges": {func(_ http.ResponseWriter, r *http.Request, _ http.Handler) bool {
			r.Header.Del("Range")
			return false
		}, Options{RangeSize: 1000}, 1},
		"no ranges, cut": {dropRangeAnd(times(2, "GET /v2/a/b/blobs", cutAfter(5000))), Options{RangeSize: 1000}, 3},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			desc, data := s.addBlob(t, 20_000)
			c := newClient(t, test.opts)
			s.misbehave(test.fault)
			got, err := fetch(c, ref(t, s.host+"/a/b"), desc, 0)
			if err != nil || !bytes.Equal(got, data) {
				t.Fatalf("got %d bytes, equal %t: %v", len(got), bytes.Equal(got, data), err)
			}
			if n := s.count("blobs"); test.requests != 0 && n != test.requests {
				t.Errorf("%d requests, want %d", n, test.requests)
			}
		})
	}
}

func dropRangeAnd(then fault) fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		r.Header.Del("Range")
		return then(w, r, next)
	}
}

func TestFetchResumes(t *testing.T) {
	for _, opts := range []Options{{}, {RangeSize: 1000}} {
		s := newServer(t)
		desc, data := s.addBlob(t, 20_000)
		got, err := fetch(newClient(t, opts), ref(t, s.host+"/a/b"), desc, 7000)
		if err != nil || !bytes.Equal(got, data[7000:]) {
			t.Fatalf("got %d bytes: %v", len(got), err)
		}
		if s.count("bytes=0-") != 0 {
			t.Error("asked again for what is there")
		}
	}
}

func TestOpenLeavesVerifyingToTheReader(t *testing.T) {
	s := newServer(t)
	desc, data := s.addBlob(t, 1000)
	s.misbehave(times(1, "blobs", wrongBytes))
	body, err := newClient(t, Options{}).Open(context.Background(), ref(t, s.host+"/a/b"), desc, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	got, err := io.ReadAll(body)
	if err != nil || len(got) != len(data) || bytes.Equal(got, data) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	err = body.(*Download).Reject()
	if !errors.Is(err, ErrUnverified) {
		t.Errorf("err = %v", err)
	}
	wantError(t, err, s.host, desc.Digest.String())
}

func TestFetchOfNothing(t *testing.T) {
	s := newServer(t)
	desc, _ := s.addBlob(t, 0)
	if got, err := fetch(newClient(t, Options{}), ref(t, s.host+"/a/b"), desc, 0); err != nil || len(got) != 0 {
		t.Fatalf("got %q, %v", got, err)
	}
}

func TestFetchFailsClearly(t *testing.T) {
	tests := map[string]struct {
		fault fault
		opts  Options
		is    error
		says  []string
	}{
		"wrong bytes":         {times(99, "blobs", wrongBytes), Options{}, ErrUnverified, []string{"wrong bytes", "try again"}},
		"wrong bytes, ranged": {times(3, "blobs", wrongBytes), Options{RangeSize: 1000}, ErrUnverified, []string{"wrong bytes"}},
		"always cut":          {times(99, "blobs", cutAfter(0)), Options{}, nil, []string{"hung up after 0 of 20000 bytes", "try again"}},
		"always cut, ranged":  {times(999, "blobs", cutAfter(0)), Options{RangeSize: 1000}, nil, []string{"hung up"}},
		"always 500":          {times(99, "blobs", status(500)), Options{}, nil, []string{"error of its own (500", "try again later"}},
		"gone":                {times(99, "blobs", status(404)), Options{}, ErrNotFound, []string{"does not have it"}},
		"forbidden":           {times(99, "blobs", status(403)), Options{}, ErrUnauthorized, []string{"strata login"}},
		"rate limit":          {times(99, "blobs", status(429)), Options{}, nil, []string{"limits the rate", "strata login"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			desc, _ := s.addBlob(t, 20_000)
			c := newClient(t, test.opts)
			s.misbehave(test.fault)
			_, err := fetch(c, ref(t, s.host+"/a/b"), desc, 0)
			wantError(t, err, append(test.says, s.host, desc.Digest.String())...)
			if test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("error %v is not %v", err, test.is)
			}
		})
	}
}

func TestFetchTriesAsOftenAsAsked(t *testing.T) {
	s := newServer(t)
	desc, _ := s.addBlob(t, 100)
	c := newClient(t, Options{Attempts: 3})
	s.misbehave(times(99, "blobs", status(502)))
	if _, err := fetch(c, ref(t, s.host+"/a/b"), desc, 0); err == nil {
		t.Fatal("no error")
	}
	if n := s.count("blobs"); n != 3 {
		t.Errorf("%d attempts, want 3", n)
	}
}

// A server that stops sending without hanging up is cut off and asked again.
func TestFetchCutsStalledConnections(t *testing.T) {
	s := newServer(t)
	desc, data := s.addBlob(t, 20_000)
	c := newClient(t, Options{Stall: 20 * time.Millisecond})
	s.misbehave(times(1, "blobs", func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		w.Header().Set("Content-Length", "20000")
		_, _ = w.Write(data[:500])
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		return true
	}))
	got, err := fetch(c, ref(t, s.host+"/a/b"), desc, 0)
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("got %d bytes: %v", len(got), err)
	}
	if s.count("bytes=500-19999") != 1 {
		t.Errorf("requests: %q", s.requests)
	}
}

func TestFetchEndsWithContext(t *testing.T) {
	for _, opts := range []Options{{}, {RangeSize: 1000}} {
		s := newServer(t)
		desc, _ := s.addBlob(t, 20_000)
		ctx, cancel := context.WithCancel(context.Background())
		var once sync.Once
		s.misbehave(times(99, "blobs", func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			once.Do(cancel)
			<-r.Context().Done()
			return true
		}))
		err := newClient(t, opts).Fetch(ctx, ref(t, s.host+"/a/b"), desc, &bytes.Buffer{})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("err = %v", err)
		}
		if strings.Contains(err.Error(), "http") {
			t.Errorf("error shows the request: %v", err)
		}
	}
}

func TestRangedDownloadIsParallelAndBounded(t *testing.T) {
	s := newServer(t)
	desc, data := s.addBlob(t, 50_000)
	var mu sync.Mutex
	var now, most int
	together := make(chan struct{})
	s.misbehave(times(999, "blobs", func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		mu.Lock()
		now++
		most = max(most, now)
		if now == 3 {
			select {
			case <-together:
			default:
				close(together)
			}
		}
		mu.Unlock()
		if !strings.HasPrefix(r.Header.Get("Range"), "bytes=0-") {
			<-together // holds each connection until three are open
		}
		next.ServeHTTP(w, r)
		mu.Lock()
		now--
		mu.Unlock()
		return true
	}))
	got, err := fetch(newClient(t, Options{RangeSize: 1000, Connections: 4}), ref(t, s.host+"/a/b"), desc, 0)
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("got %d bytes: %v", len(got), err)
	}
	if most > 4 {
		t.Errorf("%d connections at once, want at most 4", most)
	}
}

func TestWrongContentRange(t *testing.T) {
	s := newServer(t)
	desc, data := s.addBlob(t, 20_000)
	s.misbehave(times(99, "blobs", func(w http.ResponseWriter, _ *http.Request, _ http.Handler) bool {
		w.Header().Set("Content-Range", "bytes 0-99/20000")
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(data[:100])
		return true
	}))
	_, err := fetch(newClient(t, Options{}), ref(t, s.host+"/a/b"), desc, 7000)
	wantError(t, err, s.host, "Content-Range")
}

func TestUnknownTagNamesNearOnes(t *testing.T) {
	s := newServer(t)
	for _, tag := range []string{"bookworm", "bookworm-slim", "bullseye", "12"} {
		s.addImage(t, "debian:"+tag)
	}
	c := newClient(t, Options{})
	_, err := c.Resolve(context.Background(), ref(t, s.host+"/debian:bokworm"))
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("%v is not ErrNotFound", err)
	}
	wantError(t, err, "has no tag bokworm", "did you mean bookworm")
	_, err = c.Resolve(context.Background(), ref(t, s.host+"/debian:zzzzz"))
	wantError(t, err, "has no tag zzzzz", "4 tags")
	_, err = c.Resolve(context.Background(), ref(t, s.host+"/nothing:1"))
	wantError(t, err, "check the name", s.host+"/nothing")
}

func TestListsFollowPages(t *testing.T) {
	s := newServer(t)
	c := newClient(t, Options{})
	s.misbehave(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		page := r.URL.Query().Get("last")
		switch {
		case strings.HasSuffix(r.URL.Path, "/tags/list") && page == "":
			w.Header().Set("Link", `</v2/a/b/tags/list?last=2>; rel="next"`)
			fmt.Fprint(w, `{"name":"a/b","tags":["1","2"]}`)
		case strings.HasSuffix(r.URL.Path, "/tags/list"):
			fmt.Fprint(w, `{"name":"a/b","tags":["3"]}`)
		case strings.HasSuffix(r.URL.Path, "/_catalog") && page == "":
			w.Header().Set("Link", `</v2/_catalog?last=y>; rel="next"`)
			fmt.Fprint(w, `{"repositories":["x","y"]}`)
		case strings.HasSuffix(r.URL.Path, "/_catalog"):
			w.Header().Set("Link", `<http://elsewhere.example/v2/_catalog>; rel="next"`)
			fmt.Fprint(w, `{"repositories":["z"]}`)
		default:
			return false
		}
		return true
	})
	if tags, err := c.Tags(context.Background(), ref(t, s.host+"/a/b")); err != nil || strings.Join(tags, " ") != "1 2 3" {
		t.Errorf("Tags = %q, %v", tags, err)
	}
	if repos, err := c.Catalog(context.Background(), s.host); err != nil || strings.Join(repos, " ") != "x y z" {
		t.Errorf("Catalog = %q, %v", repos, err)
	}
}

func TestBlobRedirectKeepsTokenHome(t *testing.T) {
	s := newServer(t)
	desc, data := s.addBlob(t, 1000)
	var leaked string
	cdn := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		leaked = r.Header.Get("Authorization")
		_, _ = w.Write(data)
	}))
	defer cdn.Close()
	elsewhere := strings.Replace(cdn.URL, "127.0.0.1", "localhost", 1)
	s.misbehave(basicAuth("u", "secret-pw", times(99, "blobs", func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		http.Redirect(w, r, elsewhere+"/blob?signature=sig-secret", http.StatusTemporaryRedirect)
		return true
	})))
	conf := write(t, `{"auths":{"`+s.host+`":{"username":"u","password":"secret-pw"}}}`, t.TempDir(), "config.json")
	c := newClient(t, Options{ConfigPaths: []string{conf}})
	if got, err := fetch(c, ref(t, s.host+"/a/b"), desc, 0); err != nil || !bytes.Equal(got, data) {
		t.Fatalf("got %d bytes: %v", len(got), err)
	}
	if leaked != "" {
		t.Errorf("the storage host saw credentials: %s", leaked)
	}
	cdn.Close()
	_, err := fetch(c, ref(t, s.host+"/a/b"), desc, 0)
	if err == nil || strings.Contains(err.Error(), "sig-secret") || strings.Contains(err.Error(), "secret-pw") {
		t.Errorf("error %v", err)
	}
}
