package tree_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/tree"
	"github.com/strata-build/strata/runtime/tree/treetest"
)

// plant makes files from a short text: "dir/", "file=content", "gone!" for a
// whiteout, "dir/opaque".
func plant(t *testing.T, text string) string {
	t.Helper()
	dir := newDir(t)
	for item := range strings.FieldsSeq(text) {
		switch {
		case strings.HasSuffix(item, "!"):
			must(t, unix.Mknod(filepath.Join(dir, strings.TrimSuffix(item, "!")), unix.S_IFCHR, 0))
		case strings.HasSuffix(item, "/opaque"):
			p := filepath.Join(dir, strings.TrimSuffix(item, "/opaque"))
			must(t, os.Mkdir(p, 0o755))
			must(t, unix.Setxattr(p, format().OpaqueXattr(), []byte(tree.Opaque), 0))
		case strings.HasSuffix(item, "/"):
			must(t, os.Mkdir(filepath.Join(dir, item), 0o755))
		default:
			name, content, _ := strings.Cut(item, "=")
			must(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
		}
	}
	return dir
}

func changesOf(t *testing.T, dir string, lower []string) string {
	t.Helper()
	var out []string
	for c, err := range tree.Changes(t.Context(), dir, lower, format()) {
		must(t, err)
		out = append(out, fmt.Sprintf("%c %s %d", c.Kind, c.Path, c.Size))
	}
	return strings.Join(out, ", ")
}

func TestChanges(t *testing.T) {
	bottom := plant(t, "o/ o/s/ o/s/f=1 o/s/g=1 a/ a/old=123 a/gone=12 b/ b/x=1 b/y=1 b/z=1 c=1 d/ d/f=1")
	middle := plant(t, "a/ a/gone! c=22 d! e=1")
	for layer, want := range map[string]string{
		"":                      "",
		"a/ a/new=1 a/old=4":    "C /a 0, A /a/new 1, C /a/old 1",
		"a/ a/gone=1":           "C /a 0, A /a/gone 1",
		"a/ a/gone!":            "C /a 0",
		"o/opaque o/s/ o/s/g=2": "C /o 0, C /o/s 0, D /o/s/f 1, C /o/s/g 1",
		"a!":                    "D /a 0",
		"c!":                    "D /c 2",
		"b/opaque b/y=1":        "C /b 0, D /b/x 1, D /b/z 1, C /b/y 1",
		"a/opaque":              "C /a 0, D /a/old 3",
		"b=1":                   "C /b 1",
		"e/ e/f=1":              "C /e 0, A /e/f 1",
		"d/ d/f=1":              "A /d 0, A /d/f 1",
		"new/ new/sub/ nope!":   "A /new 0, A /new/sub 0",
	} {
		if got := changesOf(t, plant(t, layer), []string{bottom, middle}); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", layer, got, want)
		}
	}
	if got := changesOf(t, plant(t, "a/ a/f=1 b!"), nil); got != "A /a 0, A /a/f 1, D /b 0" {
		t.Errorf("with nothing known below: %s", got)
	}
	for range tree.Changes(t.Context(), middle, []string{bottom}, format()) {
		break // ends the walk
	}
}

func TestChangesFail(t *testing.T) {
	var last error
	for _, err := range tree.Changes(t.Context(), newDir(t), []string{filepath.Join(newDir(t), "none")}, format()) {
		last = err
	}
	if last == nil {
		t.Error("a missing layer is no error")
	}
}

// TestExport: a user gets plain files that belong to the caller.
func TestExport(t *testing.T) {
	layer, dst := plant(t, "d/ d/f=text dev= old!"), plant(t, "d/ d/f=before d/kept=1")
	must(t, unix.Setxattr(filepath.Join(layer, "d/f"), tree.OverrideXattr, []byte("77:88:100644"), 0))
	must(t, unix.Setxattr(filepath.Join(layer, "d/f"), "user.note", []byte("n"), 0))
	must(t, unix.Setxattr(filepath.Join(layer, "dev"), tree.OverrideXattr, []byte("0:0:20666:1:3"), 0))
	if treetest.Privileged() {
		must(t, os.Chown(filepath.Join(layer, "d/f"), 5, 6))
	}
	var skipped []string
	must(t, tree.Flatten(t.Context(), tree.FlattenRequest{
		Layers: []string{layer}, Dst: open(t, dst), Format: tree.Format{UserXattr: true}, Export: true,
		Skipped: func(path string, _ error) { skipped = append(skipped, path) },
	}))
	got := treetest.Describe(t, dst, treetest.DescribeOptions{NoDirTimes: true})
	line := got["d/f"]
	if !strings.HasPrefix(line, fmt.Sprintf("100644 %d:%d ", os.Getuid(), os.Getgid())) || !strings.Contains(line, ` user.note="n"`) || strings.Contains(line, "strata") {
		t.Errorf("d/f is %s", line)
	}
	if data, err := os.ReadFile(filepath.Join(dst, "d/f")); string(data) != "text" || err != nil {
		t.Errorf("d/f holds %q, %v", data, err)
	}
	if got["d/kept"] == "" || got["old"] != "" {
		t.Errorf("merged into %v", got)
	}
	device := strings.HasPrefix(got["dev"], "20644 ")
	if device == (len(skipped) > 0) || treetest.Privileged() && !device {
		t.Errorf("the device is %q, skipped %v", got["dev"], skipped)
	}
}

func TestCopyFile(t *testing.T) {
	src, dst := plant(t, "f=text d/"), newDir(t)
	from, err := open(t, src).OpenDir("/")
	must(t, err)
	defer from.Close()
	to, err := open(t, dst).OpenDir("/")
	must(t, err)
	defer to.Close()
	must(t, tree.CopyFile(t.Context(), to, from, "f"))
	if err := tree.CopyFile(t.Context(), to, from, "f"); err == nil {
		t.Error("a file was overwritten")
	}
	if err := tree.CopyFile(t.Context(), to, from, "d"); err == nil {
		t.Error("a directory was copied")
	}
	got, want := treetest.Describe(t, dst, treetest.DescribeOptions{}), treetest.Describe(t, src, treetest.DescribeOptions{})
	if got["f"] != want["f"] {
		t.Errorf("%s, want %s", got["f"], want["f"])
	}
}
