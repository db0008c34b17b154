package exporter

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// untar writes a tar of plain files and directories into a directory.
func untar(t testing.TB, data []byte) string {
	t.Helper()
	dir := t.TempDir()
	tr := tar.NewReader(bytes.NewReader(data))
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return dir
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, h.Name)
		if h.Typeflag == tar.TypeDir {
			err = os.MkdirAll(path, 0o755)
		} else {
			var content []byte
			if content, err = io.ReadAll(tr); err == nil {
				err = os.WriteFile(path, content, 0o644)
			}
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
}

// leftovers lists what an export left beside its destination.
func leftovers(t testing.TB, dir string) []string {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, f.Name())
	}
	return names
}

func TestOCITar(t *testing.T) {
	s := newSetup(t)
	dir := t.TempDir()
	img := s.image(t, "linux/amd64", "linux/arm64")
	result := s.mustExport(t, img, "type=oci,dest="+dir+"/x.tar", "type=oci,dest=-")
	data, err := os.ReadFile(dir + "/x.tar")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(data, s.stdout.Bytes()) {
		t.Error("a file and standard output get different bytes")
	}
	var names []string
	for tr := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		if h.Uid != 0 || h.ModTime.Unix() != 0 {
			t.Errorf("%s is of user %d and %s", h.Name, h.Uid, h.ModTime)
		}
	}
	if !slices.IsSorted(names[4:]) || names[0] != "index.json" || names[1] != "oci-layout" {
		t.Errorf("order %q", names)
	}
	validLayout(t, untar(t, data), result.Desc.Digest)
	if got := leftovers(t, dir); !slices.Equal(got, []string{"x.tar"}) {
		t.Errorf("files %q", got)
	}
}

func TestDockerArchive(t *testing.T) {
	s := newSetup(t)
	path := filepath.Join(t.TempDir(), "x.tar")
	img := s.image(t, "linux/amd64")
	img.Names = []string{"app:1", "quay.io/a/b"}
	result := s.mustExport(t, img, "type=docker,dest="+path)
	tag, err := name.NewTag("app:1")
	if err != nil {
		t.Fatal(err)
	}
	read, err := tarball.ImageFromPath(path, &tag)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(read); err != nil {
		t.Error(err)
	}
	if id, _ := read.ConfigName(); id.String() != result.ConfigDigest.String() {
		t.Errorf("config %s, want %s", id, result.ConfigDigest)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	validLayout(t, untar(t, data), result.Desc.Digest)
	var m ocispec.Manifest
	s.blob(t, result.Desc.Digest, &m)
	if m.MediaType != dockerManifest {
		t.Errorf("media type %s", m.MediaType)
	}
	manifest, err := os.ReadFile(filepath.Join(untar(t, data), "manifest.json"))
	if err != nil || !strings.Contains(string(manifest), `"RepoTags":["app:1","quay.io/a/b:latest"]`) {
		t.Errorf("manifest.json %s, %v", manifest, err)
	}
	_, err = s.export(t, s.image(t, "linux/amd64", "linux/arm64"), "type=docker,dest=-")
	wantError(t, err, "one platform", "type=oci")
}

func TestLayoutDirectoryLinksBlobs(t *testing.T) {
	s := newSetup(t)
	parent := t.TempDir()
	dir := filepath.Join(parent, "oci")
	result := s.mustExport(t, s.image(t, "linux/amd64"), "type=oci,tar=false,dest="+dir)
	for _, d := range []string{result.Desc.Digest.Encoded(), result.ConfigDigest.Encoded()} {
		info, err := os.Stat(filepath.Join(dir, "blobs", "sha256", d))
		if err != nil {
			t.Fatal(err)
		}
		if n := info.Sys().(*syscall.Stat_t).Nlink; n != 2 {
			t.Errorf("blob %s has %d links", d, n)
		}
	}
	if got := leftovers(t, parent); !slices.Equal(got, []string{"oci"}) {
		t.Errorf("files %q", got)
	}
}

// A layout that is there keeps its other images; a name that is given again
// moves.
func TestLayoutDirectoryIsAddedTo(t *testing.T) {
	s := newSetup(t)
	dir := filepath.Join(t.TempDir(), "oci")
	one, two := s.image(t, "linux/amd64"), s.image(t, "linux/arm64")
	first := s.mustExport(t, one, "type=oci,tar=false,name=a:1,dest="+dir)
	second := s.mustExport(t, two, "type=oci,tar=false,name=b:1,dest="+dir)
	validLayout(t, dir, first.Desc.Digest)
	validLayout(t, dir, second.Desc.Digest)
	s.mustExport(t, two, "type=oci,tar=false,name=a:1,dest="+dir)
	var idx ocispec.Index
	data, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &idx); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, d := range idx.Manifests {
		got[d.Annotations[annotationName]] = d.Digest.String()
	}
	if len(idx.Manifests) != 2 || got["docker.io/library/a:1"] != second.Desc.Digest.String() || got["docker.io/library/b:1"] != second.Desc.Digest.String() {
		t.Errorf("index %v", got)
	}
	for range 2 { // the same again adds nothing
		s.mustExport(t, two, "type=oci,tar=false,name=b:1,dest="+dir)
	}
	if again, _ := os.ReadFile(filepath.Join(dir, "index.json")); len(again) != len(data) {
		t.Errorf("index.json grew: %s", again)
	}
}

