package engine

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"

	"github.com/strata-build/strata/runtime/registry"
	"github.com/strata-build/strata/runtime/worker"
	"github.com/strata-build/strata/solver"
)

func TestPipe(t *testing.T) {
	written, unread := errors.New("not built"), errors.New("disk full")
	put := func(text string, err error) func(io.Writer) error {
		return func(w io.Writer) error {
			if _, werr := io.WriteString(w, text); werr != nil {
				return errors.New("the daemon says: " + werr.Error())
			}
			return err
		}
	}
	all := func(r io.Reader) error { _, err := io.ReadAll(r); return err }
	for name, c := range map[string]struct {
		write func(io.Writer) error
		read  func(io.Reader) error
		want  error
	}{
		"well":                     {put("x", nil), all, nil},
		"with more than is wanted": {put(strings.Repeat("x", 1<<20), nil), func(r io.Reader) error { _, err := r.Read(make([]byte, 1)); return err }, nil},
		"not built":                {put("", written), all, written},
		"broken off":               {put("x", written), all, written},
		"cannot be read":           {put("x", nil), func(io.Reader) error { return unread }, unread},
	} {
		if err := pipe(c.write, c.read); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestObserver: a step that ran for one image is found by the next.
func TestObserver(t *testing.T) {
	now := time.Now()
	var o observer
	o.steps = map[string]solver.Verdict{}
	for _, cached := range []bool{false, true} {
		status, done := o.watch()
		status <- &client.SolveStatus{Vertexes: []*client.Vertex{
			{Digest: "sha256:shared", Completed: &now, Cached: cached}, {Digest: "sha256:base", Completed: &now, Cached: true}, {Digest: "sha256:running"},
		}}
		done()
	}
	if len(o.steps) != 2 || o.steps["sha256:shared"] != solver.Ran || o.steps["sha256:base"] != solver.Cached {
		t.Errorf("steps ended as %v", o.steps)
	}
}

func TestAllow(t *testing.T) {
	r := remote{req: Request{AllowInsecure: true, AllowHostNetwork: true, AllowDevices: []string{worker.AllDevices, "vendor.com/gpu=all"}}}
	want := []string{"security.insecure", "network.host", "device", "device=vendor.com/gpu=all"}
	if got := r.allow(); !slices.Equal(got, want) {
		t.Errorf("allows %q, not %q", got, want)
	}
}

func TestCheckPermissions(t *testing.T) {
	def, err := llb.Scratch().Run(llb.Args([]string{"x"}), llb.Security(llb.SecurityModeInsecure)).Root().Marshal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	req := Request{Targets: []Target{{Definition: &pb.Definition{}}, {Definition: def.ToPB()}}}
	var vertex *solver.VertexError
	if err := req.checkPermissions(); !errors.As(err, &vertex) || !strings.Contains(err.Error(), "--allow security.insecure") {
		t.Errorf("an insecure step: %v", err)
	}
	if req.AllowInsecure = true; req.checkPermissions() != nil {
		t.Errorf("it is permitted, but %v", req.checkPermissions())
	}
}

// TestLogin: a login by an identity token has no user, whatever name stands by it.
func TestLogin(t *testing.T) {
	config := filepath.Join(t.TempDir(), "config.json")
	text := `{"auths": {"a.example": {"auth": "dTpw"}, "b.example": {"auth": "MDAwOg==", "identitytoken": "token"}}}`
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	client, err := registry.New(registry.Options{ConfigPaths: []string{config}})
	if err != nil {
		t.Fatal(err)
	}
	r := remote{e: &Engine{Registry: client}}
	for host, want := range map[string][2]string{"a.example": {"u", "p"}, "b.example": {"", "token"}, "c.example": {}} {
		if user, password := r.login(host); [2]string{user, password} != want {
			t.Errorf("%s is logged in to as %q with %q", host, user, password)
		}
	}
}
