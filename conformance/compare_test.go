package conformance

import (
	"archive/tar"
	"bytes"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// layerOf packs entries; regular ones have their name as content.
func layerOf(t *testing.T, headers ...tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range headers {
		if h.Typeflag == 0 {
			h.Typeflag, h.Size = tar.TypeReg, int64(len(h.Name))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if _, err := w.Write([]byte(h.Name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func flat(t *testing.T, layers ...[]byte) []string {
	t.Helper()
	root := newTree()
	for _, l := range layers {
		if err := root.apply(l); err != nil {
			t.Fatal(err)
		}
	}
	return root.lines()
}

// TestFlatten: whiteouts, opaque directories, links and replaced types.
func TestFlatten(t *testing.T) {
	dir := func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755} }
	lower := layerOf(t, dir("d/"), tar.Header{Name: "d/a"}, tar.Header{Name: "d/b"}, dir("o/"), tar.Header{Name: "o/x"},
		tar.Header{Name: "f"}, tar.Header{Name: "g", Typeflag: tar.TypeLink, Linkname: "f"}, dir("t/"), tar.Header{Name: "t/in"})
	upper := layerOf(t, tar.Header{Name: "d/.wh.a"}, dir("o/"), tar.Header{Name: "o/y"}, tar.Header{Name: "o/.wh..wh..opq"},
		tar.Header{Name: "t"}, tar.Header{Name: ".wh.g"})
	var names []string
	for _, line := range flat(t, lower, upper) {
		name, _, _ := strings.Cut(line, " ")
		names = append(names, name)
		if strings.Contains(line, " = ") {
			t.Errorf("%s is still a link", line)
		}
	}
	if want := []string{`"/d"`, `"/d/b"`, `"/f"`, `"/o"`, `"/o/y"`, `"/t"`}; !slices.Equal(names, want) {
		t.Errorf("got %q, want %q", names, want)
	}
}

// TestDifference: everything that is compared makes a difference.
func TestDifference(t *testing.T) {
	base := []tar.Header{
		{Name: "f", Mode: 0o644}, {Name: "l", Typeflag: tar.TypeSymlink, Linkname: "f"}, {Name: "c", Typeflag: tar.TypeChar, Devmajor: 1},
		{Name: "g", Mode: 0o644}, {Name: "h", Typeflag: tar.TypeLink, Linkname: "g"},
	}
	same := picture{config: "{}", layers: 1, tree: flat(t, layerOf(t, base...))}
	if d := difference(same, same); d != "" {
		t.Fatalf("equal images differ: %s", d)
	}
	for name, change := range map[string]func(list []tar.Header){
		"mode":          func(l []tar.Header) { l[0].Mode = 0o4644 },
		"owner":         func(l []tar.Header) { l[0].Uid = 1 },
		"group":         func(l []tar.Header) { l[0].Gid = 1 },
		"name":          func(l []tar.Header) { l[0].Name = "F" },
		"type":          func(l []tar.Header) { l[0].Typeflag = tar.TypeFifo },
		"attribute":     func(l []tar.Header) { l[0].PAXRecords = map[string]string{"SCHILY.xattr.user.a": "b"} },
		"symlink":       func(l []tar.Header) { l[1].Linkname = "g" },
		"device":        func(l []tar.Header) { l[2].Devminor = 1 },
		"hard link":     func(l []tar.Header) { l[4].Linkname = "f" },
		"no hard link":  func(l []tar.Header) { l[4] = tar.Header{Name: "h", Mode: 0o644} },
		"directory":     func(l []tar.Header) { l[4] = tar.Header{Name: "h", Typeflag: tar.TypeDir} },
		"another entry": func(l []tar.Header) { l[4].Name = "i" },
	} {
		changed := slices.Clone(base)
		change(changed)
		if difference(same, picture{config: "{}", layers: 1, tree: flat(t, layerOf(t, changed...))}) == "" {
			t.Errorf("%s makes no difference", name)
		}
	}
	for name, other := range map[string]picture{
		"config": {config: "{ }", layers: 1, tree: same.tree}, "layers": {config: "{}", layers: 2, tree: same.tree},
	} {
		if difference(same, other) == "" {
			t.Errorf("%s makes no difference", name)
		}
	}
}

// TestCases: every case can be read, and no two have one name.
func TestCases(t *testing.T) {
	seen := map[string]string{}
	build, buildErr := filepath.Glob("testdata/build/*.txtar")
	refuse, refuseErr := filepath.Glob("testdata/refuse/*.txtar")
	if err := errors.Join(buildErr, refuseErr); err != nil {
		t.Fatal(err)
	}
	for _, file := range append(build, refuse...) {
		c, err := read(file)
		if err != nil {
			t.Error(err)
			continue
		}
		if other := seen[c.name]; other != "" {
			t.Errorf("%s and %s have one name", file, other)
		}
		seen[c.name] = file
		if refused := strings.Contains(file, "refuse"); refused != (c.message != "") {
			t.Errorf("%s: a case that must fail has the error that it fails with, and no other case has", file)
		}
	}
}
