package httpsource

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/internal/testenv"
	"github.com/strata-build/strata/runtime/rootfs"
)

var ctx = context.Background()

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// memory keeps blobs and records.
type memory struct {
	mu      sync.Mutex
	blobs   map[digest.Digest][]byte
	records map[string][]byte
}

func newMemory() *memory {
	return &memory{blobs: map[digest.Digest][]byte{}, records: map[string][]byte{}}
}

func (m *memory) Open(_ context.Context, d digest.Digest) (io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.blobs[d]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

func (m *memory) Create(context.Context) (BlobWriter, error) { return &blob{m: m}, nil }

type blob struct {
	m *memory
	bytes.Buffer
}

func (b *blob) Close() error { return nil }

func (b *blob) Commit(_ context.Context, want digest.Digest) (digest.Digest, error) {
	d := digest.FromBytes(b.Bytes())
	if want != "" && d != want {
		return d, errors.New("the store refuses it")
	}
	b.m.mu.Lock()
	defer b.m.mu.Unlock()
	b.m.blobs[d] = b.Bytes()
	return d, nil
}

func (m *memory) Get(_ context.Context, key string, v any) (bool, error) {
	data, ok := m.records[key]
	if !ok {
		return false, nil
	}
	return true, json.Unmarshal(data, v)
}

func (m *memory) Put(_ context.Context, key string, v any, _ digest.Digest) (err error) {
	m.records[key], err = json.Marshal(v)
	return err
}

// client never waits.
func client(m *memory, change ...func(*Options)) *Client {
	o := Options{Blobs: m, Records: m, Wait: func(context.Context, int) error { return nil }}
	for _, f := range change {
		f(&o)
	}
	return New(o)
}

// server counts what it is asked.
type server struct {
	*httptest.Server
	requests []*http.Request
}

func serve(t *testing.T, h http.HandlerFunc) *server {
	s := &server{}
	var mu sync.Mutex
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		s.requests = append(s.requests, r)
		mu.Unlock()
		h(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func fetch(t *testing.T, c *Client, s *Source) (string, os.FileInfo, error) {
	t.Helper()
	r, err := c.Resolve(ctx, s)
	if err != nil {
		return "", nil, err
	}
	return fetchResolved(t, c, s, r)
}

func fetchResolved(t *testing.T, c *Client, s *Source, r Resolved) (string, os.FileInfo, error) {
	t.Helper()
	dir := t.TempDir()
	root, err := rootfs.OpenDir(dir)
	must(t, err)
	defer root.Close()
	if err := c.Fetch(ctx, s, r, root); err != nil {
		return "", nil, err
	}
	entries, err := os.ReadDir(dir)
	must(t, err)
	if len(entries) != 1 {
		t.Fatalf("%d files", len(entries))
	}
	data, err := os.ReadFile(filepath.Join(dir, entries[0].Name()))
	must(t, err)
	fi, err := entries[0].Info()
	must(t, err)
	return string(data), fi, nil
}

func TestFetch(t *testing.T) {
	modified := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Last-Modified", modified.Format(http.TimeFormat))
		if name := r.URL.Query().Get("name"); name != "" {
			w.Header().Set("Content-Disposition", name)
		}
		io.WriteString(w, "content")
	})
	for name, c := range map[string]struct {
		url  string
		s    Source
		file string
		perm os.FileMode
	}{
		"plain":                   {"/dir/f.txt", Source{}, "f.txt", 0o600},
		"query":                   {"/f.txt?x=/y", Source{}, "f.txt", 0o600},
		"escaped":                 {"/a%20b", Source{}, "a b", 0o600},
		"slash":                   {"/dir/", Source{}, "dir", 0o600},
		"no name":                 {"/", Source{}, "download", 0o600},
		"no path":                 {"", Source{}, "download", 0o600},
		"given name":              {"/x", Source{Filename: "n"}, "n", 0o600},
		"given path":              {"/x", Source{Filename: "../../n"}, "n", 0o600},
		"given dots":              {"/x", Source{Filename: ".."}, "download", 0o600},
		"disposition":             {"/x?name=attachment%3B+filename%3D%22n.tgz%22", Source{}, "n.tgz", 0o600},
		"disposition path":        {"/x?name=attachment%3B+filename%3D%22../../etc/n%22", Source{}, "n", 0o600},
		"disposition dir":         {"/x?name=attachment%3B+filename%3D%22n/%22", Source{}, "x", 0o600},
		"disposition, given name": {"/x?name=attachment%3B+filename%3Dn", Source{Filename: "m"}, "m", 0o600},
		"control characters":      {"/a%0Ab", Source{}, "download", 0o600},
		"mode":                    {"/x", Source{Perm: 0o4751}, "x", 0o751 | os.ModeSetuid},
	} {
		t.Run(name, func(t *testing.T) {
			c.s.URL = srv.URL + c.url
			text, fi, err := fetch(t, client(newMemory()), &c.s)
			must(t, err)
			if text != "content" || fi.Name() != c.file || fi.Mode() != c.perm || !fi.ModTime().Equal(modified) {
				t.Errorf("%q, %q, %v, %v", text, fi.Name(), fi.Mode(), fi.ModTime())
			}
		})
	}
}

func TestOwner(t *testing.T) {
	testenv.Root(t)
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "x") })
	_, fi, err := fetch(t, client(newMemory()), &Source{URL: srv.URL + "/f", UID: 3, GID: 4, Perm: 0o4755})
	must(t, err)
	if st := fi.Sys().(*syscall.Stat_t); st.Uid != 3 || st.Gid != 4 || fi.Mode() != 0o755|os.ModeSetuid {
		t.Errorf("%d:%d %v", st.Uid, st.Gid, fi.Mode())
	}
	if !fi.ModTime().Equal(time.Unix(0, 0)) {
		t.Errorf("time %v of a server that tells none", fi.ModTime())
	}
}

