package image

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/strata-build/strata/runtime/layer"
	"github.com/strata-build/strata/runtime/snapshot"
	"github.com/strata-build/strata/runtime/store"
)

// process is an image store as a process has it: real layers, over a store
// that others have open too.
func process(t testing.TB, s *setup, root string) *Store {
	t.Helper()
	st, err := store.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	rootless := os.Geteuid() != 0
	snapshots, err := snapshot.Open(st, snapshot.Options{UserXattr: rootless})
	if err != nil {
		t.Fatal(err)
	}
	layers := layer.NewStore(st, snapshots, layer.Options{SingleID: rootless})
	return New(Options{Store: st, Layers: layers, Registry: s.registry, Platform: amd64})
}

// Several processes that pull the same image fetch and unpack each layer once.
func TestConcurrentPullsOfRealLayers(t *testing.T) {
	s, srv, root := newSetup(t), newServer(t), t.TempDir()
	img := remoteImage(t, srv, "a/b:1", 4)
	var all sync.WaitGroup
	ids := make([][]string, 4)
	for i := range ids {
		images := process(t, s, root)
		all.Go(func() {
			pulled, err := images.Pull(context.Background(), PullRequest{Ref: ref(t, srv.host+"/a/b:1"), Unpack: true})
			if err != nil {
				t.Error(err)
				return
			}
			m, err := images.Load(context.Background(), pulled.Desc, nil, nil)
			if err != nil {
				t.Error(err)
				return
			}
			if ids[i], err = images.Unpack(context.Background(), UnpackRequest{Manifest: m}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, other := range ids[1:] {
		if len(other) != 4 || !slices.Equal(other, ids[0]) {
			t.Errorf("layers %q and %q", ids[0], other)
		}
	}
	m, _ := img.Manifest()
	for _, l := range m.Layers {
		if n := srv.count("GET /v2/a/b/blobs/" + l.Digest.String()); n != 1 {
			t.Errorf("layer %s was fetched %d times", l.Digest, n)
		}
	}
}

// A layer whose bytes are wrong, or cut off, leaves neither a blob nor a layer.
func TestBadLayersLeaveNothing(t *testing.T) {
	for name, fault := range map[string]func(srv *server, w http.ResponseWriter, r *http.Request){
		"wrong": func(srv *server, w http.ResponseWriter, r *http.Request) { flipped(w, r, srv.next) },
		"cut":   func(srv *server, w http.ResponseWriter, r *http.Request) { srv.next.ServeHTTP(&cutAfter{w, 0}, r) },
		"junk": func(_ *server, w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(strings.Repeat("x", 5000)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, srv, root := newSetup(t), newServer(t), t.TempDir()
			img := remoteImage(t, srv, "a/b:1", 1)
			m, _ := img.Manifest()
			hex := m.Layers[0].Digest.Hex
			srv.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, hex) {
					return false
				}
				fault(srv, w, r)
				return true
			})
			images := process(t, s, root)
			_, err := images.Pull(context.Background(), PullRequest{Ref: ref(t, srv.host+"/a/b:1"), Unpack: true})
			wantError(t, err, srv.host, hex)
			if _, err := os.Lstat(filepath.Join(root, "blobs", "sha256", hex)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a blob stands in the store: %v", err)
			}
			srv.misbehave(nil)
			if _, err := images.Pull(context.Background(), PullRequest{Ref: ref(t, srv.host+"/a/b:1"), Unpack: true}); err != nil {
				t.Errorf("once the registry is well: %v", err)
			}
		})
	}
}
