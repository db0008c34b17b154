package faulttest

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/strata-build/strata/internal/testenv"
	"github.com/strata-build/strata/internal/testimage"
)

// fault is what a registry does wrong to an answer.
type fault func(w http.ResponseWriter, answer *httptest.ResponseRecorder)

// faultyRegistry is a registry whose answers to some requests go through the
// fault of the moment.
type faultyRegistry struct {
	host  string
	fault atomic.Pointer[plan]
	hits  atomic.Int64
}

// plan is a fault and the part of the path of the requests that it hits.
type plan struct {
	path  string
	fault fault
}

func newFaultyRegistry(t *testing.T) *faultyRegistry {
	t.Helper()
	r := &faultyRegistry{}
	healthy := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		p := r.fault.Load()
		if p == nil || req.Method == http.MethodHead || !strings.Contains(req.URL.Path, p.path) {
			healthy.ServeHTTP(w, req)
			return
		}
		r.hits.Add(1)
		answer := httptest.NewRecorder()
		healthy.ServeHTTP(answer, req)
		p.fault(w, answer)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(server.Close)
	r.host = strings.TrimPrefix(server.URL, "http://")
	return r
}

// send repeats an answer with another body; its length stays what it was.
func send(w http.ResponseWriter, answer *httptest.ResponseRecorder, body []byte) {
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Length", strconv.Itoa(answer.Body.Len()))
	w.WriteHeader(answer.Code)
	_, _ = w.Write(body) // the client may have gone
}

func hangUpAtOnce(http.ResponseWriter, *httptest.ResponseRecorder) { panic(http.ErrAbortHandler) }

func hangUpHalfWay(w http.ResponseWriter, answer *httptest.ResponseRecorder) {
	body := answer.Body.Bytes()
	send(w, answer, body[:len(body)/2])
	_ = http.NewResponseController(w).Flush() // the half does arrive
	panic(http.ErrAbortHandler)
}

func wrongByte(w http.ResponseWriter, answer *httptest.ResponseRecorder) {
	body := append([]byte(nil), answer.Body.Bytes()...)
	body[len(body)/2] ^= 1
	send(w, answer, body)
}

func status(code int) fault {
	return func(w http.ResponseWriter, _ *httptest.ResponseRecorder) { w.WriteHeader(code) }
}

// TestRegistryFaults pulls the base from a registry with a fault. The error
// names the registry or the image; nothing wrong stays in the store, so that
// the same build ends well as soon as the registry does.
func TestRegistryFaults(t *testing.T) {
	testenv.Root(t)
	busybox := testimage.Busybox(t)
	layers, err := busybox.Layers()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	layer := "/blobs/" + digest.String()
	for name, p := range map[string]plan{
		"layer hangs up half way":    {layer, hangUpHalfWay},
		"layer hangs up at once":     {layer, hangUpAtOnce},
		"layer has a wrong byte":     {layer, wrongByte},
		"layer is missing":           {layer, status(http.StatusNotFound)},
		"layer is broken":            {layer, status(http.StatusBadGateway)},
		"config hangs up half way":   {"/blobs/", hangUpHalfWay},
		"config has a wrong byte":    {"/blobs/", wrongByte},
		"config is missing":          {"/blobs/", status(http.StatusNotFound)},
		"manifest has a wrong byte":  {"/manifests/", wrongByte},
		"manifest hangs up half way": {"/manifests/", hangUpHalfWay},
		"manifest is missing":        {"/manifests/", status(http.StatusNotFound)},
		"registry is broken":         {"/", status(http.StatusInternalServerError)},
		"registry refuses":           {"/", status(http.StatusForbidden)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // most of the time goes by between the program's own retries
			m := newMachine(t)
			r := newFaultyRegistry(t)
			base := "base=" + testimage.Push(t, r.host, "shop/busybox:1", busybox)
			m.write("app.cue", `
_base: string @tag(base)
images: app: {from: _base, steps: ["echo hello > /greeting"]}
`)
			args := []string{"--set", base, "-o", "type=oci,dest=app.tar", "./app.cue"}
			want := m.fresh().digest(args...)
			r.fault.Store(&p)
			got := m.run(append([]string{"build", "--progress", "plain"}, args...)...)
			if got.code != 1 {
				t.Errorf("exit code %d, want 1:\n%s", got.code, got.output)
			}
			// What is before the last position is progress, which names the image anyway.
			message := got.output[max(0, strings.LastIndex(got.output, "app.cue:")):]
			if !strings.Contains(message, r.host) {
				t.Errorf("the error does not name the registry %s:\n%s", r.host, got.output)
			}
			if r.hits.Load() == 0 {
				t.Error("no request met the fault")
			}
			m.sane(got.output)
			r.fault.Store(nil)
			if d := m.digest(args...); d != want {
				t.Errorf("from the healthy registry the image is %s, want %s", d, want)
			}
			m.nothingRuns()
			m.nothingHalfDone()
		})
	}
}
