package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/distribution/reference"
)

func confClient(t testing.TB, content string) *Client {
	t.Helper()
	return newClient(t, Options{RegistriesConf: []string{"/nonexistent", write(t, content, t.TempDir(), "registries.conf")}})
}

func TestEndpoints(t *testing.T) {
	c := confClient(t, `
unqualified-search-registries = ["quay.io", "docker.io"]

[[registry]]
prefix = "docker.io"
[[registry.mirror]]
location = "mirror.example/hub"
[[registry.mirror]]
location = "digests.example"
pull-from-mirror = "digest-only"
[[registry.mirror]]
location = "tags.example"
pull-from-mirror = "tag-only"

[[registry]]
prefix = "docker.io/team"
location = "internal.example:5000/hub-team"
insecure = true

[[registry]]
location = "old.example"
mirror-by-digest-only = true
[[registry.mirror]]
location = "fast.example/old"

[[registry]]
prefix = "*.wild.example"
location = "one.example"
`)
	digested := "@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	for name, want := range map[string]string{
		"debian":                   "mirror.example/hub/library/debian tags.example/library/debian index.docker.io/library/debian",
		"debian" + digested:        "mirror.example/hub/library/debian digests.example/library/debian index.docker.io/library/debian",
		"team/app:1":               "internal.example:5000/hub-team/app",
		"teammates/app":            "mirror.example/hub/teammates/app tags.example/teammates/app index.docker.io/teammates/app",
		"old.example/x":            "old.example/x",
		"old.example/x" + digested: "fast.example/old/x old.example/x",
		"a.b.wild.example/x/y:2":   "one.example/x/y",
		"wild.example/x":           "wild.example/x",
		"other.example/x":          "other.example/x",
	} {
		eps, err := c.endpoints(ref(t, name))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got []string
		for _, ep := range eps {
			got = append(got, ep.String())
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s:\n got %s\nwant %s", name, strings.Join(got, " "), want)
		}
	}
	eps, _ := c.endpoints(ref(t, "team/app:1"))
	if !eps[0].insecure {
		t.Error("insecure = true does not reach the endpoint")
	}
}

func TestConfErrors(t *testing.T) {
	for content, says := range map[string]string{
		"[[registry]]\nprefix = ":                                              "line 2",
		"[registries.search]\nregistries = []":                                 "version 1",
		"[[registry]]\ninsecure = true":                                        "neither prefix nor location",
		"[[registry]]\nlocation = \"a\"\n[[registry.mirror]]\ninsecure = true": "no location",
		"[[registry]]\nlocation = \"a\"\n[[registry.mirror]]\nlocation = \"b\"\npull-from-mirror = \"no\"": "digest-only",
	} {
		path := write(t, content, t.TempDir(), "registries.conf")
		_, err := New(Options{RegistriesConf: []string{path}})
		wantError(t, err, path, says)
	}
}

func TestConfDirectoryOverrides(t *testing.T) {
	dir := t.TempDir()
	write(t, "[[registry]]\nlocation = \"a.example\"\nblocked = true", dir, "conf.d", "1.conf")
	write(t, "[[registry]]\nlocation = \"a.example\"", dir, "conf.d", "2.conf")
	c := newClient(t, Options{RegistriesConf: []string{dir + "/conf.d"}})
	if _, err := c.endpoints(ref(t, "a.example/x")); err != nil {
		t.Error(err)
	}
}

func TestBlockedRegistry(t *testing.T) {
	c := confClient(t, "[[registry]]\nlocation = \"bad.example\"\nblocked = true")
	_, err := c.Resolve(context.Background(), ref(t, "bad.example/x"))
	if !errors.Is(err, ErrBlocked) {
		t.Errorf("err = %v", err)
	}
	wantError(t, err, "bad.example", "registries.conf")
}

func TestCandidates(t *testing.T) {
	c := confClient(t, "unqualified-search-registries = [\"quay.io\", \"docker.io\"]\n[aliases]\n\"short\" = \"reg.example/long/name\"")
	for name, want := range map[string][]string{
		"debian":           {"quay.io/debian:latest", "docker.io/library/debian:latest"},
		"docker.io/debian": {"docker.io/library/debian:latest"},
		"quay.io/a/b:1":    {"quay.io/a/b:1"},
		"localhost:5000/a": {"localhost:5000/a:latest"},
		"short:3":          {"reg.example/long/name:3"},
		"short":            {"reg.example/long/name:latest"},
	} {
		refs, err := c.Candidates(name)
		var got []string
		for _, r := range refs {
			got = append(got, r.String())
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("Candidates(%q) = %q, %v; want %q", name, got, err, want)
		}
	}
	if refs, err := newClient(t, Options{}).Candidates("debian"); err != nil || len(refs) != 1 || reference.FamiliarString(refs[0]) != "debian:latest" {
		t.Errorf("without configuration: %v, %v", refs, err)
	}
	if _, err := c.Candidates("UPPER"); err == nil {
		t.Error("UPPER is not an image name")
	}
}

