package fleet

import (
	"context"
	"encoding/base64"
	"errors"
	"io/fs"
	"strings"
	"sync"
	"testing"

	contentlocal "github.com/containerd/containerd/v2/plugins/content/local"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// daemon is a gateway that notes what it is asked to solve.
type daemon struct {
	gateway.Client
	opts map[string]string

	mu    sync.Mutex
	asked []gateway.SolveRequest
}

func (d *daemon) BuildOpts() gateway.BuildOpts { return gateway.BuildOpts{Opts: d.opts} }

func (d *daemon) Solve(_ context.Context, req gateway.SolveRequest) (*gateway.Result, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = append(d.asked, req)
	res := gateway.NewResult()
	res.SetRef(nil)
	return res, nil
}

// TestSolveReadsCaches: BuildKit's client hands --cache-from to the front end,
// and has no effect unless that asks for it.
func TestSolveReadsCaches(t *testing.T) {
	d := &daemon{opts: map[string]string{"cache-imports": `[{"Type":"registry","Attrs":{"ref":"x"}}]`}}
	req := Request{Targets: []Target{{Definition: &pb.Definition{Def: [][]byte{{1}}}}, {}}}
	if _, err := req.solve(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if len(d.asked) != 1 { // the second is an image without files
		t.Fatalf("asked for %d definitions", len(d.asked))
	}
	if caches := d.asked[0].CacheImports; len(caches) != 1 || caches[0].Type != "registry" || caches[0].Attrs["ref"] != "x" {
		t.Errorf("reads the caches %v", caches)
	}
}

func TestPushed(t *testing.T) {
	descriptor := base64.StdEncoding.EncodeToString([]byte(`{"mediaType":"m","digest":"sha256:a","size":7,"annotations":{"config.digest":"x"}}`))
	p, err := pushed(map[string]string{"containerimage.descriptor": descriptor, "containerimage.config.digest": "sha256:b"})
	if err != nil || p.Desc.Size != 7 || p.Desc.Digest != "sha256:a" || p.ConfigDigest != "sha256:b" || p.Desc.Annotations != nil {
		t.Errorf("pushed %+v, %v", p, err)
	}
	if _, err := pushed(nil); err == nil {
		t.Error("a push without a descriptor went well")
	}
}

// TestLayoutStays: what the daemon may do to a layout of the user's.
func TestLayoutStays(t *testing.T) {
	store, err := contentlocal.NewStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	layout := readOnly{store}
	_, writeErr := layout.Writer(t.Context())
	for _, err := range []error{writeErr, layout.Delete(t.Context(), "sha256:a"), layout.Abort(t.Context(), "x")} {
		if !errors.Is(err, fs.ErrPermission) {
			t.Errorf("a layout is changed: %v", err)
		}
	}
}

func TestDialTakesKnownAddresses(t *testing.T) {
	_, err := Dial(t.Context(), Options{Address: "/run/socket"})
	if err == nil || !strings.Contains(err.Error(), "it begins with unix://") {
		t.Error(err)
	}
}

func TestFailure(t *testing.T) {
	c := &Client{address: "tcp://b:1"}
	at := func(line, character int32) error {
		source := errdefs.Source{Info: &pb.SourceInfo{Filename: "f", Data: []byte("x")}, Ranges: []*pb.Range{{Start: &pb.Position{Line: line, Character: character}}}}
		return errdefs.WithSource(errdefs.WrapVertex(errors.New("no"), "sha256:a"), &source)
	}
	var step *StepError
	if err := c.failure(at(3, 4)); !errors.As(err, &step) || err.Error() != "no" || step.Location.Ranges[0].Start.Line != 3 {
		t.Errorf("a failed step is %v", err)
	}
	if err := c.failure(at(-3, -4)); !errors.As(err, &step) || step.Location.Ranges[0].Start.Line != 0 || step.Location.Ranges[0].Start.Character != 0 {
		t.Errorf("a daemon that lies about the place is told as %v", err)
	}
	for cause, want := range map[error]string{
		status.Error(codes.Unavailable, "EOF"): "the connection to BuildKit at tcp://b:1 broke off",
		errors.New("push refused"):             "BuildKit at tcp://b:1: push refused",
	} {
		if err := c.failure(cause); !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v is told as %v", cause, err)
		}
	}
}
