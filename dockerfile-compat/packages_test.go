package dockerfilecompat

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/strata-build/strata/internal/testenv"
)

// modules are public Go modules with many Dockerfiles: those of other builders
// test what nobody would write.
var modules = []string{
	"github.com/openshift/imagebuilder@v1.2.22",
	"github.com/containers/buildah@v1.43.0",
	"github.com/GoogleContainerTools/kaniko@v1.24.0",
	"github.com/docker/compose/v2@v2.40.3",
	"github.com/testcontainers/testcontainers-go@v0.45.0",
	"github.com/docker/docker@v28.5.2+incompatible",
}

// packages are npm packages that Dockerfiles are in.
var packages = []string{
	"@aws-cdk/aws-lambda-go@1.203.0", "@aws-cdk/aws-lambda-nodejs@1.203.0", "@aws-cdk/aws-lambda-python@1.203.0",
	"@devcontainers/cli@0.89.0", "@nx/node@23.2.1", "dockerfile-utils@0.16.3", "dockerfile_lint@0.3.4", "dockerfilelint@1.8.0",
	"gulp-docker@0.0.12", "pm2@7.0.4", "redoc-cli@0.13.21", "statsd@0.9.0",
}

// TestPackages converts the Dockerfiles of Go modules and of npm packages,
// which it downloads by the ordinary clients.
func TestPackages(t *testing.T) {
	testenv.Full(t, "downloads")
	corpus := downloadedModules(t)
	fromModules := len(corpus)
	maps.Copy(corpus, npmDockerfiles(t))
	if fromModules < 400 || len(corpus)-fromModules < 20 {
		t.Errorf("%d Dockerfiles in Go modules and %d in npm packages: some are missing", fromModules, len(corpus)-fromModules)
	}
	corpus = distinct(corpus)
	convertAll(t, corpus).report(t, len(corpus))
}

// downloadedModules are the Dockerfiles of the modules.
func downloadedModules(t *testing.T) map[string]string {
	t.Helper()
	cmd := exec.Command(testenv.Tool(t, "go"), append([]string{"mod", "download", "-json"}, modules...)...)
	cmd.Dir = t.TempDir() // no module's, so that go.sum stays as it is
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go mod download: %v\n%s", err, out)
	}
	corpus := map[string]string{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var m struct{ Dir string }
		if err := dec.Decode(&m); errors.Is(err, io.EOF) {
			return corpus
		} else if err != nil {
			t.Fatal(err)
		}
		if err := collect(filepath.Dir(m.Dir), m.Dir, corpus); err != nil {
			t.Fatal(err)
		}
	}
}

// npmDockerfiles are the Dockerfiles of the npm packages.
func npmDockerfiles(t *testing.T) map[string]string {
	t.Helper()
	npm, dir := testenv.Tool(t, "npm"), t.TempDir()
	var eg errgroup.Group
	eg.SetLimit(4)
	for _, name := range packages {
		eg.Go(func() error {
			cmd := exec.Command(npm, "pack", "--silent", name)
			cmd.Dir, cmd.Stderr = dir, os.Stderr
			return cmd.Run()
		})
	}
	if err := eg.Wait(); err != nil {
		t.Fatalf("npm pack: %v", err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
	if err != nil || len(files) != len(packages) {
		t.Fatalf("%d packages of %d: %v", len(files), len(packages), err)
	}
	corpus := map[string]string{}
	for _, file := range files {
		if err := packedDockerfiles(file, corpus); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
	return corpus
}

// packedDockerfiles adds the Dockerfiles of an archive.
func packedDockerfiles(file string, corpus map[string]string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	for tr := tar.NewReader(z); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg || !isDockerfile(path.Base(h.Name)) || path.Ext(h.Name) == ".js" || path.Ext(h.Name) == ".ts" {
			continue
		}
		text, err := io.ReadAll(tr)
		if err != nil {
			return err
		}
		corpus[filepath.Base(file)+"/"+h.Name] = string(text)
	}
}