// mirrored returns a client for which primary has the given mirrors.
func mirrored(t testing.TB, primary *server, mirrors ...string) *Client {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "[[registry]]\nlocation = %q\n", primary.host)
	for _, m := range mirrors {
		fmt.Fprintf(&b, "[[registry.mirror]]\nlocation = %q\n", m)
	}
	return confClient(t, b.String())
}

func TestMirrorIsAskedFirst(t *testing.T) {
	primary, mirror := newServer(t), newServer(t)
	desc, data := mirror.addBlob(t, 1000)
	if got, err := fetch(mirrored(t, primary, mirror.host), ref(t, primary.host+"/a/b"), desc, 0); err != nil || !bytes.Equal(got, data) {
		t.Fatal(err)
	}
	if n := primary.count("/v2/"); n != 0 {
		t.Errorf("%d requests to the registry itself", n)
	}
}

func TestMirrorsThatFail(t *testing.T) {
	tests := map[string]fault{
		"no such blob":   status(404),
		"broken":         status(500),
		"wants a login":  status(401),
		"cut, then gone": nil,
	}
	for name, f := range tests {
		t.Run(name, func(t *testing.T) {
			primary, mirror := newServer(t), newServer(t)
			desc, data := primary.addBlob(t, 1000)
			mirror.addBlob(t, 1000)
			mirror.misbehave(f)
			if f == nil {
				cut, gone := times(1, "blobs", cutAfter(300)), times(99, "blobs", status(404))
				mirror.misbehave(func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
					return cut(w, r, next) || gone(w, r, next)
				})
			}
			c := mirrored(t, primary, "127.0.0.1:1", mirror.host)
			got, err := fetch(c, ref(t, primary.host+"/a/b"), desc, 0)
			if err != nil || !bytes.Equal(got, data) {
				t.Fatalf("got %d bytes: %v", len(got), err)
			}
		})
	}
}

func TestAllMirrorsAreNamed(t *testing.T) {
	primary, mirror := newServer(t), newServer(t)
	mirror.misbehave(status(500))
	_, err := mirrored(t, primary, mirror.host).Resolve(context.Background(), ref(t, primary.host+"/a/b:1"))
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("err = %v", err)
	}
}

// A mirror that serves wrong bytes fails the download, whose bytes may have
// been used already; the next attempt leaves it out.
func TestLyingMirrorIsLeftOut(t *testing.T) {
	primary, mirror := newServer(t), newServer(t)
	desc, data := primary.addBlob(t, 1000)
	mirror.addBlob(t, 1000)
	mirror.misbehave(times(99, "blobs", wrongBytes))
	c := mirrored(t, primary, mirror.host)
	_, err := fetch(c, ref(t, primary.host+"/a/b"), desc, 0)
	if !errors.Is(err, ErrUnverified) {
		t.Fatalf("err = %v", err)
	}
	wantError(t, err, mirror.host)
	if got, err := fetch(c, ref(t, primary.host+"/a/b"), desc, 0); err != nil || !bytes.Equal(got, data) {
		t.Errorf("second attempt: %v", err)
	}
}

func FuzzConf(f *testing.F) {
	f.Add("[[registry]]\nprefix = \"docker.io\"\nlocation = \"x/y\"\n[[registry.mirror]]\nlocation = \"m\"", "debian:1")
	f.Add("unqualified-search-registries = [\"quay.io\"]\n[aliases]\na = \"b/c\"", "a")
	f.Fuzz(func(t *testing.T, content, name string) {
		path := write(t, content, t.TempDir(), "c")
		c, err := New(Options{RegistriesConf: []string{path}})
		if err != nil {
			return
		}
		refs, err := c.Candidates(name)
		if err != nil {
			return
		}
		for _, r := range refs {
			_, _ = c.endpoints(r) // must not panic
			_, _ = c.origin(r)
		}
	})
}
