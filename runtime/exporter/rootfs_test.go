package exporter

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/platforms"
	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/image"
	"github.com/strata-build/strata/runtime/layer"
	"github.com/strata-build/strata/runtime/registry"
	"github.com/strata-build/strata/runtime/snapshot"
	"github.com/strata-build/strata/runtime/store"
)

// realSetup is an exporter over real layers.
type realSetup struct {
	*Exporter
	store     *store.Store
	snapshots snapshot.Snapshotter
	layers    *layer.Store
	images    *image.Store
	stdout    *bytes.Buffer
	n         int
}

func newRealSetup(t testing.TB) *realSetup {
	t.Helper()
	st, err := store.Open(tempDir(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	rootless := os.Geteuid() != 0
	snapshots, err := snapshot.Open(st, snapshot.Options{UserXattr: rootless})
	if err != nil {
		t.Fatal(err)
	}
	client, err := registry.New(registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := &realSetup{store: st, snapshots: snapshots, stdout: &bytes.Buffer{}}
	s.layers = layer.NewStore(st, snapshots, layer.Options{SingleID: rootless})
	s.images = image.New(image.Options{Store: st, Layers: s.layers, Registry: client})
	s.Exporter = New(Options{Store: st, Layers: s.layers, Images: s.images, Stdout: s.stdout})
	return s
}

// tempDir is a directory in which an ordinary user may make what he cannot
// remove.
func tempDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() {
		files, err := os.ReadDir(dir)
		must(t, err)
		for _, f := range files {
			must(t, removeTree(filepath.Join(dir, f.Name())))
		}
	})
	return dir
}

// layer makes a layer of what fill writes into its directory.
func (s *realSetup) layer(t testing.TB, fill func(dir string)) string {
	t.Helper()
	s.n++
	key := "test " + string(rune('a'+s.n))
	dir, err := s.snapshots.NewLayer(context.Background(), key)
	if err != nil {
		t.Fatal(err)
	}
	fill(dir)
	id := "layer-" + string(rune('a'+s.n))
	if err := s.snapshots.Commit(context.Background(), id, key); err != nil {
		t.Fatal(err)
	}
	return id
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// rootfs makes an image with one of everything that needs no privilege.
func (s *realSetup) rootfs(t testing.TB, platform string) PlatformImage {
	t.Helper()
	base := s.layer(t, func(dir string) {
		must(t, os.MkdirAll(dir+"/etc", 0o755))
		must(t, os.MkdirAll(dir+"/gone/deep", 0o755))
		must(t, os.WriteFile(dir+"/etc/os", []byte(platform), 0o644))
		must(t, os.WriteFile(dir+"/gone/deep/f", []byte("x"), 0o644))
		must(t, os.WriteFile(dir+"/etc/replaced", []byte("old"), 0o644))
	})
	app := s.layer(t, func(dir string) {
		must(t, os.MkdirAll(dir+"/etc", 0o755))
		must(t, os.MkdirAll(dir+"/tmp", 0o755))
		must(t, os.Chmod(dir+"/tmp", 0o777|os.ModeSticky))
		must(t, os.Mkdir(dir+"/closed", 0o755))
		must(t, os.WriteFile(dir+"/closed/f", []byte("in a closed directory"), 0o400))
		must(t, os.Chmod(dir+"/closed", 0o555))
		must(t, os.WriteFile(dir+"/etc/replaced", []byte("new"), 0o600))
		must(t, os.WriteFile(dir+"/su", []byte("#!"), 0o755))
		must(t, os.Chmod(dir+"/su", 0o755|os.ModeSetuid))
		must(t, os.Link(dir+"/su", dir+"/etc/su-link"))
		must(t, os.Symlink("../etc/os", dir+"/etc/link"))
		must(t, os.Symlink("/etc", dir+"/abs"))
		must(t, unix.Mkfifo(dir+"/pipe", 0o640))
		if os.Geteuid() == 0 { // whiteout and owner
			must(t, unix.Mknod(dir+"/gone", unix.S_IFCHR, 0))
			must(t, os.Lchown(dir+"/etc/replaced", 1234, 5678))
		}
	})
	return PlatformImage{Platform: platforms.MustParse(platform), Layers: []string{base, app}}
}

func (s *realSetup) run(t testing.TB, img Image, out string) error {
	t.Helper()
	o, err := ParseOutput(out)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Export(context.Background(), img, []Output{o}, nil)
	return err
}

// checkRootfs compares an exported directory with what rootfs made.
func checkRootfs(t testing.TB, dir, platform string) {
	t.Helper()
	for name, want := range map[string]string{"etc/os": platform, "etc/replaced": "new", "su": "#!", "closed/f": "in a closed directory"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s is %q, %v; want %q", name, got, err, want)
		}
	}
	for name, want := range map[string]os.FileMode{
		"su": 0o755 | os.ModeSetuid, "tmp": 0o777 | os.ModeSticky | os.ModeDir, "closed": 0o555 | os.ModeDir,
		"etc/replaced": 0o600, "pipe": 0o640 | os.ModeNamedPipe,
	} {
		info, err := os.Lstat(filepath.Join(dir, name))
		if err != nil || info.Mode() != want {
			t.Errorf("%s is %v, %v; want %v", name, info.Mode(), err, want)
		} else if info.ModTime().Unix() != 0 {
			t.Errorf("%s is of %v", name, info.ModTime())
		}
	}
	for name, want := range map[string]string{"etc/link": "../etc/os", "abs": "/etc"} {
		if got, err := os.Readlink(filepath.Join(dir, name)); err != nil || got != want {
			t.Errorf("%s leads to %q, %v; want %q", name, got, err, want)
		}
	}
	var a, b unix.Stat_t
	must(t, unix.Lstat(filepath.Join(dir, "su"), &a))
	must(t, unix.Lstat(filepath.Join(dir, "etc/su-link"), &b))
	if a.Ino != b.Ino {
		t.Error("the hard link is a copy")
	}
	if os.Geteuid() != 0 {
		return
	}
	if _, err := os.Lstat(filepath.Join(dir, "gone")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what a layer removed is there: %v", err)
	}
	must(t, unix.Lstat(filepath.Join(dir, "etc/replaced"), &a))
	if a.Uid != 1234 || a.Gid != 5678 {
		t.Errorf("etc/replaced is of %d:%d", a.Uid, a.Gid)
	}
}

func TestLocal(t *testing.T) {
	s := newRealSetup(t)
	parent := tempDir(t)
	img := Image{Platforms: []PlatformImage{s.rootfs(t, "linux/amd64")}}
	must(t, s.run(t, img, "type=local,dest="+parent+"/new/deep"))
	checkRootfs(t, parent+"/new/deep", "linux/amd64")
	if got := leftovers(t, parent+"/new"); !slices.Equal(got, []string{"deep"}) {
		t.Errorf("files %q", got)
	}
	before := walk(t, parent)
	for range 2 { // over itself
		must(t, s.run(t, img, parent+"/new/deep"))
		checkRootfs(t, parent+"/new/deep", "linux/amd64")
	}
	if after := walk(t, parent); !slices.Equal(before, after) {
		t.Errorf("before %q, after %q", before, after)
	}
}

func TestLocalOfPlatforms(t *testing.T) {
	s := newRealSetup(t)
	img := Image{Platforms: []PlatformImage{s.rootfs(t, "linux/amd64"), s.rootfs(t, "linux/arm/v7")}}
	dir := filepath.Join(tempDir(t), "out")
	must(t, s.run(t, img, dir))
	checkRootfs(t, dir+"/linux_amd64", "linux/amd64")
	checkRootfs(t, dir+"/linux_arm_v7", "linux/arm/v7")
	err := s.run(t, img, "type=local,platform-split=false,dest="+dir+"2")
	wantError(t, err, "more than one platform")
	if _, err := os.Lstat(dir + "2"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the failed export left %v", err)
	}
	one := Image{Platforms: img.Platforms[:1]}
	must(t, s.run(t, one, "type=local,platform-split=true,dest="+dir+"3"))
	checkRootfs(t, dir+"3/linux_amd64", "linux/amd64")
}

// An existing destination may hold anything: links in it are replaced, never
// followed; other files stay, or go with mode=delete.
func TestLocalIntoHostileDirectory(t *testing.T) {
	s := newRealSetup(t)
	img := Image{Platforms: []PlatformImage{s.rootfs(t, "linux/amd64")}}
	outside, dir := tempDir(t), tempDir(t)
	must(t, os.WriteFile(outside+"/os", []byte("not to be touched"), 0o600))
	must(t, os.WriteFile(outside+"/su", []byte("not to be touched"), 0o600))
	must(t, os.Symlink(outside, dir+"/etc"))
	must(t, os.Symlink(outside+"/su", dir+"/su"))
	must(t, os.Symlink(outside, dir+"/unrelated"))
	must(t, os.MkdirAll(dir+"/abs/full/of/things", 0o755))
	must(t, os.WriteFile(dir+"/closed", []byte("a file where a directory belongs"), 0o600))
	must(t, os.WriteFile(dir+"/mine", []byte("the user's"), 0o600))
	must(t, s.run(t, img, dir))
	checkRootfs(t, dir, "linux/amd64")
	for _, name := range []string{"os", "su"} {
		if data, err := os.ReadFile(outside + "/" + name); err != nil || string(data) != "not to be touched" {
			t.Errorf("outside, %s is %q, %v", name, data, err)
		}
	}
	if files := leftovers(t, outside); len(files) != 2 {
		t.Errorf("outside there is %q", files)
	}
	if data, _ := os.ReadFile(dir + "/mine"); string(data) != "the user's" {
		t.Errorf("mine is %q", data)
	}
	must(t, s.run(t, img, "type=local,mode=delete,dest="+dir))
	checkRootfs(t, dir, "linux/amd64")
	for _, name := range []string{"mine", "unrelated"} {
		if _, err := os.Lstat(dir + "/" + name); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s after mode=delete: %v", name, err)
		}
	}
	if files := leftovers(t, outside); len(files) != 2 {
		t.Errorf("mode=delete reached outside: %q", files)
	}
}