func TestLayoutDirectoryRefusesOtherThings(t *testing.T) {
	s := newSetup(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "letter.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := s.export(t, s.image(t, "linux/amd64"), "type=oci,tar=false,dest="+dir)
	wantError(t, err, dir, "no OCI layout")
	if got := leftovers(t, dir); !slices.Equal(got, []string{"letter.txt"}) {
		t.Errorf("files %q", got)
	}
	if err := os.WriteFile(filepath.Join(dir, "index.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = s.export(t, s.image(t, "linux/amd64"), "type=oci,tar=false,dest="+dir)
	wantError(t, err, "index.json")
}

func TestDestinations(t *testing.T) {
	s := newSetup(t)
	img := s.image(t, "linux/amd64")
	dir := t.TempDir()
	_, err := s.export(t, img, "type=oci,dest="+dir)
	wantError(t, err, "is a directory")
	_, err = s.export(t, img, "type=oci,dest="+dir+"/no/x.tar")
	wantError(t, err, dir+"/no does not exist")

	// A link's target is replaced, not the link.
	target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
	if err := os.WriteFile(target, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("target", link); err != nil {
		t.Fatal(err)
	}
	s.mustExport(t, img, "type=oci,dest="+link)
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is %v, %v", info.Mode(), err)
	}
	if info, err := os.Stat(target); err != nil || info.Size() < 1000 {
		t.Errorf("the target has %d bytes, %v", info.Size(), err)
	}

	// A pipe is written to, and stays.
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	read := make(chan int64)
	go func() {
		f, err := os.Open(pipe)
		if err != nil {
			read <- -1
			return
		}
		defer f.Close()
		n, _ := io.Copy(io.Discard, f)
		read <- n
	}()
	s.mustExport(t, img, "type=oci,dest="+pipe)
	if n := <-read; n < 1000 {
		t.Errorf("%d bytes came through the pipe", n)
	}
	if info, err := os.Lstat(pipe); err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		t.Errorf("the pipe is %v, %v", info.Mode(), err)
	}
	s.mustExport(t, img, "type=oci,dest=/dev/null")
	if info, err := os.Lstat("/dev/null"); err != nil || info.Mode()&os.ModeDevice == 0 {
		t.Fatalf("/dev/null is %v, %v", info.Mode(), err)
	}
}

func TestNoStdout(t *testing.T) {
	s := newSetup(t)
	s.opts.Stdout = nil
	for _, out := range []string{"type=oci", "type=docker,dest=-"} {
		_, err := s.export(t, s.image(t, "linux/amd64"), out)
		wantError(t, err, "dest=FILE")
	}
}

// An export that fails or is cancelled leaves no file, and what was there.
func TestInterruptedExports(t *testing.T) {
	s := newSetup(t)
	dir := t.TempDir()
	old := filepath.Join(dir, "old.tar")
	if err := os.WriteFile(old, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	img := s.image(t, "linux/amd64")
	j := &job{Exporter: s.Exporter, image: img, p: &serial{}}
	boom := errors.New("boom")
	for _, dest := range []string{old, filepath.Join(dir, "new.tar")} {
		err := j.writeTo(context.Background(), dest, func(w io.Writer) error {
			if _, err := io.Copy(w, iotest.TimeoutReader(strings.NewReader(strings.Repeat("x", 1<<20)))); err == nil {
				t.Error("the copy succeeded")
			}
			return boom
		})
		if !errors.Is(err, boom) {
			t.Errorf("err = %v", err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	err := j.writeTo(ctx, old, func(w io.Writer) error {
		cancel()
		_, err := w.Write([]byte("new"))
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
	// A layer that cannot be made fails before anything is written.
	img.Platforms[0].Layers = append(img.Platforms[0].Layers, "missing")
	if _, err := s.export(t, img, "type=oci,tar=false,dest="+dir+"/layout"); err == nil {
		t.Error("the export succeeded")
	}
	if got := leftovers(t, dir); !slices.Equal(got, []string{"old.tar"}) {
		t.Errorf("files %q", got)
	}
	if data, _ := os.ReadFile(old); string(data) != "old" {
		t.Errorf("the old file is %q", data)
	}
}

// A directory that is cut off in the middle loses what the export put there.
func TestInterruptedLayout(t *testing.T) {
	s := newSetup(t)
	parent := t.TempDir()
	for _, dest := range []string{filepath.Join(parent, "new"), filepath.Join(parent, "there")} {
		if filepath.Base(dest) == "there" {
			s.mustExport(t, s.image(t, "linux/s390x"), "type=oci,tar=false,dest="+dest)
		}
		before := walk(t, parent)
		img := s.image(t, "linux/amd64")
		j := &job{Exporter: s.Exporter, image: img, p: &serial{}}
		out := Output{Type: OCI}
		a, err := j.assemble(context.Background(), out)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.store.DeleteBlob(a.manifests[0].manifest.Layers[0].Digest); err != nil {
			t.Fatal(err)
		}
		if err := j.layoutDir(context.Background(), dest, a, nil); err == nil {
			t.Error("the export succeeded")
		}
		if after := walk(t, parent); !slices.Equal(before, after) {
			t.Errorf("before %q, after %q", before, after)
		}
	}
}

// walk lists all paths below a directory.
func walk(t testing.TB, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		all = append(all, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestDamagedBlobIsNotExported(t *testing.T) {
	s := newSetup(t)
	img := s.image(t, "linux/amd64")
	result := s.mustExport(t, img, "type=oci,dest=-")
	path, err := s.store.BlobPath(result.ConfigDigest)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 3); err != nil {
		t.Fatal(err)
	}
	j := &job{Exporter: s.Exporter}
	_, err = j.openBlob(ocispec.Descriptor{Digest: result.ConfigDigest, Size: 100})
	wantError(t, err, "3 bytes")
}

func TestImageStoreAndPush(t *testing.T) {
	s := newSetup(t)
	host := newRegistry(t)
	img := s.image(t, "linux/amd64", "linux/arm64")
	img.Names = []string{host + "/app:1", "app:local"}
	result := s.mustExport(t, img, "type=image")
	for _, name := range img.Names {
		if got, err := s.images.Get(name); err != nil || got.Desc.Digest != result.Desc.Digest {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	s.mustExport(t, img, "type=image,push=true,name="+host+"/app:2")
	s.mustExport(t, img, "type=registry,name="+host+"/other:3")
	s.mustExport(t, s.image(t, "linux/amd64"), "type=registry,oci-mediatypes=false,name="+host+"/docker:1")
	for _, at := range []string{"/app:2", "/other:3"} {
		ref, err := name.ParseReference(host + at)
		if err != nil {
			t.Fatal(err)
		}
		idx, err := remote.Index(ref)
		if err != nil {
			t.Fatal(err)
		}
		if err := validate.Index(idx); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.images.Get(host + "/other:3"); err == nil {
		t.Error("type=registry kept a name")
	}
	ref, _ := name.ParseReference(host + "/docker:1")
	pushed, err := remote.Image(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(pushed); err != nil {
		t.Error(err)
	}
	nameless := s.image(t, "linux/amd64")
	nameless.Names = nil
	_, err = s.export(t, nameless, "type=registry")
	wantError(t, err, "no name", "-t")
	result = s.mustExport(t, nameless, "type=image")
	if got, err := s.images.Resolve(context.Background(), result.IDFile()); err != nil || got.Name != "" {
		t.Errorf("the image without a name: %+v, %v", got, err)
	}
}

func TestPushByDigest(t *testing.T) {
	s := newSetup(t)
	host := newRegistry(t)
	result := s.mustExport(t, s.image(t, "linux/amd64"), "type=image,push=true,push-by-digest=true,name="+host+"/app")
	ref, _ := name.ParseReference(host + "/app@" + result.Desc.Digest.String())
	if _, err := remote.Image(ref); err != nil {
		t.Error(err)
	}
	repo, _ := name.NewRepository(host + "/app")
	if tags, err := remote.List(repo); err == nil && len(tags) > 0 {
		t.Errorf("tags %q", tags)
	}
}

// fakeDocker is a docker daemon that keeps what it loads.
func fakeDocker(t testing.TB, answer string, code int) (string, *bytes.Buffer) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "docker.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	loaded := &bytes.Buffer{}
	mux := http.NewServeMux()
	mux.HandleFunc("/_ping", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "OK") })
	mux.HandleFunc("POST /images/load", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(loaded, r.Body)
		w.WriteHeader(code)
		fmt.Fprint(w, answer)
	})
	srv := &http.Server{Handler: mux}
	go srv.Serve(l) //nolint:errcheck // ends with Close
	t.Cleanup(func() { srv.Close() })
	return "unix://" + socket, loaded
}

func TestLoadIntoDocker(t *testing.T) {
	s := newSetup(t)
	host, loaded := fakeDocker(t, `{"stream":"Loaded image: app:1\n"}`, 200)
	s.opts.DockerHost = host
	result := s.mustExport(t, s.image(t, "linux/amd64"), "type=docker")
	validLayout(t, untar(t, loaded.Bytes()), result.Desc.Digest)
	for answer, code := range map[string]int{
		`{"errorDetail":{"message":"no space left"},"error":"no space left"}`: 200, `{"message":"no space left"}`: 500, "no space left": 507,
	} {
		s.opts.DockerHost, _ = fakeDocker(t, answer, code)
		_, err := s.export(t, s.image(t, "linux/amd64"), "type=docker")
		wantError(t, err, "docker could not load", "no space left")
	}
	s.opts.DockerHost = "unix:///nonexistent/docker.sock"
	_, err := s.export(t, s.image(t, "linux/amd64"), "type=docker")
	wantError(t, err, "no docker daemon answers at unix:///nonexistent/docker.sock", "dest=FILE")
	s.opts.DockerHost = "ssh://user@host"
	_, err = s.export(t, s.image(t, "linux/amd64"), "type=docker")
	wantError(t, err, "ssh://user@host", "docker load")
}

// Two outputs share the layers' blobs: that they are made once is the layer
// store's promise; that the same ones are asked for is ours.
func TestSeveralOutputs(t *testing.T) {
	s := newSetup(t)
	dir := t.TempDir()
	result := s.mustExport(t, s.image(t, "linux/amd64"), "type=oci,dest="+dir+"/a.tar", "type=oci,tar=false,dest="+dir+"/b", "type=image,name=x")
	if img, err := s.images.Get("x"); err != nil || img.Desc.Digest != result.Desc.Digest {
		t.Errorf("%+v, %v", img, err)
	}
	validLayout(t, dir+"/b", result.Desc.Digest)
}

func TestTarHeadersOfBigFiles(t *testing.T) {
	var buf bytes.Buffer
	f := &tarFile{w: &buf}
	if err := f.header(&tar.Header{Typeflag: tar.TypeReg, Name: "blobs/sha256/" + strings.Repeat("a", 64), Mode: 0o444, Size: 20 << 30}); err != nil {
		t.Fatal(err)
	}
	h, err := tar.NewReader(&buf).Next()
	if err != nil || h.Size != 20<<30 {
		t.Errorf("%+v, %v", h, err)
	}
}