func TestOwnerWithASingleID(t *testing.T) {
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "x") })
	c := client(newMemory(), func(o *Options) { o.SingleID = true })
	s := &Source{URL: srv.URL + "/f", UID: 3, GID: 4, Perm: 0o755}
	r, err := c.Resolve(ctx, s)
	must(t, err)
	dir := t.TempDir()
	root, err := rootfs.OpenDir(dir)
	must(t, err)
	defer root.Close()
	if err := c.Fetch(ctx, s, r, root); errors.Is(err, unix.EOPNOTSUPP) {
		t.Skipf("MISSING: extended attributes: %v", err)
	} else {
		must(t, err)
	}
	value := make([]byte, 64)
	n, err := unix.Getxattr(filepath.Join(dir, "f"), "user.strata.stat", value)
	if err != nil || string(value[:n]) != "3:4:100755" {
		t.Errorf("%q, %v", value[:max(n, 0)], err)
	}
}

// A checksum needs no network to be resolved, and no record.
func TestChecksum(t *testing.T) {
	content := "content"
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Disposition", "attachment; filename=other")
		w.Header().Set("Last-Modified", "Tue, 15 Nov 1994 12:45:26 GMT")
		io.WriteString(w, content)
	})
	c := client(newMemory())
	s := &Source{URL: srv.URL + "/f", Checksum: digest.FromString("content")}
	r, err := c.Resolve(ctx, s)
	must(t, err)
	if len(srv.requests) != 0 || r.Digest != s.Checksum || r.Filename != "f" {
		t.Errorf("%d requests, %+v", len(srv.requests), r)
	}
	for range 2 {
		text, fi, err := fetchResolved(t, c, s, r)
		must(t, err)
		if text != "content" || fi.Name() != "f" || fi.ModTime().Unix() != 0 {
			t.Errorf("%q %v %v", text, fi.Name(), fi.ModTime())
		}
	}
	if len(srv.requests) != 1 {
		t.Errorf("%d requests", len(srv.requests))
	}

	content = "evil"
	_, _, err = fetch(t, client(newMemory()), s)
	if err == nil || !strings.Contains(err.Error(), s.Checksum.String()) || !strings.Contains(err.Error(), digest.FromString("evil").String()) {
		t.Errorf("error %v", err)
	}
	if len(srv.requests) != 2 {
		t.Errorf("a wrong file was downloaded %d times", len(srv.requests)-1)
	}
}

