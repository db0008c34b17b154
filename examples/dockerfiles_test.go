package examples

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/strata-build/strata/internal/testimage"
)

// project is a Dockerfile of dockerfiles/, with the CUE that it was converted
// to.
type project struct {
	name string
	arg  string // names the base image
	base string // its default
	// try runs the image with these arguments and this input, and finds want
	// in what it says.
	try   []string
	input string
	want  string
}

func projects() []project {
	return []project{
		{name: "go-service", arg: "GOLANG", base: "golang:1.26", try: []string{"-version"}, want: "guestbook dev\n"},
		{name: "c-program", arg: "DEBIAN", base: "debian:bookworm", input: "to be or not to be\n", want: "2 be\n2 to\n1 not\n1 or\n"},
		{name: "python-web", arg: "DEBIAN", base: "debian:bookworm", try: []string{"gunicorn", "--check-config", "--print-config", "app.app:app"}, want: "0.0.0.0:8000"},
		{name: "node-service", arg: "DEBIAN", base: "debian:bookworm", try: []string{"-p", `process.env.PORT + require("/app/src/convert").convert(100, "f")`}, want: "3000212\n"},
		{name: "static-site", arg: "BUSYBOX", base: "busybox:1", try: []string{"cat", "index.html", "hello.html", "/usr/local/bin/serve"}, want: "<pre>\nThis site is made of text files.\n</pre>"},
	}
}

// TestDockerfiles: the CUE of each Dockerfile is what `strata convert` writes,
// and both are built to the same image. UPDATE=1 writes the CUE.
func TestDockerfiles(t *testing.T) {
	program := strata(t)
	host := testimage.Registry(t)
	refs, store := map[string]string{}, t.TempDir()
	metadata := map[string]*v1.ConfigFile{}
	for name, img := range map[string]v1.Image{
		"golang:1.26": testimage.Golang(t), "debian:bookworm": testimage.Debian(t), "busybox:1": testimage.Busybox(t),
	} {
		refs[name] = testimage.Push(t, host, name, img)
		config, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		metadata[name] = config
	}
	data, err := json.Marshal(metadata)
	if err != nil {
		t.Fatal(err)
	}
	images := filepath.Join(t.TempDir(), "images.json")
	if err := os.WriteFile(images, data, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, p := range projects() {
		t.Run(p.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), p.name)
			if err := os.CopyFS(dir, os.DirFS(filepath.Join("dockerfiles", p.name))); err != nil {
				t.Fatal(err)
			}
			p.convert(t, program, dir, images)
			p.build(t, program, dir, store, refs[p.base])
			p.run(t, program, store)
		})
	}
}

// convert compares the CUE with what the Dockerfile is converted to.
func (p project) convert(t *testing.T, program, dir, images string) {
	t.Helper()
	file := filepath.Join(dir, "app.cue")
	if err := os.RemoveAll(file); err != nil {
		t.Fatal(err)
	}
	out := command(t, program, dir, filepath.Join(t.TempDir(), "none"), "convert", "Dockerfile", "-o", "app.cue", "--image-metadata", images)
	if strings.Contains(out, "stays a Dockerfile") {
		t.Errorf("a stage was kept:\n%s", out)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("dockerfiles", p.name, "app.cue")
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("%s is not what the Dockerfile is converted to; UPDATE=1 writes it:\n%s", golden, got)
	}
}

// build builds the Dockerfile and the CUE, and wants one digest.
func (p project) build(t *testing.T, program, dir, store, base string) {
	t.Helper()
	image := p.arg + "=" + base
	dockerfile := digestOf(t, program, dir, store, "build", "-t", p.name, "-f", "Dockerfile", "--build-arg", image, ".")
	cue := digestOf(t, program, dir, store, "build", "-t", p.name, "./app.cue", "--set", image, "--target", p.name)
	if dockerfile == "" || dockerfile != cue {
		t.Errorf("the Dockerfile makes %q, and the CUE %q", dockerfile, cue)
	}
}

// digestOf builds one image in a store.
func digestOf(t *testing.T, program, dir, store string, args ...string) string {
	t.Helper()
	meta := filepath.Join(t.TempDir(), "meta.json")
	command(t, program, dir, store, append(args, "--metadata-file", meta)...)
	data, err := os.ReadFile(meta)
	if err != nil {
		t.Fatal(err)
	}
	var built struct {
		Digest string `json:"containerimage.digest"`
	}
	if err := json.Unmarshal(data, &built); err != nil {
		t.Fatal(err)
	}
	return built.Digest
}

func (p project) run(t *testing.T, program, store string) {
	t.Helper()
	cmd := exec.Command(program, append([]string{"--root", store, "run", "--rm", "-i", p.name}, p.try...)...)
	cmd.Stdin = strings.NewReader(p.input)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), p.want) {
		t.Errorf("it says %q (%v), want %q", out, err, p.want)
	}
}
