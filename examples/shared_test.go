package examples

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/strata-build/strata/internal/testenv"
	"github.com/strata-build/strata/internal/testimage"
)

// TestMain removes what the tests share.
func TestMain(m *testing.M) {
	code := m.Run()
	if err := shared.close(); err != nil {
		fmt.Fprintln(os.Stderr, "clean up:", err)
		code = 1
	}
	os.Exit(code)
}

// shared is made by the first test that needs it.
var shared fixture

// fixture is what tests share, so that a base is unpacked, and a package
// downloaded, once for all of them: a store, and a registry of bases.
type fixture struct {
	mu       sync.Mutex
	dir      string
	registry *httptest.Server
	bases    map[string]string
}

func (f *fixture) close() error {
	if f.dir == "" {
		return nil
	}
	f.registry.Close()
	return os.RemoveAll(f.dir)
}

// open makes the directory, with the program in it, and the registry.
func (f *fixture) open(t *testing.T) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dir != "" {
		return
	}
	dir, err := os.MkdirTemp("", "strata-examples-")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-o", filepath.Join(dir, "strata"), "../cmd/strata")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("compile strata: %v\n%s", errors.Join(err, os.RemoveAll(dir)), out)
	}
	f.registry = httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	f.dir, f.bases = dir, map[string]string{}
}

// base pushes an image to the registry once, and returns its name.
func (f *fixture) base(t *testing.T, name string, image func(testing.TB) v1.Image) string {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.bases[name] == "" {
		f.bases[name] = testimage.Push(t, strings.TrimPrefix(f.registry.URL, "http://"), name, image(t))
	}
	return f.bases[name]
}

// debian is Debian with the certificates that this machine trusts.
func debian(t testing.TB) v1.Image {
	t.Helper()
	const bundle = "/etc/ssl/certs/ca-certificates.crt"
	data, err := os.ReadFile(bundle)
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	header := &tar.Header{Name: bundle[1:], Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(data))}
	if err := w.WriteHeader(header); err != nil {
		t.Fatal(err)
	}
	_, err = w.Write(data)
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromReader(&buf)
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(testimage.Debian(t), layer)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// user is who follows a README: in the directory of an example, on the shared
// store.
type user struct {
	*testing.T
	dir string
}

func in(t *testing.T, example string) user {
	t.Helper()
	testenv.Root(t)
	shared.open(t)
	return user{T: t, dir: example}
}

// command is a command line of strata.
func (u user) command(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(shared.dir, "strata"), append([]string{"--root", filepath.Join(shared.dir, "store")}, args...)...)
	cmd.Dir = u.dir
	return cmd
}

// outcome is how a command ended.
type outcome struct {
	stdout, stderr string
	code           int
}

// try runs strata, which may fail.
func (u user) try(args ...string) outcome {
	u.Helper()
	var stdout, stderr bytes.Buffer
	cmd := u.command(args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		u.Fatalf("strata %s: %v", strings.Join(args, " "), err)
	}
	return outcome{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// strata runs strata, and returns its standard output without the last line
// feed.
func (u user) strata(args ...string) string {
	u.Helper()
	got := u.try(args...)
	if got.code != 0 {
		u.Fatalf("strata %s: exit code %d\n%s%s", strings.Join(args, " "), got.code, got.stdout, got.stderr)
	}
	return strings.TrimSuffix(got.stdout, "\n")
}

// tool runs another program, and returns what it wrote.
func (u user) tool(name string, args ...string) (string, error) {
	u.Helper()
	out, err := exec.Command(testenv.Tool(u.T, name), args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return string(out), err
}

// build builds the example's CUE, and its Dockerfile, which must be the same
// image.
func (u user) build(base string) {
	u.Helper()
	u.strata("build", "--progress", "plain", "--set", "base="+base, ".")
	name := filepath.Base(u.dir)
	u.dockerfile(name+":dockerfile", base)
	if cue, docker := u.id(name), u.id(name+":dockerfile"); cue != docker {
		u.Errorf("the CUE is image %s, the Dockerfile %s", cue, docker)
	}
}

// dockerfile builds the example's Dockerfile.
func (u user) dockerfile(tag, base string, args ...string) {
	u.Helper()
	u.strata(append([]string{"build", "--progress", "plain", "-f", "Dockerfile", "-t", tag, "--build-arg", "base=" + base, "."}, args...)...)
}

func (u user) debian() string  { return shared.base(u.T, "debian:bookworm", debian) }
func (u user) busybox() string { return shared.base(u.T, "busybox:1", testimage.Busybox) }

// id is the id of an image.
func (u user) id(image string) string {
	u.Helper()
	return u.strata("inspect", "--type", "image", "--format", "{{.Id}}", image)
}

// layers are the uncompressed digests of an image's layers.
func (u user) layers(image string) []string {
	u.Helper()
	var layers []string
	if err := json.Unmarshal([]byte(u.strata("inspect", "--type", "image", "--format", "{{json .RootFS.Layers}}", image)), &layers); err != nil {
		u.Fatal(err)
	}
	return layers
}

// start runs a container in the background until the test has ended, and
// returns its id.
func (u user) start(args ...string) string {
	u.Helper()
	id := u.strata(append([]string{"run", "-d"}, args...)...)
	u.Cleanup(func() {
		if u.Failed() {
			u.Logf("logs of %s:\n%v", strings.Join(args, " "), u.try("logs", "--tail", "50", id))
		}
		u.strata("rm", "-f", "-v", id)
	})
	return id
}

// local is an address for -p: a port of the container, on a free one of
// loopback.
func local(port string) string { return "127.0.0.1:0:" + port }

// address is where a port of a container is published.
func (u user) address(id, port string) string {
	u.Helper()
	return u.strata("port", id, port)
}

// curl fetches a page of a container as soon as it answers.
func (u user) curl(id, port, path string) string {
	u.Helper()
	url := "http://" + u.address(id, port) + path
	var page string
	u.until(patience, func() (err error) {
		page, err = u.tool("curl", "-fsS", "--max-time", "10", url)
		return err
	})
	return page
}

// patience is how long a server may take to start on a busy machine.
const patience = 2 * time.Minute

// until waits for a condition.
func (u user) until(limit time.Duration, condition func() error) {
	u.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := condition()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			u.Fatalf("after %v: %v", limit, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// wants fails unless a text has all of the words.
func (u user) wants(what, text string, words ...string) {
	u.Helper()
	for _, word := range words {
		if !strings.Contains(text, word) {
			u.Errorf("%s lacks %q:\n%s", what, word, text)
		}
	}
}
