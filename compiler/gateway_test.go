package compiler

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerui"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	fstypes "github.com/tonistiigi/fsutil/types"
)

// fakeGateway is a BuildKit that only lets the front end read files of local
// sources, which is how it reads ignore files.
type fakeGateway struct {
	registry
	opts map[string]string
	dirs map[string]string // local name: directory
}

var errFake = errors.New("not in this fake")

func (g *fakeGateway) BuildOpts() gateway.BuildOpts {
	caps := pb.Caps.CapSet(pb.Caps.All())
	return gateway.BuildOpts{
		Opts: g.opts, SessionID: "session", LLBCaps: caps, Caps: gwpb.Caps.CapSet(gwpb.Caps.All()),
		Workers: []gateway.WorkerInfo{{Platforms: []ocispecs.Platform{{OS: "linux", Architecture: "amd64"}}}},
	}
}

func (g *fakeGateway) Solve(_ context.Context, req gateway.SolveRequest) (*gateway.Result, error) {
	names := newSourceNames()
	for _, dt := range req.Definition.Def {
		if err := names.note(dt); err != nil {
			return nil, err
		}
	}
	if len(names.locals) != 1 {
		return nil, errFake
	}
	dir, ok := g.dirs[slices.Collect(maps.Keys(names.locals))[0]]
	if !ok {
		return nil, errFake
	}
	res := gateway.NewResult()
	res.SetRef(&fakeRef{dir: dir})
	return res, nil
}

func (g *fakeGateway) ResolveSourceMetadata(context.Context, *pb.SourceOp, sourceresolver.Opt) (*sourceresolver.MetaResponse, error) {
	return nil, errFake
}

func (g *fakeGateway) ResolveImageConfig(ctx context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	return g.registry.ResolveImageConfig(ctx, ref, opt)
}

func (g *fakeGateway) Inputs(context.Context) (map[string]llb.State, error) { return nil, nil }

func (g *fakeGateway) NewContainer(context.Context, gateway.NewContainerRequest) (gateway.Container, error) {
	return nil, errFake
}

func (g *fakeGateway) Warn(context.Context, digest.Digest, string, gateway.WarnOpts) error {
	return nil
}

type fakeRef struct{ dir string }

func (r *fakeRef) ToState() (llb.State, error)    { return llb.State{}, errFake }
func (r *fakeRef) Evaluate(context.Context) error { return nil }

func (r *fakeRef) ReadFile(_ context.Context, req gateway.ReadRequest) ([]byte, error) {
	return os.ReadFile(filepath.Join(r.dir, req.Filename))
}

func (r *fakeRef) StatFile(_ context.Context, req gateway.StatRequest) (*fstypes.Stat, error) {
	st, err := os.Stat(filepath.Join(r.dir, req.Path))
	if err != nil {
		return nil, err
	}
	return &fstypes.Stat{Path: req.Path, Size: st.Size()}, nil
}

func (r *fakeRef) ReadDir(context.Context, gateway.ReadDirRequest) ([]*fstypes.Stat, error) {
	return nil, errFake
}

// viaGateway compiles a Dockerfile as buildctl and buildx have it done, with
// ignore files and named contexts.
func viaGateway(t *testing.T, text string, g *fakeGateway) Target {
	t.Helper()
	client, err := dockerui.NewClient(g)
	if err != nil {
		t.Fatal(err)
	}
	opt := dockerfile2llb.ConvertOpt{Config: client.Config, Client: client, MetaResolver: g}
	res, err := dockerfile2llb.Dockerfile2LLB(context.Background(), []byte(text), opt)
	if err != nil {
		t.Fatalf("dockerfile2llb: %v\n%s", err, text)
	}
	return dockerfileTarget(t, res)
}

