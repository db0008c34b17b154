package registry

import (
	"bytes"
	"context"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/name"
	memory "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// fault looks at a request before the registry does; it returns true when it
// has answered.
type fault func(w http.ResponseWriter, r *http.Request, next http.Handler) bool

// server is an in-memory registry that can misbehave.
type server struct {
	host    string
	handler http.Handler

	mu       sync.Mutex
	fault    fault
	requests []string
}

func newServer(t testing.TB) *server {
	t.Helper()
	s := &server{handler: memory.New(memory.Logger(log.New(io.Discard, "", 0)))}
	ts := httptest.NewServer(s)
	t.Cleanup(ts.Close)
	s.host = strings.TrimPrefix(ts.URL, "http://")
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+r.Header.Get("Range")))
	f := s.fault
	s.mu.Unlock()
	if f == nil || !f(w, r, s.handler) {
		s.handler.ServeHTTP(w, r)
	}
}

func (s *server) misbehave(f fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
	s.requests = nil
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

// times applies a fault to the first n requests that contain part.
func times(n int, part string, f fault) fault {
	var mu sync.Mutex
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		mu.Lock()
		hit := n > 0 && strings.Contains(r.Method+" "+r.URL.Path, part)
		if hit {
			n--
		}
		mu.Unlock()
		return hit && f(w, r, next)
	}
}

func status(code int) fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) bool {
		w.WriteHeader(code)
		return true
	}
}

// cutAfter hangs up after n bytes of the answer's body.
func cutAfter(n int) fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		next.ServeHTTP(&limited{ResponseWriter: w, left: n}, r)
		return true
	}
}

type limited struct {
	http.ResponseWriter
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	if len(p) <= l.left {
		l.left -= len(p)
		return l.ResponseWriter.Write(p)
	}
	_, _ = l.ResponseWriter.Write(p[:l.left])
	_ = http.NewResponseController(l.ResponseWriter).Flush()
	panic(http.ErrAbortHandler)
}

// wrongBytes flips the answer's last byte.
func wrongBytes(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
	rec := httptest.NewRecorder()
	next.ServeHTTP(rec, r)
	body := rec.Body.Bytes()
	body[len(body)-1] ^= 1
	for k, v := range rec.Header() {
		w.Header()[k] = v
	}
	w.WriteHeader(rec.Code)
	_, _ = w.Write(body)
	return true
}

// quick has the client's retries without their waits.
func quick(o Options) Options {
	o.Backoff = func(int) time.Duration { return 0 }
	return o
}

func newClient(t testing.TB, o Options) *Client {
	t.Helper()
	c, err := New(quick(o))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func ref(t testing.TB, s string) reference.Named {
	t.Helper()
	r, err := ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// addBlob puts a blob of random bytes into the server's repository a/b.
func (s *server) addBlob(t testing.TB, size int) (ocispec.Descriptor, []byte) {
	t.Helper()
	data := make([]byte, size)
	src := rand.NewChaCha8([32]byte{1})
	_, _ = src.Read(data)
	d := digest.FromBytes(data)
	req := httptest.NewRequest(http.MethodPost, "/v2/a/b/blobs/uploads/?digest="+d.String(), bytes.NewReader(data))
	rec := httptest.NewRecorder()
	s.handler.ServeHTTP(rec, req)
	if rec.Code != http.StatusCreated {
		t.Fatalf("add blob: %d %s", rec.Code, rec.Body)
	}
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: d, Size: int64(size)}, data
}

// addImage puts an image at repository:tag.
func (s *server) addImage(t testing.TB, name string) v1.Image {
	t.Helper()
	img, err := random.Image(1000, 3)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(parseName(t, s.host+"/"+name), img); err != nil {
		t.Fatal(err)
	}
	return img
}

func parseName(t testing.TB, s string) name.Reference {
	t.Helper()
	r, err := name.ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// fetch reads a blob: verified if whole, as it is if not.
func fetch(c *Client, r reference.Named, desc ocispec.Descriptor, offset int64) ([]byte, error) {
	var buf bytes.Buffer
	if offset == 0 {
		err := c.Fetch(context.Background(), r, desc, &buf)
		return buf.Bytes(), err
	}
	body, err := c.Open(context.Background(), r, desc, offset)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return io.ReadAll(body)
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

func write(t testing.TB, content string, elem ...string) string {
	t.Helper()
	path := filepath.Join(elem...)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
