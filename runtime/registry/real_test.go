package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/distribution/reference"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/internal/testregistry"
)

// realRegistry runs docker's own registry with TLS and a password, and returns
// its address and a configuration that knows the password.
func realRegistry(t testing.TB) (host, config string) {
	t.Helper()
	host, _ = testregistry.Secure(t) // whose certificate is not looked at on loopback
	return host, write(t, fmt.Sprintf(`{"auths":{%q:{"username":%q,"password":%q}}}`, host, testregistry.User, testregistry.Password), t.TempDir(), "config.json")
}

func TestRealRegistry(t *testing.T) {
	host, config := realRegistry(t)
	ctx := context.Background()
	anonymous, c := newClient(t, Options{}), newClient(t, Options{ConfigPaths: []string{config}})

	if err := anonymous.Login(ctx, host, testregistry.User, testregistry.Password); err != nil {
		t.Errorf("login: %v", err)
	}
	if err := newClient(t, Options{}).Login(ctx, host, testregistry.User, "wrong"); !errors.Is(err, ErrUnauthorized) {
		t.Errorf("login with a wrong password: %v", err)
	}
	_, err := newClient(t, Options{}).Resolve(ctx, ref(t, host+"/a:1"))
	if !errors.Is(err, ErrUnauthorized) {
		t.Errorf("without login: %v", err)
	}

	blobs := memBlobs{}
	desc := blobs.addImage(t, randomImage(t, 300_000, 3))
	states := pushStates(t, c, blobs, desc, host+"/base/one:1")
	if states[Uploaded] != 5 { // 3 layers, config, manifest
		t.Errorf("first push: %v", states)
	}
	if states = pushStates(t, c, blobs, desc, host+"/base/one:2"); states[Existing] != 4 {
		t.Errorf("second push: %v", states)
	}
	if states = pushStates(t, c, blobs, desc, host+"/other:latest", host+"/base/one"); states[Mounted] != 4 {
		t.Errorf("push with a source to mount from: %v", states)
	}

	got, err := c.Resolve(ctx, ref(t, host+"/other"))
	if err != nil || got.Digest != desc.Digest {
		t.Fatalf("Resolve = %v, %v", got, err)
	}
	for d, data := range blobs {
		if d == desc.Digest {
			continue
		}
		for _, opts := range []Options{{}, {RangeSize: 20_000}} {
			opts.ConfigPaths = []string{config}
			have, err := fetch(newClient(t, opts), ref(t, host+"/other"), ocispec.Descriptor{Digest: d, Size: int64(len(data))}, 0)
			if err != nil || !bytes.Equal(have, data) {
				t.Errorf("blob %s: %d bytes, %v", d, len(have), err)
			}
		}
	}
	if tags, err := c.Tags(ctx, ref(t, host+"/base/one")); err != nil || strings.Join(tags, " ") != "1 2" {
		t.Errorf("Tags = %q, %v", tags, err)
	}
	if repos, err := c.Catalog(ctx, host); err != nil || strings.Join(repos, " ") != "base/one other" {
		t.Errorf("Catalog = %q, %v", repos, err)
	}
	_, err = c.Resolve(ctx, ref(t, host+"/base/one:3"))
	wantError(t, err, "no tag 3", "did you mean")
	_, err = c.Resolve(ctx, ref(t, host+"/nothing:1"))
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown repository: %v", err)
	}
}

func pushStates(t testing.TB, c *Client, blobs memBlobs, desc ocispec.Descriptor, target string, sources ...string) map[UpdateState]int {
	t.Helper()
	var mu sync.Mutex
	states := map[UpdateState]int{}
	err := c.Push(context.Background(), PushRequest{
		Ref: ref(t, target), Desc: desc, Open: blobs.open,
		Sources: func(digest.Digest) (list []reference.Named) {
			for _, s := range sources {
				list = append(list, ref(t, s))
			}
			return list
		},
		Progress: func(u Update) {
			mu.Lock()
			defer mu.Unlock()
			states[u.State]++
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return states
}

// A connection that breaks in the middle of an upload does not end the push.
// Docker's registry cannot tell how far a cut request came, and gets the blob
// anew; TestUploadResumes has one that can.
func TestRealRegistryAfterCut(t *testing.T) {
	host, config := realRegistry(t)
	proxy := &cuttingProxy{target: host, budget: 3 << 20}
	at := proxy.start(t)
	data, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	config = write(t, strings.ReplaceAll(string(data), host, at), t.TempDir(), "config.json")
	blobs := memBlobs{}
	desc := blobs.addImage(t, randomImage(t, 8<<20, 1))
	c := newClient(t, Options{ConfigPaths: []string{config}})
	if err := c.Push(context.Background(), PushRequest{Ref: ref(t, at+"/big:1"), Desc: desc, Open: blobs.open}); err != nil {
		t.Fatal(err)
	}
	if !proxy.cut {
		t.Fatal("the connection was not cut")
	}
	for d, data := range blobs {
		if d == desc.Digest {
			continue
		}
		got, err := fetch(c, ref(t, at+"/big:1"), ocispec.Descriptor{Digest: d, Size: int64(len(data))}, 0)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("blob %s: %d bytes, %v", d, len(got), err)
		}
	}
}

// cuttingProxy passes bytes on, and breaks the first connection that sent more
// than its budget.
type cuttingProxy struct {
	target string
	budget int64

	mu  sync.Mutex
	cut bool
}

func (p *cuttingProxy) start(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(conn)
		}
	}()
	return l.Addr().String()
}

func (p *cuttingProxy) serve(conn net.Conn) {
	defer conn.Close()
	up, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer up.Close()
	go func() {
		_, _ = io.Copy(conn, up)
		conn.Close()
	}()
	_, err = io.CopyN(up, conn, p.budget)
	p.mu.Lock()
	first := err == nil && !p.cut
	p.cut = p.cut || first
	p.mu.Unlock()
	if !first {
		_, _ = io.Copy(up, conn)
	}
}
