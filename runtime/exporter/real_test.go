package exporter

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/strata-build/strata/internal/testenv"
	"github.com/strata-build/strata/runtime/image"
)

// output runs a program and returns what it prints.
func output(t testing.TB, program string, args ...string) string {
	t.Helper()
	cmd := exec.Command(program, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s%s", program, strings.Join(args, " "), err, out.String(), errs.String())
	}
	return out.String()
}

// kinds are the outputs as skopeo names them.
var kinds = map[string]struct{ option, transport string }{
	"oci directory":  {"type=oci,tar=false,dest=", "oci:"},
	"oci archive":    {"type=oci,dest=", "oci-archive:"},
	"docker archive": {"type=docker,dest=", "docker-archive:"},
	"zstd":           {"type=oci,compression=zstd,dest=", "oci-archive:"},
	"uncompressed":   {"type=oci,compression=uncompressed,tar=false,dest=", "oci:"},
}

func TestSkopeoReadsExports(t *testing.T) {
	skopeo := testenv.Tool(t, "skopeo")
	s := newRealSetup(t)
	img := Image{Names: []string{"app:1"}, Platforms: []PlatformImage{s.rootfs(t, "linux/amd64")}}
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			must(t, s.run(t, img, kind.option+dir+"/x"))
			// Docker archives have the whole name, layouts the tag.
			tag := map[bool]string{true: ":app:1", false: ":1"}[kind.transport == "docker-archive:"]
			src := kind.transport + dir + "/x" + tag
			var inspected struct {
				Layers       []string
				Architecture string
			}
			must(t, json.Unmarshal([]byte(output(t, skopeo, "inspect", src)), &inspected))
			if len(inspected.Layers) != 2 || inspected.Architecture != "amd64" {
				t.Errorf("inspected %+v", inspected)
			}
			output(t, skopeo, "copy", "--quiet", src, "dir:"+dir+"/copied")
		})
	}
}

func TestSkopeoReadsIndexes(t *testing.T) {
	skopeo := testenv.Tool(t, "skopeo")
	s := newRealSetup(t)
	img := Image{Names: []string{"app:1"}, Platforms: []PlatformImage{s.rootfs(t, "linux/amd64"), s.rootfs(t, "linux/arm64")}}
	dir := t.TempDir()
	must(t, s.run(t, img, "type=oci,dest="+dir+"/x"))
	output(t, skopeo, "copy", "--quiet", "--all", "oci-archive:"+dir+"/x:1", "dir:"+dir+"/all")
	got := output(t, skopeo, "inspect", "--override-arch", "arm64", "oci-archive:"+dir+"/x:1")
	if !strings.Contains(got, `"arm64"`) {
		t.Errorf("inspected %s", got)
	}
}

// umoci unpacks our layers into the tree that we export ourselves.
func TestUmociUnpacksExports(t *testing.T) {
	umoci := testenv.Tool(t, "umoci")
	testenv.Root(t)
	s := newRealSetup(t)
	img := Image{Names: []string{"app:1"}, Platforms: []PlatformImage{s.rootfs(t, "linux/amd64")}}
	dir := t.TempDir()
	must(t, s.run(t, img, "type=oci,tar=false,dest="+dir+"/oci"))
	output(t, umoci, "unpack", "--image", dir+"/oci:1", dir+"/bundle")
	checkRootfs(t, dir+"/bundle/rootfs", "linux/amd64")
}

// podman keeps its state in a directory of the test.
func podman(t testing.TB) func(args ...string) string {
	t.Helper()
	program := testenv.Tool(t, "podman")
	testenv.Tool(t, "runc")
	testenv.Root(t)
	dir, err := os.MkdirTemp("", "podman")
	must(t, err)
	run := func(args ...string) string {
		t.Helper()
		all := append([]string{"--root", dir + "/root", "--runroot", dir + "/run", "--storage-driver", "vfs", "--events-backend", "none", "--cgroup-manager", "cgroupfs", "--runtime", "runc"}, args...)
		return output(t, program, all...)
	}
	t.Cleanup(func() {
		run("system", "reset", "--force")
		must(t, os.RemoveAll(dir))
	})
	return run
}

func TestPodmanLoadsExports(t *testing.T) {
	run := podman(t)
	s := newRealSetup(t)
	img := Image{Names: []string{"localhost/app:1"}, Platforms: []PlatformImage{s.rootfs(t, "linux/amd64")}}
	for _, option := range []string{"type=docker,dest=", "type=oci,dest="} {
		file := filepath.Join(t.TempDir(), "x.tar")
		must(t, s.run(t, img, option+file))
		if got := run("load", "--input", file); !strings.Contains(got, "app:1") && !strings.Contains(got, "sha256:") {
			t.Errorf("podman says %q", got)
		}
	}
	runs(t, run, s, img)
	mounted := strings.TrimSpace(run("image", "mount", "localhost/app:1"))
	checkRootfs(t, mounted, "linux/amd64")
	run("image", "unmount", "localhost/app:1")

	// And back again, by podman's own archives.
	for _, format := range []string{"docker-archive", "oci-archive"} {
		file := filepath.Join(t.TempDir(), format+".tar")
		run("save", "--format", format, "--output", file, "localhost/app:1")
		imports(t, file, "localhost/app:1")
	}
}

