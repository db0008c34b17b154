package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/solver/pb"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/cmd/strata/cli"
)

const planDockerfile = `ARG V=12
FROM debian:$V AS build
ARG WHO=nobody
RUN make $WHO
FROM debian:$V
COPY --from=build /out /
COPY --link src /src
CMD ["/out"]
`

const planCUE = `images: app: {
	from: "debian:12"
	stages: build: {from: "debian:12", args: WHO: "nobody", steps: ["make $WHO"]}
	steps: [{copy: "/out", from: stages.build, to: "/"}, {copy: "src", to: "/src", link: true}]
	cmd: ["/out"]
}
`

// planned runs `strata plan` without a registry, and without a store.
func planned(t *testing.T, args ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"Dockerfile": planDockerfile, "app.cue": planCUE,
		"images.json": `{"docker.io/library/debian:12": {"os": "linux", "architecture": "amd64", "config": {"Env": ["PATH=/debian"]},
			"rootfs": {"type": "layers", "diff_ids": ["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]}}}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	var stdout, stderr bytes.Buffer
	a := cli.New(strings.NewReader(""), &stdout, &stderr, []string{"HOME=" + dir, "STRATA_ROOT=" + filepath.Join(dir, "store")})
	if code := execute(context.Background(), a, append([]string{"plan", "--image-metadata", "images.json"}, args...)); code != 0 {
		t.Fatalf("exit code %d: %s", code, &stderr)
	}
	if _, err := os.Stat(filepath.Join(dir, "store")); !errors.Is(err, os.ErrNotExist) {
		t.Error("a store was made")
	}
	return stdout.Bytes()
}

// ops decodes a definition to its ops.
func ops(t *testing.T, data []byte) []*pb.Op {
	t.Helper()
	var def pb.Definition
	if err := def.UnmarshalVT(data); err != nil {
		t.Fatal(err)
	}
	var list []*pb.Op
	for _, dt := range def.Def {
		var op pb.Op
		if err := op.UnmarshalVT(dt); err != nil {
			t.Fatal(err)
		}
		list = append(list, &op)
	}
	if len(list) == 0 || list[len(list)-1].Op != nil {
		t.Fatalf("%d ops, and the last one is no result", len(list))
	}
	return list
}

// command is the shell command of the one exec among ops.
func command(t *testing.T, ops []*pb.Op) string {
	t.Helper()
	i := slices.IndexFunc(ops, func(op *pb.Op) bool { return op.GetExec() != nil })
	if i < 0 {
		t.Fatal("no exec")
	}
	return strings.Join(ops[i].GetExec().Meta.Args, " ")
}

// TestPlanLLB: --format llb is the marshalled definition, which
// `buildctl debug dump-llb` reads.
func TestPlanLLB(t *testing.T) {
	for _, args := range [][]string{{"-f", "Dockerfile"}, {"app.cue"}} {
		list := ops(t, planned(t, append(args, "--format", "llb")...))
		if got := command(t, list); !strings.HasPrefix(got, "/bin/sh -c make") {
			t.Errorf("%v: the command is %q", args, got)
		}
		if !slices.ContainsFunc(list, func(op *pb.Op) bool {
			return op.GetSource().GetIdentifier() == "docker-image://docker.io/library/debian:12"
		}) {
			t.Errorf("%v: no base image", args)
		}
	}
	list := ops(t, planned(t, "-f", "Dockerfile", "--target", "build", "--build-arg", "WHO=me", "--platform", "linux/arm64", "--format", "llb"))
	i := slices.IndexFunc(list, func(op *pb.Op) bool { return op.GetExec() != nil })
	if i < 0 || !slices.Contains(list[i].GetExec().Meta.Env, "WHO=me") || list[i].Platform.Architecture != "arm64" || len(list) != 3 {
		t.Errorf("target, argument or platform is missing: %v", list)
	}
}

// TestPlanReproducible: a Dockerfile with a context has the same plan each time,
// and its CUE has the same ops.
func TestPlanReproducible(t *testing.T) {
	first := planned(t, "-f", "Dockerfile", "--format", "llb")
	if !bytes.Equal(first, planned(t, "-f", "Dockerfile", "--format", "llb")) {
		t.Error("the second plan is another")
	}
	list, native := ops(t, first), ops(t, planned(t, "app.cue", "--format", "llb"))
	if len(list) != len(native) || list[len(list)-1].Inputs[0].Digest != native[len(native)-1].Inputs[0].Digest {
		t.Errorf("the Dockerfile has %d ops\n%v\nand the CUE %d\n%v", len(list), list, len(native), native)
	}
}

// TestPlanJSON: --format json is one object with the definition and the config
// of each target and platform.
func TestPlanJSON(t *testing.T) {
	data := planned(t, "-f", "Dockerfile", "--target", "build", "--target", "", "--platform", "linux/amd64,linux/arm/v7", "--format", "json", ".")
	var plan struct {
		Targets []struct {
			Name, Platform string
			Definition     []byte // base64
			Config         ocispec.Image
		}
	}
	if err := json.Unmarshal(data, &plan); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, target := range plan.Targets {
		got = append(got, target.Name+" "+target.Platform)
		ops(t, target.Definition)
		if target.Config.Config.Env[0] != "PATH=/debian" || target.Config.Architecture != strings.Split(target.Platform, "/")[1] {
			t.Errorf("%s for %s: config %+v", target.Name, target.Platform, target.Config)
		}
	}
	want := []string{"build linux/amd64", "build linux/arm/v7", " linux/amd64", " linux/arm/v7"}
	if !slices.Equal(got, want) {
		t.Errorf("targets %q, want %q", got, want)
	}
	if cmd := plan.Targets[2].Config.Config.Cmd; !slices.Equal(cmd, []string{"/out"}) {
		t.Errorf("command %q", cmd)
	}
}