func TestNotModified(t *testing.T) {
	for name, c := range map[string]struct {
		header map[string]string
		answer func(r *http.Request) bool // 304
		bodies int
	}{
		"etag": {map[string]string{"ETag": `"one"`},
			func(r *http.Request) bool { return r.Header.Get("If-None-Match") == `"one"` }, 1},
		"weak etag": {map[string]string{"ETag": `W/"one"`},
			func(r *http.Request) bool { return r.Header.Get("If-None-Match") == `W/"one"` }, 1},
		"etag, but always 200": {map[string]string{"ETag": `"one"`}, func(*http.Request) bool { return false }, 1},
		"modification time": {map[string]string{"Last-Modified": "Tue, 15 Nov 1994 12:45:26 GMT"},
			func(r *http.Request) bool {
				return r.Header.Get("If-Modified-Since") == "Tue, 15 Nov 1994 12:45:26 GMT"
			}, 1},
		"modification time, but always 200": {map[string]string{"Last-Modified": "Tue, 15 Nov 1994 12:45:26 GMT"},
			func(*http.Request) bool { return false }, 2},
		"nothing": {nil, func(*http.Request) bool { return false }, 2},
	} {
		t.Run(name, func(t *testing.T) {
			srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
				for k, v := range c.header {
					w.Header().Set(k, v)
				}
				w.Header().Set("Content-Disposition", "attachment; filename=n")
				if c.answer(r) {
					w.Header().Del("Content-Disposition")
					w.WriteHeader(http.StatusNotModified)
					return
				}
				io.WriteString(w, "content")
			})
			m := newMemory()
			created := 0
			cl := client(m, func(o *Options) { o.Blobs = &counting{m, &created} })
			s := &Source{URL: srv.URL + "/f"}
			first, err := cl.Resolve(ctx, s)
			must(t, err)
			second, err := cl.Resolve(ctx, s)
			must(t, err)
			if first != second || first.Filename != "n" {
				t.Errorf("first %+v, then %+v", first, second)
			}
			if created != c.bodies {
				t.Errorf("stored %d times, want %d", created, c.bodies)
			}
			// Without the blob, the record is no use.
			clear(m.blobs)
			if third, err := cl.Resolve(ctx, s); err != nil || third != first {
				t.Errorf("%+v, %v", third, err)
			}
			if _, _, err := fetchResolved(t, cl, s, first); err != nil {
				t.Error(err)
			}
		})
	}
}

type counting struct {
	*memory
	n *int
}

func (c *counting) Create(ctx context.Context) (BlobWriter, error) {
	*c.n++
	return c.memory.Create(ctx)
}

func TestModified(t *testing.T) {
	version := 1
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", strconv.Quote(strconv.Itoa(version)))
		fmt.Fprintf(w, "version %d", version)
	})
	c := client(newMemory())
	s := &Source{URL: srv.URL + "/f"}
	for ; version < 4; version++ {
		text, _, err := fetch(t, c, s)
		if err != nil || text != fmt.Sprintf("version %d", version) {
			t.Errorf("%q, %v", text, err)
		}
	}
}

// The content changes between Resolve and Fetch, and the blob is gone: an
// error, not the other content.
func TestChangedBetweenResolveAndFetch(t *testing.T) {
	content := "one"
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, content) })
	m := newMemory()
	c := client(m)
	s := &Source{URL: srv.URL + "/f"}
	r, err := c.Resolve(ctx, s)
	must(t, err)
	clear(m.blobs)
	content = "two"
	if _, _, err := fetchResolved(t, c, s, r); err == nil || !strings.Contains(err.Error(), "checksum is wrong") {
		t.Error(err)
	}
}

// A body that is compressed for the way is unpacked, as BuildKit does.
func TestContentEncoding(t *testing.T) {
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Accept-Encoding"); got != "identity" {
			t.Errorf("Accept-Encoding: %s", got)
		}
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		io.WriteString(z, "content")
		z.Close()
	})
	text, _, err := fetch(t, client(newMemory()), &Source{URL: srv.URL + "/f", Checksum: digest.FromString("content")})
	if err != nil || text != "content" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestCancel(t *testing.T) {
	canceled, cancel := context.WithCancelCause(ctx)
	reason := errors.New("stopped by the user")
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "some")
		w.(http.Flusher).Flush()
		cancel(reason)
		<-r.Context().Done()
	})
	if _, err := client(newMemory()).Resolve(canceled, &Source{URL: srv.URL + "/f"}); !errors.Is(err, reason) {
		t.Error(err)
	}
	if len(srv.requests) != 1 {
		t.Errorf("%d requests", len(srv.requests))
	}
	if err := wait(canceled, 20); !errors.Is(err, reason) {
		t.Error(err)
	}
}