func TestLocalCancelled(t *testing.T) {
	s := newRealSetup(t)
	img := Image{Platforms: []PlatformImage{s.rootfs(t, "linux/amd64")}}
	parent := tempDir(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := s.Export(ctx, img, []Output{{Type: Local, Dest: parent + "/out"}}, nil)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
	broken := Image{Platforms: []PlatformImage{img.Platforms[0], {Platform: platforms.MustParse("linux/arm64"), Layers: []string{"missing"}}}}
	if err := s.run(t, broken, parent+"/out"); err == nil {
		t.Error("a missing layer was exported")
	}
	if got := leftovers(t, parent); len(got) != 0 {
		t.Errorf("left %q", got)
	}
}

func tarNames(t testing.TB, data []byte) (names []string, bodies map[string]string) {
	t.Helper()
	bodies = map[string]string{}
	for tr := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return names, bodies
		}
		must(t, err)
		body, err := io.ReadAll(tr)
		must(t, err)
		names = append(names, strings.TrimSuffix(h.Name, "/"))
		bodies[names[len(names)-1]] = string(body) + h.Linkname
		if h.ModTime.Unix() != 0 {
			t.Errorf("%s is of %v", h.Name, h.ModTime)
		}
	}
}

func TestTar(t *testing.T) {
	s := newRealSetup(t)
	img := Image{Platforms: []PlatformImage{s.rootfs(t, "linux/amd64")}}
	must(t, s.run(t, img, "-"))
	names, bodies := tarNames(t, s.stdout.Bytes())
	if bodies["etc/replaced"] != "new" || bodies["etc/link"] != "../etc/os" || !slices.Contains(names, "closed/f") {
		t.Errorf("files %q", names)
	}
	first := bytes.Clone(s.stdout.Bytes())
	s.stdout.Reset()
	must(t, s.run(t, img, "-"))
	if !bytes.Equal(first, s.stdout.Bytes()) {
		t.Error("the same export gives other bytes")
	}
	again := newRealSetup(t)
	must(t, again.run(t, Image{Platforms: []PlatformImage{again.rootfs(t, "linux/amd64")}}, "-"))
	if !bytes.Equal(first, again.stdout.Bytes()) {
		t.Error("another store gives other bytes")
	}
}

