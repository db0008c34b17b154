package image

import (
	"context"
	"errors"
	"slices"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/runtime/store"
)

func TestNames(t *testing.T) {
	s := newSetup(t)
	ctx := context.Background()
	desc := s.localImage(t, amd64, "layer one")
	for name, want := range map[string]string{
		"debian": "debian:latest", "debian:new": "debian:new", "docker.io/library/debian:old": "debian:old",
		"quay.io/a/b": "quay.io/a/b:latest", "localhost:5000/x:1": "localhost:5000/x:1", "user/app:2": "user/app:2",
	} {
		img, err := s.Put(ctx, name, desc)
		if err != nil || img.Name != want || img.Desc.Digest != desc.Digest {
			t.Errorf("Put(%q) = %+v, %v; want the name %s", name, img, err, want)
		}
		if got, err := s.Get(name); err != nil || got.Name != want {
			t.Errorf("Get(%q) = %+v, %v", name, got, err)
		}
	}
	all, err := s.List()
	if err != nil || len(all) != 6 || all[0].Name != "debian:latest" || all[5].Name != "user/app:2" {
		t.Errorf("List = %+v, %v", all, err)
	}
	for _, bad := range []string{"UPPER", "a b", "-x", "x:y:z", "../../etc/passwd", "x@sha256:short"} {
		if _, err := s.Put(ctx, bad, desc); err == nil {
			t.Errorf("the name %q was accepted", bad)
		}
	}
}

func TestResolve(t *testing.T) {
	s := newSetup(t)
	ctx := context.Background()
	one := s.localImage(t, amd64, "layer one")
	two := s.localImage(t, amd64, "layer two")
	if _, err := s.Put(ctx, "app:1", one); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(ctx, "app:2", two); err != nil {
		t.Fatal(err)
	}
	img, err := s.Put(ctx, "", one)
	if err != nil || img.Name != "" {
		t.Fatalf("Put without a name = %+v, %v", img, err)
	}
	for ref, want := range map[string]string{
		"app:1": string(one.Digest), "docker.io/library/app:2": string(two.Digest),
		"app@" + string(two.Digest): string(two.Digest), "app:1@" + string(one.Digest): string(one.Digest),
		img.ID.Encoded()[:12]: string(one.Digest), img.ID.String(): string(one.Digest),
		one.Digest.Encoded()[:9]: string(one.Digest), two.Digest.String(): string(two.Digest),
	} {
		got, err := s.Resolve(ctx, ref)
		if err != nil || string(got.Desc.Digest) != want {
			t.Errorf("Resolve(%q) = %+v, %v; want %s", ref, got, err, want)
		}
	}
	for _, ref := range []string{"app", "other", "fffffffff", "app@sha256:" + hexOf("?")} {
		if _, err := s.Resolve(ctx, ref); !errors.Is(err, ErrNotFound) {
			t.Errorf("Resolve(%q): %v", ref, err)
		}
	}
	_, err = s.Resolve(ctx, "app:3")
	wantError(t, err, "app:3", "app:1")
}

func TestAmbiguousID(t *testing.T) {
	s := newSetup(t)
	ctx := context.Background()
	byFirst := map[string]bool{}
	var clash string
	for i := 0; clash == ""; i++ {
		img, err := s.Put(ctx, "", s.localImage(t, amd64, string(rune('a'+i%26))+string(rune('a'+i/26))))
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range []string{img.ID.Encoded(), img.Desc.Digest.Encoded()} {
			if byFirst[d[:3]] {
				clash = d[:3]
			}
			byFirst[d[:3]] = true
		}
	}
	if _, err := s.Resolve(ctx, clash); !errors.Is(err, ErrAmbiguous) {
		t.Errorf("Resolve(%q): %v", clash, err)
	}
}

func TestDelete(t *testing.T) {
	s := newSetup(t)
	ctx := context.Background()
	one := s.localImage(t, amd64, "layer one")
	var id string
	for _, name := range []string{"app:1", "app:2", "app:3", ""} {
		img, err := s.Put(ctx, name, one)
		if err != nil {
			t.Fatal(err)
		}
		id = img.ID.Encoded()
	}
	if gone, err := s.Delete(ctx, "app:2"); err != nil || len(gone) != 1 || gone[0].Name != "app:2" {
		t.Errorf("Delete of a name = %+v, %v", gone, err)
	}
	if _, err := s.Get("app:2"); !errors.Is(err, ErrNotFound) {
		t.Errorf("app:2 after Delete: %v", err)
	}
	if gone, err := s.Delete(ctx, id[:10]); err != nil || len(gone) != 2 {
		t.Errorf("Delete of an id = %+v, %v", gone, err)
	}
	if all, err := s.List(); err != nil || len(all) != 0 {
		t.Errorf("left: %+v, %v", all, err)
	}
	if _, err := s.Delete(ctx, "app:1"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Delete of nothing: %v", err)
	}
}