// writeFiles writes files below dir, which may be nested.
func writeFiles(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestEqualWithContexts compares with the front end where it has ignore
// files and named contexts, through a gateway.
func TestEqualWithContexts(t *testing.T) {
	for _, c := range []struct {
		name, cue, dockerfile string
		files                 map[string]string
		contexts              map[string]string // name: value as buildx passes it
	}{
		{
			name:       "ignore file",
			cue:        `from: "alpine", steps: [{copy: ["a", "b/*"], to: "/x/"}]`,
			dockerfile: "FROM alpine\nCOPY a b/* /x/",
			files:      map[string]string{".dockerignore": "# comment\n*.bak\n/node_modules\n!keep.bak\n"},
		},
		{
			name:       "empty ignore file",
			cue:        `from: "alpine", steps: [{copy: ".", to: "/x/"}]`,
			dockerfile: "FROM alpine\nCOPY . /x/",
			files:      map[string]string{".dockerignore": ""},
		},
		{
			name:       "another directory",
			cue:        `from: "alpine", steps: [{copy: ["a", "/b/c"], from: {local: "docs"}, to: "/x/"}, {copy: "d", to: "/"}, {copy: "e", from: {local: "docs"}, to: "/"}]`,
			dockerfile: "FROM alpine\nCOPY --from=docs a /b/c /x/\nCOPY d /\nCOPY --from=docs e /",
			files:      map[string]string{"docs/.dockerignore": "*.tmp\n", ".dockerignore": "docs\n"},
			contexts:   map[string]string{"docs": "local:docs"},
		},
		{
			name:       "mount of another directory",
			cue:        `from: "alpine", steps: [{run: "x", mounts: {"/d": {from: {local: "docs"}, source: "s"}, "/e": {from: {local: "docs"}}}}]`,
			dockerfile: "FROM alpine\nRUN --mount=from=docs,target=/d,source=s --mount=from=docs,target=/e x",
			contexts:   map[string]string{"docs": "local:docs"},
		},
		{
			name:       "directory as base",
			cue:        `from: {local: "docs"}, steps: ["x"]`,
			dockerfile: "FROM docs\nRUN x",
			files:      map[string]string{"docs/.dockerignore": "*.tmp\n"},
			contexts:   map[string]string{"docs": "local:docs"},
		},
		{
			name:       "repository",
			cue:        `from: "alpine", steps: [{copy: "a", from: {git: "https://example.com/x/y.git", ref: "v1", subdir: "s"}, to: "/"}]`,
			dockerfile: "FROM alpine\nCOPY --from=repo a /",
			contexts:   map[string]string{"repo": "https://example.com/x/y.git#v1:s"},
		},
		{
			name:       "repository with a query",
			cue:        `from: "alpine", steps: [{copy: "a", from: {git: "https://example.com/x/y.git?tag=v1&keep-git-dir=1&submodules=0&mtime=commit", checksum: "0123456789012345678901234567890123456789"}, to: "/"}]`,
			dockerfile: "FROM alpine\nCOPY --from=repo a /",
			contexts:   map[string]string{"repo": "https://example.com/x/y.git?tag=v1&keep-git-dir=1&submodules=0&mtime=commit&checksum=0123456789012345678901234567890123456789"},
		},
		{
			name:       "repository as base",
			cue:        `from: {git: "https://example.com/x/y.git"}, steps: ["x"]`,
			dockerfile: "FROM repo\nRUN x",
			contexts:   map[string]string{"repo": "https://example.com/x/y.git"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			writeFiles(t, dir, c.files)
			if err := os.MkdirAll(filepath.Join(dir, "docs"), 0o755); err != nil {
				t.Fatal(err)
			}
			spec := loadCUE(t, dir, "images: app: {"+c.cue+"}")
			got := compileOne(t, spec.Images[0], buildOptions{}.options(t))
			g := &fakeGateway{opts: map[string]string{}, dirs: map[string]string{"context": dir, "docs": filepath.Join(dir, "docs")}}
			for name, value := range c.contexts {
				g.opts["context:"+name] = value
			}
			want := viaGateway(t, c.dockerfile, g)
			if diff, ok := Equal(got, want); !ok {
				t.Errorf("compiled != Dockerfile: %s", diff)
			}
			for name, l := range got.Locals {
				if l.Dir != g.dirs[name] {
					t.Errorf("local %s is %s, want %s", name, l.Dir, g.dirs[name])
				}
			}
		})
	}
}

// TestIgnoreFileErrors makes sure that an ignore file is never skipped
// silently.
func TestIgnoreFileErrors(t *testing.T) {
	for name, text := range map[string]string{
		"too large":   strings.Repeat("x\n", ignoreLimit),
		"unparseable": strings.Repeat("y", 1<<20),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			spec := loadCUE(t, dir, `images: app: {from: "alpine", steps: [{copy: "a", to: "/"}]}`)
			writeFiles(t, dir, map[string]string{ignoreFile: text})
			_, err := Compile(context.Background(), spec, buildOptions{}.options(t))
			if err == nil || !strings.Contains(err.Error(), "ignore file of the context") {
				t.Errorf("got %v", err)
			}
		})
	}
}