func TestTarOfPlatforms(t *testing.T) {
	s := newRealSetup(t)
	img := Image{Platforms: []PlatformImage{s.rootfs(t, "linux/amd64"), s.rootfs(t, "linux/arm64")}}
	must(t, s.run(t, img, "type=tar"))
	_, bodies := tarNames(t, s.stdout.Bytes())
	if bodies["linux_amd64/etc/os"] != "linux/amd64" || bodies["linux_arm64/etc/os"] != "linux/arm64" {
		t.Errorf("bodies %q", bodies)
	}
	link := bodies["linux_arm64/etc/su-link"] + bodies["linux_arm64/su"]
	if !strings.Contains(link, "linux_arm64/") {
		t.Errorf("the hard link leads to %q", link)
	}
	for name := range bodies {
		if !strings.HasPrefix(name, "linux_a") {
			t.Errorf("%s is outside of its platform", name)
		}
	}
	wantError(t, s.run(t, img, "type=tar,platform-split=false"), "overwrite")
}

func TestRealImagesAreReproducible(t *testing.T) {
	var digests []string
	for range 2 {
		s := newRealSetup(t)
		img := Image{Names: []string{"app"}, Platforms: []PlatformImage{s.rootfs(t, "linux/amd64")}}
		dir := filepath.Join(tempDir(t), "oci")
		o, err := ParseOutput("type=oci,tar=false,dest=" + dir)
		must(t, err)
		result, err := s.Export(context.Background(), img, []Output{o}, nil)
		must(t, err)
		validLayout(t, dir, result.Desc.Digest)
		digests = append(digests, result.Desc.Digest.String())
	}
	if digests[0] != digests[1] {
		t.Errorf("two stores, two digests: %q", digests)
	}
}
