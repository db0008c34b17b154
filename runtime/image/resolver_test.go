package image

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/solver/pb"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func imageOpt(platform, mode string) sourceresolver.Opt {
	os, arch, _ := strings.Cut(platform, "/")
	return sourceresolver.Opt{ImageOpt: &sourceresolver.ResolveImageOpt{Platform: &ocispec.Platform{OS: os, Architecture: arch}, ResolveMode: mode}}
}

func TestResolverRecordsAnswers(t *testing.T) {
	s, srv := newSetup(t), newServer(t)
	want := remoteIndex(t, srv, "a/b:1", "linux/amd64", "linux/arm64")
	name := srv.host + "/a/b:1"
	ctx := context.Background()
	resolve := func(o ResolverOptions, opt sourceresolver.Opt) (string, error) {
		ref, d, config, err := s.MetaResolver(o).ResolveImageConfig(ctx, name, opt)
		if err == nil && (ref != name || d.String() != want.String()) {
			t.Errorf("got %s, %s; want %s, %s", ref, d, name, want)
		}
		return string(config), err
	}
	config, err := resolve(ResolverOptions{}, imageOpt("linux/amd64", ""))
	if err != nil || !strings.Contains(config, `"amd64"`) {
		t.Fatalf("config %s, %v", config, err)
	}
	srv.misbehave(nil)
	if _, err := resolve(ResolverOptions{}, imageOpt("linux/amd64", "")); err != nil || srv.count("") != 0 {
		t.Errorf("the second time: %v, %d requests", err, srv.count(""))
	}
	if _, err := resolve(ResolverOptions{Offline: true}, imageOpt("linux/amd64", "")); err != nil {
		t.Errorf("offline: %v", err)
	}
	// Another platform of a known index is fetched by digest.
	if config, err := resolve(ResolverOptions{}, imageOpt("linux/arm64", "")); err != nil || !strings.Contains(config, `"arm64"`) {
		t.Errorf("another platform: %s, %v", config, err)
	}
	if n := srv.count("HEAD"); n != 0 {
		t.Errorf("the tag was asked for again")
	}
	for _, opt := range []func() (string, error){
		func() (string, error) { return resolve(ResolverOptions{Pull: true}, imageOpt("linux/amd64", "")) },
		func() (string, error) {
			return resolve(ResolverOptions{}, imageOpt("linux/amd64", pb.AttrImageResolveModeForcePull))
		},
	} {
		srv.misbehave(nil)
		if _, err := opt(); err != nil || srv.count("HEAD /v2/a/b/manifests/1") != 1 {
			t.Errorf("with pull: %v, requests %q", err, srv.requests)
		}
	}
}

func TestPullSeesTheNewImage(t *testing.T) {
	s, srv := newSetup(t), newServer(t)
	remoteImage(t, srv, "a/b:1", 1)
	name := srv.host + "/a/b:1"
	ctx := context.Background()
	_, first, _, err := s.MetaResolver(ResolverOptions{}).ResolveImageConfig(ctx, name, sourceresolver.Opt{})
	if err != nil {
		t.Fatal(err)
	}
	newer, _ := remoteImage(t, srv, "a/b:1", 2).Digest()
	for _, test := range []struct {
		pull bool
		want string
	}{{false, first.String()}, {true, newer.String()}} {
		_, d, _, err := s.MetaResolver(ResolverOptions{Pull: test.pull}).ResolveImageConfig(ctx, name, sourceresolver.Opt{})
		if err != nil || d.String() != test.want {
			t.Errorf("pull %t: %s, %v; want %s", test.pull, d, err, test.want)
		}
	}
}

func TestResolverPrefersTheImageStore(t *testing.T) {
	s, srv := newSetup(t), newServer(t)
	remoteImage(t, srv, "a/b:1", 1)
	name := srv.host + "/a/b:1"
	desc := s.localImage(t, amd64, "local layer")
	if _, err := s.Put(context.Background(), name, desc); err != nil {
		t.Fatal(err)
	}
	srv.misbehave(nil)
	_, d, _, err := s.MetaResolver(ResolverOptions{}).ResolveImageConfig(context.Background(), name, imageOpt("linux/amd64", ""))
	if err != nil || d != desc.Digest || srv.count("") != 0 {
		t.Errorf("got %s, %v after %d requests", d, err, srv.count(""))
	}
	// An image for another platform does not stand for this one.
	if _, d, _, err := s.MetaResolver(ResolverOptions{}).ResolveImageConfig(context.Background(), name, imageOpt("linux/s390x", "")); err != nil || d == desc.Digest {
		t.Errorf("for another platform: %s, %v", d, err)
	}
}