func TestHeaders(t *testing.T) {
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "x") })
	host := strings.Split(strings.TrimPrefix(srv.URL, "http://"), ":")[0]
	for name, c := range map[string]struct {
		s       Source
		secrets map[string]string
		auth    string
		agent   string
		fails   bool
	}{
		"none":             {agent: "strata"},
		"user agent":       {s: Source{Header: []HeaderField{{"User-Agent", "me"}}}, agent: "me"},
		"token":            {secrets: map[string]string{"HTTP_AUTH_TOKEN_" + host: "tok\n"}, auth: "Bearer tok", agent: "strata"},
		"header":           {secrets: map[string]string{"HTTP_AUTH_HEADER_" + host: "Basic x"}, auth: "Basic x", agent: "strata"},
		"named":            {s: Source{AuthHeaderSecret: "mine"}, secrets: map[string]string{"mine": "Basic y", "HTTP_AUTH_TOKEN_" + host: "z"}, auth: "Basic y", agent: "strata"},
		"named, not given": {s: Source{AuthHeaderSecret: "mine"}, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			c.s.URL = srv.URL + "/f"
			cl := client(newMemory(), func(o *Options) {
				o.Secret = func(_ context.Context, id string) ([]byte, error) {
					if v, ok := c.secrets[id]; ok {
						return []byte(v), nil
					}
					return nil, ErrNoSecret
				}
			})
			_, _, err := fetch(t, cl, &c.s)
			if c.fails {
				if !errors.Is(err, ErrNoSecret) || !strings.Contains(err.Error(), `"mine"`) {
					t.Errorf("error %v", err)
				}
				return
			}
			must(t, err)
			last := srv.requests[len(srv.requests)-1].Header
			if last.Get("Authorization") != c.auth || last.Get("User-Agent") != c.agent {
				t.Errorf("headers %v", last)
			}
		})
	}
}

// GHSA-gc89-7gcr-jxqc: no credentials in messages, records or keys, and none
// to another host.
func TestCredentials(t *testing.T) {
	other := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Error("credentials were sent to another host")
		}
		if r.URL.Query().Get("fail") != "" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		w.Header().Set("ETag", `"x"`)
		io.WriteString(w, "x")
	})
	fail := ""
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "me" || password != "hunter2" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		http.Redirect(w, r, strings.Replace(other.URL, "127.0.0.1", "localhost", 1)+"/f?signature=hunter2"+fail, http.StatusFound)
	})
	m := newMemory()
	c := client(m)
	s := &Source{URL: strings.Replace(srv.URL, "://", "://me:hunter2@", 1) + "/f"}
	r, err := c.Resolve(ctx, s)
	must(t, err)
	all := fmt.Sprint(s.String(), s.Key(r), s.recordKey(), m.records)
	fail = "&fail=1"
	_, err = c.Resolve(ctx, s)
	if err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("error %v", err)
	}
	all += err.Error()
	other.Close()
	_, err = client(m, func(o *Options) { o.Retries = -1 }).Resolve(ctx, s)
	if err == nil {
		t.Error("no error")
	}
	for _, r := range m.records {
		all += string(r)
	}
	if all += err.Error(); strings.Contains(all, "hunter2") || strings.Contains(all, "me:") {
		t.Errorf("a secret shows: %s", all)
	}
}

func TestProgress(t *testing.T) {
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "300000")
		w.Write(make([]byte, 300000))
	})
	var last, all int64
	_, _, err := fetch(t, client(newMemory(), func(o *Options) {
		o.Progress = func(current, total int64) {
			if current <= last {
				t.Errorf("%d after %d", current, last)
			}
			last, all = current, total
		}
	}), &Source{URL: srv.URL + "/f"})
	must(t, err)
	if last != 300000 || all != 300000 {
		t.Errorf("%d of %d", last, all)
	}
}

