package image

import (
	"context"
	"strings"
	"testing"

	"github.com/moby/buildkit/client/llb/sourceresolver"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	one = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	two = "sha256:2222222222222222222222222222222222222222222222222222222222222222"
)

// staticMetadata names images in every familiar form.
const staticMetadata = `{
	"debian": {"author": "plain"},
	"docker.io/library/alpine:3": {"author": "whole"},
	"docker-image://quay.io/a/b:1": {"author": "scheme"},
	"pinned@` + one + `": {"author": "digest"},
	"both:1@` + two + `": {"author": "tag and digest"},
	"listed": [{"os": "linux", "architecture": "amd64", "author": "first"}, {"os": "linux", "architecture": "arm", "variant": "v6", "author": "second"}],
	"named": {"linux/amd64": {"author": "of amd64"}, "linux/arm64": {"author": "of arm64"}}
}`

func TestStaticResolver(t *testing.T) {
	r, err := ParseStatic([]byte(staticMetadata))
	if err != nil {
		t.Fatal(err)
	}
	s := newSetup(t)
	for _, test := range []struct{ ref, arch, author, digest string }{
		{"debian", "amd64", "plain", ""},
		{"docker.io/library/debian:latest", "arm64", "plain", ""},
		{"index.docker.io/library/debian", "amd64", "plain", ""},
		{"debian:latest@" + one, "amd64", "plain", ""},
		{"debian@" + one, "amd64", "plain", ""},
		{"alpine:3", "amd64", "whole", ""},
		{"alpine:3@" + two, "amd64", "whole", ""},
		{"quay.io/a/b:1", "amd64", "scheme", ""},
		{"pinned@" + one, "amd64", "digest", ""},
		{"pinned:7@" + one, "amd64", "digest", ""},
		{"both:1", "amd64", "tag and digest", two},
		{"both@" + two, "amd64", "tag and digest", ""},
		{"both:1@" + two, "amd64", "tag and digest", ""},
		{"listed", "amd64", "first", ""},
		{"listed", "arm", "second", ""},
		{"named", "arm64", "of arm64", ""},
	} {
		opt := sourceresolver.Opt{ImageOpt: &sourceresolver.ResolveImageOpt{Platform: &ocispec.Platform{OS: "linux", Architecture: test.arch}}}
		for _, m := range []sourceresolver.ImageMetaResolver{r, s.MetaResolver(ResolverOptions{Static: r, Offline: true})} {
			ref, d, config, err := m.ResolveImageConfig(context.Background(), test.ref, opt)
			if err != nil || ref != test.ref || d.String() != test.digest || !strings.Contains(string(config), `"`+test.author+`"`) {
				t.Errorf("%s for %s: %s, %q, %s, %v", test.ref, test.arch, ref, d, config, err)
			}
		}
	}
	if empty := r.Empty(); len(empty) != len(r) {
		t.Errorf("without layers are %q, want all", empty)
	}
	for ref, want := range map[string]string{
		"other:1": "add it", "debain": "it has debian:latest", "pinned@" + two: "no such image", "alpine": "it has alpine:3", "alpine:4": "alpine:3",
	} {
		if _, _, _, err := r.ResolveImageConfig(context.Background(), ref, sourceresolver.Opt{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", ref, err, want)
		}
	}
	other := sourceresolver.Opt{ImageOpt: &sourceresolver.ResolveImageOpt{Platform: &ocispec.Platform{OS: "linux", Architecture: "s390x"}}}
	if _, _, _, err := r.ResolveImageConfig(context.Background(), "named", other); err == nil || !strings.Contains(err.Error(), "linux/amd64, linux/arm64") {
		t.Errorf("a platform that is not there: %v", err)
	}
}

func TestParseStaticRefuses(t *testing.T) {
	for _, bad := range []string{
		`[]`, `{"UPPER":{}}`, `{"a":"text"}`, `{`, `{"a":{"os":1}}`, `{"a":[{"os":"linux"}]}`, `{"a":["x"]}`,
		`{"a":{"linux/amd64":{},"config":{}}}`, `{"a":{"linux/amd64":1}}`,
	} {
		if _, err := ParseStatic([]byte(bad)); err == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
}