// An image is kept by its digest while it has no name, and no longer.
func TestNameless(t *testing.T) {
	s := newSetup(t)
	ctx := context.Background()
	one, two := s.localImage(t, amd64, "layer one"), s.localImage(t, amd64, "layer two")
	for _, step := range []struct {
		name string
		desc ocispec.Descriptor
		want []string
	}{
		{"", one, []string{""}},
		{"", two, []string{"", ""}},
		{"app:1", one, []string{"app:1", ""}},
		{"", one, []string{"app:1", ""}},
		{"app:2", two, []string{"app:1", "app:2"}},
	} {
		if _, err := s.Put(ctx, step.name, step.desc); err != nil {
			t.Fatal(err)
		}
		all, err := s.List()
		var got []string
		for _, img := range all {
			got = append(got, img.Name)
		}
		if err != nil || !slices.Equal(got, step.want) {
			t.Errorf("after Put(%q): %q, %v; want %q", step.name, got, err, step.want)
		}
	}
}

// Collection keeps all that a name needs, and takes it when the name goes.
func TestNamesKeepContent(t *testing.T) {
	s := newSetup(t)
	ctx := context.Background()
	kept := s.localImage(t, amd64, "kept 1", "kept 2")
	if _, err := s.Put(ctx, "kept", kept); err != nil {
		t.Fatal(err)
	}
	lost := s.localImage(t, amd64, "lost")
	if err := s.blobs.ReleaseMade(); err != nil {
		t.Fatal(err)
	}
	policy := store.Policy{Roots: []string{Bucket}, Caches: []string{ResolutionsBucket}, All: true}
	if _, err := s.blobs.Collect(ctx, policy); err != nil {
		t.Fatal(err)
	}
	m, err := s.Load(ctx, kept, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range m.Layers {
		if _, ok := s.blobs.HasBlob(l.Digest); !ok {
			t.Errorf("layer %s is gone", l.Digest)
		}
	}
	if _, err := s.Load(ctx, lost, nil, nil); !errors.Is(err, ErrMissing) {
		t.Errorf("the image without a name: %v", err)
	}
}

func TestPutNeedsTheManifest(t *testing.T) {
	s := newSetup(t)
	desc := s.localImage(t, amd64, "x")
	desc.Digest = "sha256:" + "00000000000000000000000000000000000000000000000000000000000000aa"
	if _, err := s.Put(context.Background(), "x", desc); !errors.Is(err, ErrMissing) {
		t.Errorf("err = %v", err)
	}
}

// The name with a digest goes by its digest, and leaves the tag alone.
func TestDeleteByDigest(t *testing.T) {
	s := newSetup(t)
	ctx := context.Background()
	desc := s.localImage(t, amd64, "x")
	pinned := "app@" + desc.Digest.String()
	for _, name := range []string{"app:1", pinned} {
		if _, err := s.Put(ctx, name, desc); err != nil {
			t.Fatal(err)
		}
	}
	if gone, err := s.Delete(ctx, pinned); err != nil || len(gone) != 1 || gone[0].Name != pinned {
		t.Errorf("Delete = %+v, %v", gone, err)
	}
	if _, err := s.Get("app:1"); err != nil {
		t.Error(err)
	}
}

// What is not there is answered with what is near it.
func TestUnknownNames(t *testing.T) {
	s := newSetup(t)
	ctx := context.Background()
	desc := s.localImage(t, amd64, "x")
	for _, name := range []string{"debian:12", "debian:13", "registry.example/team/webserver:1", "alpine:3"} {
		if _, err := s.Put(ctx, name, desc); err != nil {
			t.Fatal(err)
		}
	}
	for ref, want := range map[string]string{
		"debian:11":    "there is debian:12, debian:13",
		"debain:12":    "did you mean debian:12",
		"webserver":    "did you mean registry.example/team/webserver:1?",
		"alpin:3":      "did you mean alpine:3?",
		"nothing/like": "`strata images` lists them",
	} {
		_, err := s.Resolve(ctx, ref)
		wantError(t, err, ref, want)
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", ref, err)
		}
	}
}