// What client/llb writes is what Parse reads.
func TestParse(t *testing.T) {
	sum := digest.FromString("x")
	for name, c := range map[string]struct {
		state llb.State
		want  Source
	}{
		"plain": {llb.HTTP("https://example.com/f"), Source{URL: "https://example.com/f"}},
		"all": {llb.HTTP("http://example.com/f?q=1", llb.Checksum(sum), llb.Filename("n"), llb.Chmod(0o755), llb.Chown(3, 4),
			llb.AuthHeaderSecret("s"), llb.Header(llb.HTTPHeader{Accept: "a/b", UserAgent: "me"})),
			Source{URL: "http://example.com/f?q=1", Checksum: sum, Filename: "n", Perm: 0o755, UID: 3, GID: 4, AuthHeaderSecret: "s",
				Header: []HeaderField{{"Accept", "a/b"}, {"User-Agent", "me"}}}},
	} {
		t.Run(name, func(t *testing.T) {
			src := sourceOp(t, c.state)
			s, err := Parse(src.Identifier, src.Attrs)
			must(t, err)
			if got, want := fmt.Sprintf("%+v", *s), fmt.Sprintf("%+v", c.want); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
	for name, c := range map[string]struct {
		id    string
		attrs map[string]string
		want  string
	}{
		"other scheme":      {"ftp://x/y", nil, "malformed"},
		"malformed":         {"https://me:secret@ex ample/", nil, "malformed"},
		"no host":           {"https:///x", nil, "malformed"},
		"session upload":    {"http://buildkit-session/x", nil, "not supported"},
		"checksum":          {"https://x/y", map[string]string{pb.AttrHTTPChecksum: "sha256:zz"}, "http.checksum"},
		"other checksum":    {"https://x/y", map[string]string{pb.AttrHTTPChecksum: digest.SHA512.FromString("x").String()}, "sha256"},
		"mode":              {"https://x/y", map[string]string{pb.AttrHTTPPerm: "010000"}, "http.perm"},
		"negative owner":    {"https://x/y", map[string]string{pb.AttrHTTPUID: "-1"}, "http.uid"},
		"unknown attribute": {"https://me:secret@x/y", map[string]string{pb.AttrHTTPSignatureVerify: "x"}, "http.sig.signature"},
	} {
		if _, err := Parse(c.id, c.attrs); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret@") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if s, err := Parse("https://x/y", map[string]string{"http.header.authorization": "x"}); err != nil || len(s.Header) > 0 {
		t.Errorf("a header that BuildKit drops: %v, %v", s, err)
	}
}

func sourceOp(t *testing.T, st llb.State) *pb.SourceOp {
	t.Helper()
	def, err := st.Marshal(ctx)
	must(t, err)
	for _, dt := range def.ToPB().Def {
		var op pb.Op
		must(t, op.UnmarshalVT(dt))
		if src := op.GetSource(); src != nil {
			return src
		}
	}
	t.Fatal("no source")
	return nil
}

// CVE-2024-24557: everything that changes the file changes the key.
func TestKeySeesEveryField(t *testing.T) {
	base := Resolved{Digest: digest.FromString("a"), Filename: "f"}
	keys := map[digest.Digest]bool{}
	for _, s := range []Source{{}, {Perm: 0o644}, {UID: 1}, {GID: 1}} {
		keys[s.Key(base)] = true
	}
	for _, r := range []Resolved{
		{Digest: digest.FromString("b"), Filename: "f"}, {Digest: base.Digest, Filename: "g"},
		{Digest: base.Digest, Filename: "f", LastModified: time.Unix(5, 0)},
	} {
		keys[(&Source{}).Key(r)] = true
	}
	if len(keys) != 7 {
		t.Errorf("%d keys of 7", len(keys))
	}
}

func FuzzFilename(f *testing.F) {
	for _, s := range []string{"a", "../x", "/", "a/..", "\x00", "attachment; filename=\"../../x\"", strings.Repeat("x", 300)} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, url, disposition string) {
		header := http.Header{}
		header.Set("Content-Disposition", disposition)
		for _, s := range []Source{{URL: "https://x/" + url}, {URL: url, Filename: disposition}} {
			name := s.filename(header)
			if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") || len(name) > 255 {
				t.Errorf("%q", name)
			}
		}
	})
}