func TestResolverOffline(t *testing.T) {
	s, srv := newSetup(t), newServer(t)
	remoteImage(t, srv, "a/b:1", 1)
	_, _, _, err := s.MetaResolver(ResolverOptions{Offline: true}).ResolveImageConfig(context.Background(), srv.host+"/a/b:1", sourceresolver.Opt{})
	if !errors.Is(err, ErrMissing) {
		t.Errorf("err = %v", err)
	}
	wantError(t, err, "not in the store", "network")
}

func TestResolverOfPinnedReference(t *testing.T) {
	s, srv := newSetup(t), newServer(t)
	want, _ := remoteImage(t, srv, "a/b:1", 1).Digest()
	name := srv.host + "/a/b:1@" + want.String()
	for i := range 2 {
		srv.misbehave(nil)
		ref, d, config, err := s.MetaResolver(ResolverOptions{Pull: true}).ResolveImageConfig(context.Background(), name, sourceresolver.Opt{})
		if err != nil || ref != name || d.String() != want.String() || len(config) == 0 {
			t.Fatalf("got %s, %s, %v", ref, d, err)
		}
		if n := srv.count("HEAD"); n != 0 {
			t.Error("a pinned reference needs no question about its tag")
		}
		if n := srv.count(""); i == 1 && n != 0 {
			t.Errorf("the second time it took %d requests", n)
		}
	}
}

func TestResolverAsksOnce(t *testing.T) {
	s, srv := newSetup(t), newServer(t)
	remoteImage(t, srv, "a/b:1", 1)
	var all sync.WaitGroup
	var first sync.Once // one who asks late may ask anew
	arrived := make(chan struct{}, 10)
	srv.misbehave(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodHead {
			first.Do(func() {
				for range 10 {
					<-arrived // until all have asked
				}
			})
		}
		return false
	})
	m := s.MetaResolver(ResolverOptions{Pull: true})
	for range 10 {
		all.Go(func() {
			q := query{named: ref(t, srv.host+"/a/b:1")}
			result := make(chan error, 1)
			go func() {
				_, err := m.ask(context.Background(), q.named)
				result <- err
			}()
			arrived <- struct{}{}
			if err := <-result; err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := srv.count("HEAD"); n > 2 {
		t.Errorf("%d questions for ten askers", n)
	}
}

func TestResolverCancellation(t *testing.T) {
	s, srv := newSetup(t), newServer(t)
	remoteImage(t, srv, "a/b:1", 1)
	ctx, cancel := context.WithCancel(context.Background())
	release := make(chan struct{})
	srv.misbehave(func(http.ResponseWriter, *http.Request) bool {
		cancel()
		<-release
		return false
	})
	_, _, _, err := s.MetaResolver(ResolverOptions{}).ResolveImageConfig(ctx, srv.host+"/a/b:1", sourceresolver.Opt{})
	close(release)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
}

func TestResolverOfLayout(t *testing.T) {
	s := newSetup(t)
	dir := filepath.Join(t.TempDir(), "layout")
	img := randomImage(t, 2, "linux/amd64")
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := path.AppendImage(img, layout.WithAnnotations(map[string]string{ocispec.AnnotationRefName: "v1"})); err != nil {
		t.Fatal(err)
	}
	want, _ := img.Digest()
	m := s.MetaResolver(ResolverOptions{Layouts: map[string]string{"base": dir}})
	opt := sourceresolver.Opt{OCILayoutOpt: &sourceresolver.ResolveOCILayoutOpt{Store: sourceresolver.ResolveImageConfigOptStore{StoreID: "base"}}}
	for _, name := range []string{"base:v1", "base@" + want.String()} {
		_, d, config, err := m.ResolveImageConfig(context.Background(), name, opt)
		if err != nil || d.String() != want.String() || len(config) == 0 {
			t.Errorf("%s: %s, %v", name, d, err)
		}
	}
	opt.OCILayoutOpt.Store.StoreID = "other"
	_, _, _, err = m.ResolveImageConfig(context.Background(), "base:v1", opt)
	wantError(t, err, `no OCI layout is given for "other"`)

	desc, err := LayoutDigest(dir, "")
	if err != nil || desc.Digest.String() != want.String() {
		t.Errorf("LayoutDigest = %v, %v", desc, err)
	}
	_, err = LayoutDigest(dir, "v2")
	wantError(t, err, `"v2"`, "v1")
	nameless := t.TempDir()
	if path, err = layout.Write(nameless, empty.Index); err != nil {
		t.Fatal(err)
	}
	if err := path.AppendImage(img); err != nil {
		t.Fatal(err)
	}
	_, err = LayoutDigest(nameless, "v2")
	wantError(t, err, "it has "+want.String())

	// The layers come from the layout too.
	loaded, err := s.Load(context.Background(), desc, nil, LayoutSource(dir))
	if err != nil {
		t.Fatal(err)
	}
	if ids, err := s.Unpack(context.Background(), UnpackRequest{Manifest: loaded, Source: LayoutSource(dir)}); err != nil || len(ids) != 2 {
		t.Errorf("Unpack = %q, %v", ids, err)
	}
}