// runs has podman start a process in an image.
func runs(t testing.TB, run func(args ...string) string, s *realSetup, img Image) {
	t.Helper()
	program, err := os.ReadFile(testenv.Tool(t, "busybox"))
	must(t, err)
	img.Names = []string{"localhost/runs:1"}
	img.Platforms = slices.Clone(img.Platforms)
	img.Platforms[0].Layers = append(slices.Clone(img.Platforms[0].Layers), s.layer(t, func(dir string) {
		must(t, os.WriteFile(dir+"/busybox", program, 0o755))
	}))
	img.Platforms[0].Config = []byte(`{"os":"linux","architecture":"amd64","config":{"Cmd":["/busybox","cat","/etc/os"],"Env":["A=b"]}}`)
	file := filepath.Join(t.TempDir(), "x.tar")
	must(t, s.run(t, img, "type=docker,dest="+file))
	run("load", "--input", file)
	got := run("run", "--rm", "--network", "none", "--ulimit", "nofile=256:256", "--ulimit", "nproc=256:256", "--security-opt", "seccomp=unconfined", "localhost/runs:1")
	if strings.TrimSpace(got) != "linux/amd64" {
		t.Errorf("the process says %q", got)
	}
}

// imports reads an archive into a fresh store and compares the files.
func imports(t testing.TB, file, name string) {
	t.Helper()
	s := newRealSetup(t)
	f, err := os.Open(file)
	must(t, err)
	defer f.Close()
	images, err := s.images.Import(context.Background(), f)
	must(t, err)
	if len(images) != 1 || name != "" && !slices.Contains(images[0].Names, name) {
		t.Errorf("%s: imported %+v, want the name %s", file, images, name)
	}
	m, err := s.images.Load(context.Background(), images[0].Desc, nil, nil)
	must(t, err)
	ids, err := s.images.Unpack(context.Background(), image.UnpackRequest{Manifest: m})
	must(t, err)
	dir := filepath.Join(t.TempDir(), "root")
	must(t, s.run(t, Image{Platforms: []PlatformImage{{Platform: m.Platform(), Config: m.RawConfig, Layers: ids}}}, dir))
	checkRootfs(t, dir, "linux/amd64")
}

func TestImportOfSkopeoArchives(t *testing.T) {
	skopeo := testenv.Tool(t, "skopeo")
	testenv.Root(t)
	s := newRealSetup(t)
	img := Image{Names: []string{"app:1"}, Platforms: []PlatformImage{s.rootfs(t, "linux/amd64")}}
	dir := t.TempDir()
	must(t, s.run(t, img, "type=oci,tar=false,dest="+dir+"/oci"))
	for to, name := range map[string]string{
		"docker-archive:" + dir + "/d.tar:docker.io/library/app:2": "app:2",
		"docker-archive:" + dir + "/n.tar":                         "",
		"oci-archive:" + dir + "/o.tar:docker.io/library/app:3":    "app:3",
		"oci-archive:" + dir + "/t.tar:v4":                         "",
	} {
		output(t, skopeo, "copy", "--quiet", "oci:"+dir+"/oci:1", to)
		imports(t, strings.SplitN(to, ":", 3)[1], name)
	}
	output(t, skopeo, "copy", "--quiet", "oci:"+dir+"/oci:1", "oci:"+dir+"/copy:v5")
	images, err := s.images.ImportLayout(context.Background(), dir+"/copy")
	if err != nil || len(images) != 1 || images[0].Tag != "v5" {
		t.Errorf("layout: %+v, %v", images, err)
	}
}

// GNU tar reads what we write, and finds nothing to remark.
func TestTarReadsExports(t *testing.T) {
	program := testenv.Tool(t, "tar")
	testenv.Root(t)
	s := newRealSetup(t)
	img := Image{Platforms: []PlatformImage{s.rootfs(t, "linux/amd64")}}
	dir := t.TempDir()
	must(t, s.run(t, img, "type=tar,dest="+dir+"/x.tar"))
	must(t, os.Mkdir(dir+"/out", 0o755))
	if said := output(t, program, "-C", dir+"/out", "--numeric-owner", "-xpf", dir+"/x.tar"); said != "" {
		t.Errorf("tar says %q", said)
	}
	checkRootfs(t, dir+"/out", "linux/amd64")
	f, err := os.Open(dir + "/x.tar")
	must(t, err)
	defer f.Close()
	for tr := tar.NewReader(f); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		must(t, err)
		if h.Uname+h.Gname != "" {
			t.Errorf("%s names the user %q", h.Name, h.Uname)
		}
	}
}
