package httpsource

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// cutting serves data, but cuts the connection after each step bytes.
type cutting struct {
	data   []byte
	step   int
	header map[string]string
	ranges bool
	onCut  func()
}

func (c *cutting) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for k, v := range c.header {
		w.Header().Set(k, v)
	}
	from := 0
	ifRange := r.Header.Get("If-Range")
	valid := ifRange == "" || ifRange == c.header["ETag"] || ifRange == c.header["Last-Modified"]
	if rest, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok && c.ranges && valid {
		from, _ = strconv.Atoi(strings.TrimSuffix(rest, "-"))
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(c.data)-1, len(c.data)))
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(c.data)-from))
	if from > 0 {
		w.WriteHeader(http.StatusPartialContent)
	}
	end := min(from+c.step, len(c.data))
	w.Write(c.data[from:end])
	if end < len(c.data) {
		if c.onCut != nil {
			c.onCut()
		}
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
}

func TestCutConnections(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
	etag := map[string]string{"ETag": `"x"`}
	for name, c := range map[string]struct {
		cutting
		pinned bool
		fails  bool
	}{
		"etag":                     {cutting: cutting{step: 100 << 10, header: etag, ranges: true}},
		"modification time":        {cutting: cutting{step: 100 << 10, header: map[string]string{"Last-Modified": "Tue, 15 Nov 1994 12:45:26 GMT"}, ranges: true}},
		"checksum":                 {cutting: cutting{step: 100 << 10, ranges: true}, pinned: true},
		"nothing to be certain by": {cutting: cutting{step: 100 << 10, ranges: true}, fails: true},
		"weak etag":                {cutting: cutting{step: 100 << 10, header: map[string]string{"ETag": `W/"x"`}, ranges: true}, fails: true},
		"no ranges":                {cutting: cutting{step: 100 << 10, header: etag}, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			c.data = data
			srv := serve(t, c.ServeHTTP)
			s := &Source{URL: srv.URL + "/f"}
			if c.pinned {
				s.Checksum = digest.FromBytes(data)
			}
			text, _, err := fetch(t, client(newMemory()), s)
			if c.fails {
				if err == nil || !strings.Contains(err.Error(), "given up after") {
					t.Errorf("error %v", err)
				}
				return
			}
			must(t, err)
			if text != string(data) {
				t.Errorf("%d bytes of %d", len(text), len(data))
			}
			if len(srv.requests) != 11 {
				t.Errorf("%d requests", len(srv.requests))
			}
		})
	}
}

// The file changes while it is downloaded: nothing is put together of two.
func TestChangedWhileCut(t *testing.T) {
	c := &cutting{data: bytes.Repeat([]byte("a"), 1<<20), step: 700 << 10, header: map[string]string{"ETag": `"a"`}, ranges: true}
	c.onCut = func() {
		c.data, c.header, c.step = bytes.Repeat([]byte("b"), 1<<20), map[string]string{"ETag": `"b"`}, 2<<20
	}
	srv := serve(t, c.ServeHTTP)
	text, _, err := fetch(t, client(newMemory()), &Source{URL: srv.URL + "/f"})
	must(t, err)
	if text != strings.Repeat("b", 1<<20) {
		t.Errorf("%d bytes, begin %.3q, end %q", len(text), text, text[len(text)-3:])
	}
}

// A server that lies about the range does not get wrong bytes in, with a
// checksum.
func TestWrongRange(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
	n := 0
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		if n++; n == 1 {
			w.Write(data[:1<<19])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
		if r.Header.Get("Range") != "" && n == 2 {
			w.Header().Set("Content-Range", "bytes 5-7/8")
			w.WriteHeader(http.StatusPartialContent)
			return
		}
		w.Write(data)
	})
	text, _, err := fetch(t, client(newMemory()), &Source{URL: srv.URL + "/f", Checksum: digest.FromBytes(data)})
	must(t, err)
	if text != string(data) {
		t.Errorf("%d bytes", len(text))
	}
}

func TestRetries(t *testing.T) {
	for name, c := range map[string]struct {
		codes []int
		tries int
		want  string
	}{
		"server error, then well": {[]int{503, 500, 429}, 4, ""},
		"server error":            {[]int{503, 503, 503, 503, 503, 503, 503}, 6, "503 Service Unavailable"},
		"not found":               {[]int{404}, 1, "404 Not Found"},
		"forbidden":               {[]int{403}, 1, "HTTP_AUTH_TOKEN"},
		"not modified":            {[]int{304}, 1, "304 Not Modified"},
		"partial":                 {[]int{206}, 1, "206 Partial Content"},
		"redirect to nowhere":     {[]int{302}, 1, "302 Found"},
	} {
		t.Run(name, func(t *testing.T) {
			codes := c.codes
			srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				if len(codes) > 0 {
					w.WriteHeader(codes[0])
					codes = codes[1:]
					return
				}
				io.WriteString(w, "well")
			})
			waits := 0
			cl := client(newMemory(), func(o *Options) {
				o.Wait = func(_ context.Context, n int) error {
					if waits++; n != waits {
						t.Errorf("wait %d is number %d", n, waits)
					}
					return nil
				}
			})
			text, _, err := fetch(t, cl, &Source{URL: srv.URL + "/f"})
			if c.want == "" && (err != nil || text != "well") || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%q, %v", text, err)
			}
			if len(srv.requests) != c.tries {
				t.Errorf("%d requests, want %d", len(srv.requests), c.tries)
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	srv := serve(t, nil)
	srv.Close()
	_, _, err := fetch(t, client(newMemory(), func(o *Options) { o.Retries = -1 }), &Source{URL: srv.URL + "/f"})
	if err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Error(err)
	}
}

func TestLimit(t *testing.T) {
	for _, length := range []bool{true, false} {
		srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			if length {
				w.Header().Set("Content-Length", "1001")
			}
			w.Write(make([]byte, 1001))
		})
		_, _, err := fetch(t, client(newMemory(), func(o *Options) { o.MaxSize = 1000 }), &Source{URL: srv.URL + "/f"})
		if !errors.Is(err, errTooLarge) || len(srv.requests) != 1 {
			t.Errorf("%v after %d requests", err, len(srv.requests))
		}
	}
}
