package schema

import (
	"context"
	"path/filepath"
	"testing"
)

// TestBuildArgs: build arguments set the tags that there are, in all packages,
// and --set goes before them.
func TestBuildArgs(t *testing.T) {
	const text = `package build
base:  string | *"debian:12" @tag(V)
owner: string | *"me" @tag(V)
other: string | *"x" @tag(W)
images: app: {from: base, user: owner, workdir: "/\(other)"}
`
	file := filepath.Join(t.TempDir(), "app.cue")
	for _, test := range []struct {
		tags             []string
		args             map[string]string
		from, user, work string
	}{
		{nil, nil, "debian:12", "me", "/x"},
		{nil, map[string]string{"V": "v", "NOBODY": "n"}, "v", "v", "/x"},
		{[]string{"V=set"}, map[string]string{"V": "v", "W": "w"}, "set", "set", "/w"},
	} {
		spec, err := Load(context.Background(), LoadOptions{
			Args: []string{file}, Tags: test.tags, BuildArgs: test.args, Overlay: map[string][]byte{file: []byte(text)},
		})
		if err != nil {
			t.Fatal(err)
		}
		img := spec.Images[0]
		from, user, work := img.From.Ref, *img.Config.User, *img.Config.Workdir
		if from != test.from || user != test.user || work != test.work {
			t.Errorf("%v %v: from %q, user %q, workdir %q", test.tags, test.args, from, user, work)
		}
	}
}
