package dockerfilecompat

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/strata-build/strata/compiler"
)

// registry is a meta resolver that knows every image but those of the
// repository "missing", on every platform. Some have a config of their own.
type registry struct{}

func (registry) ResolveImageConfig(_ context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	repo, _, _ := strings.Cut(strings.Split(strings.TrimPrefix(ref, "docker.io/library/"), "@")[0], ":")
	if repo == "missing" {
		return "", "", nil, fmt.Errorf("%s: not found", ref)
	}
	p := platforms.Normalize(platforms.DefaultSpec())
	if opt.ImageOpt != nil && opt.ImageOpt.Platform != nil {
		p = *opt.ImageOpt.Platform
	}
	config, ok := configs()[repo]
	if !ok {
		config = `"Env":["PATH=/usr/local/bin:/usr/bin:/bin"],"Cmd":["/bin/sh"]`
	}
	dt := fmt.Sprintf(`{"architecture":%q,"os":%q,"variant":%q,"config":{%s},`+
		`"rootfs":{"type":"layers","diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]},`+
		`"history":[{"created_by":"/bin/sh -c #(nop) ADD rootfs"}]}`, p.Architecture, p.OS, p.Variant, config)
	return ref, digest.FromString(dt), []byte(dt), nil
}

// configs are the configs that are not like all others.
func configs() map[string]string {
	triggers, _ := json.Marshal([]string{"ARG MODE=dev", "WORKDIR /app", "COPY . .", "RUN make $MODE"})
	return map[string]string{
		"golang":  `"Env":["PATH=/go/bin:/usr/bin","GOPATH=/go"],"WorkingDir":"/go","Entrypoint":["/go.sh"],"Cmd":["bash"]`,
		"nginx":   `"Env":["PATH=/usr/bin"],"User":"nginx","ExposedPorts":{"80/tcp":{}},"Shell":["/bin/ash","-c"],"Cmd":["nginx"]`,
		"onbuild": `"Env":["PATH=/bin"],"OnBuild":` + string(triggers),
	}
}

// layouts knows one image in every layout.
type layouts struct{}

func (layouts) Image(_ context.Context, _, _ string, p ocispecs.Platform) (digest.Digest, []byte, error) {
	dt := fmt.Sprintf(`{"architecture":%q,"os":%q,"config":{"Env":["PATH=/layout"]},"rootfs":{"type":"layers","diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]}}`, p.Architecture, p.OS)
	return digest.FromString("layout"), []byte(dt), nil
}

// testOptions are those of every compilation here.
func testOptions() compiler.Options {
	return compiler.Options{
		BuildPlatform: ocispecs.Platform{OS: "linux", Architecture: "amd64"},
		Meta:          registry{}, Layouts: layouts{}, Args: map[string]string{},
	}
}

// request reads a request from the lines of a txtar comment: `name value`.
// Lines that begin with # are remarks.
func request(t testing.TB, dir, comment string) Request {
	t.Helper()
	req := Request{Filename: "Dockerfile", Dir: dir, Context: dir, Contexts: map[string]string{}, Options: testOptions()}
	for line := range strings.Lines(comment) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		key, rest, _ := strings.Cut(value, "=")
		switch name {
		case "", "#":
		case "file":
			req.Filename, req.Dir = value, filepath.Dir(filepath.Join(dir, value))
		case "stdin":
			text, err := os.ReadFile(filepath.Join(dir, req.Filename))
			if err != nil {
				t.Fatal(err)
			}
			req.Text, req.Dir = text, ""
		case "target":
			req.Target = value
		case "platform":
			p, err := platforms.Parse(value)
			if err != nil {
				t.Fatal(err)
			}
			req.Platforms = append(req.Platforms, p)
		case "arg":
			req.Options.Args[key] = rest
		case "label":
			req.Options.Labels = map[string]string{key: rest}
		case "context":
			req.Contexts[key] = strings.ReplaceAll(rest, "$DIR", dir)
		case "nocache":
			req.Options.NoCacheFilter = []string{value}
		default:
			t.Fatalf("unknown option %q", line)
		}
	}
	return req
}

// unpack writes the files of an archive, but for the golden ones.
func unpack(t testing.TB, archive *txtar.Archive, golden string) string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range archive.Files {
		if f.Name == golden {
			continue
		}
		name := filepath.Join(dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// checkGolden compares with the golden file of an archive; UPDATE=1 writes it.
func checkGolden(t *testing.T, file string, archive *txtar.Archive, golden, got string) {
	t.Helper()
	for i, f := range archive.Files {
		if f.Name != golden {
			continue
		}
		if string(f.Data) == got {
			return
		}
		if os.Getenv("UPDATE") == "" {
			t.Fatalf("%s differs from what there is now; UPDATE=1 writes it:\n%s", golden, got)
		}
		archive.Files[i].Data = []byte(got)
		writeArchive(t, file, archive)
		return
	}
	if os.Getenv("UPDATE") == "" {
		t.Fatalf("no %s; UPDATE=1 writes it:\n%s", golden, got)
	}
	archive.Files = append(archive.Files, txtar.File{Name: golden, Data: []byte(got)})
	writeArchive(t, file, archive)
}

func writeArchive(t *testing.T, file string, archive *txtar.Archive) {
	t.Helper()
	if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
		t.Fatal(err)
	}
}

// archives calls fn for each archive of a folder below testdata.
func archives(t *testing.T, folder string, fn func(t *testing.T, file string, archive *txtar.Archive)) {
	files, err := filepath.Glob(filepath.Join("testdata", folder, "*.txtar"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no archives: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			fn(t, file, archive)
		})
	}
}

// rendered is an error as the command line shows it.
func rendered(err error) string {
	var at interface{ Render() string }
	if errors.As(err, &at) {
		return at.Render()
	}
	return err.Error() + "\n"
}
