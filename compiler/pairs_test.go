package compiler

import (
	"fmt"
	"strings"
	"testing"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"

	"github.com/strata-build/strata/schema"
)

// pair is an image and the Dockerfile that says the same.
type pair struct {
	name       string
	cue        string // the fields of the image
	dockerfile string
	opts       buildOptions
}

// TestEqualToDockerfile is the law of this package: what a Spec compiles to
// is what BuildKit's front end makes of the equivalent Dockerfile, op by op
// and field by field of the config.
func TestEqualToDockerfile(t *testing.T) {
	pairs := allPairs()
	var text strings.Builder
	text.WriteString("package app\n")
	names := map[string]bool{}
	for i, p := range pairs {
		if names[p.name] {
			t.Fatalf("two pairs are called %q", p.name)
		}
		names[p.name] = true
		fmt.Fprintf(&text, "images: p%d: {\n%s\n}\n", i, p.cue)
	}
	spec := loadCUE(t, t.TempDir(), text.String())
	images := map[string]*schema.Image{}
	for _, img := range spec.Images {
		images[img.Name] = img
	}
	for i, p := range pairs {
		t.Run(p.name, func(t *testing.T) {
			got := compileOne(t, images[fmt.Sprintf("p%d", i)], p.opts.options(t))
			want := p.opts.dockerfile(t, p.dockerfile)
			if diff, ok := Equal(got, want); !ok {
				t.Errorf("compiled != Dockerfile: %s", diff)
			}
			if diff := diffConfigs(orNull(got.BaseConfig), orNull(want.BaseConfig)); diff != "" {
				t.Errorf("base config: compiled != Dockerfile: %s", diff)
			}
		})
	}
	if len(pairs) < 120 {
		t.Errorf("only %d pairs", len(pairs))
	}
}

func orNull(dt []byte) []byte {
	if len(dt) == 0 {
		return []byte("null")
	}
	return dt
}

func allPairs() []pair {
	var all []pair
	for _, group := range [][]pair{basePairs(), configPairs(), argPairs(), runPairs(), mountPairs(), copyPairs(), addPairs(), filePairs(), stagePairs(), onbuildPairs(), optionPairs()} {
		all = append(all, group...)
	}
	return all
}

func basePairs() []pair {
	return []pair{
		{name: "registry image", cue: `from: "alpine"`, dockerfile: "FROM alpine"},
		{name: "tag", cue: `from: "golang:1.26"`, dockerfile: "FROM golang:1.26"},
		{name: "digest", cue: `from: "alpine@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"`,
			dockerfile: "FROM alpine@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
		{name: "resolved to another reference", cue: `from: "pinned:v1"`, dockerfile: "FROM pinned:v1"},
		{name: "scratch", cue: `from: "scratch", entrypoint: ["/x"]`, dockerfile: "FROM scratch\nENTRYPOINT [\"/x\"]"},
		{name: "no from is scratch", cue: `cmd: ["/x"]`, dockerfile: "FROM scratch\nCMD [\"/x\"]"},
		{name: "scratch with a step", cue: `steps: [{copy: "a", to: "/"}]`, dockerfile: "FROM scratch\nCOPY a /"},
		{name: "image without layers", cue: `from: "nothing", steps: ["true"]`, dockerfile: "FROM nothing\nRUN true"},
		{name: "schema 1 image", cue: `from: "schema1", steps: ["true"]`, dockerfile: "FROM schema1\nRUN true"},
		{name: "image without PATH", cue: `from: "nopath", steps: ["true"]`, dockerfile: "FROM nopath\nRUN true"},
		{name: "base with user, shell and workdir", cue: `from: "nginx", steps: ["true"], workdir: "www"`,
			dockerfile: "FROM nginx\nWORKDIR www\nRUN true"},
		{name: "platform asked for", cue: `from: "golang", steps: ["go build"]`, dockerfile: "FROM golang\nRUN go build",
			opts: buildOptions{platform: "linux/arm64"}},
		{name: "platform with variant", cue: `from: "golang", steps: ["go build"]`, dockerfile: "FROM golang\nRUN go build",
			opts: buildOptions{platform: "linux/arm/v7"}},
		{name: "scratch for another platform", cue: `steps: [{copy: "a", to: "/"}]`, dockerfile: "FROM scratch\nCOPY a /",
			opts: buildOptions{platform: "linux/riscv64"}},
		{name: "stage on the build platform", cue: `
			from: "alpine"
			stages: build: {from: "golang", platform: "build", steps: ["go build"]}
			steps: [{copy: "/x", from: stages.build, to: "/"}]`,
			dockerfile: "FROM --platform=$BUILDPLATFORM golang AS build\nRUN go build\nFROM alpine\nCOPY --from=build /x /",
			opts:       buildOptions{platform: "linux/arm64"}},
		{name: "platform by argument", cue: `from: "golang", platform: "$BUILDPLATFORM", steps: ["go build"]`,
			dockerfile: "FROM --platform=$BUILDPLATFORM golang\nRUN go build", opts: buildOptions{platform: "linux/arm64"}},
		{name: "constant platform", cue: `from: "golang", platform: "linux/s390x", steps: ["go build"]`,
			dockerfile: "FROM --platform=linux/s390x golang\nRUN go build"},
		{name: "target platform by name", cue: `from: "golang", platform: "target", steps: ["go build"]`,
			dockerfile: "FROM --platform=$TARGETPLATFORM golang\nRUN go build", opts: buildOptions{platform: "linux/arm64"}},
		{name: "platforms by build arguments", cue: `
			stages: t: {from: "golang", platform: "target", steps: ["t"]}
			from: "golang", platform: "build", steps: [{copy: "/x", from: stages.t, to: "/"}]`,
			dockerfile: "FROM --platform=$TARGETPLATFORM golang AS t\nRUN t\nFROM --platform=$BUILDPLATFORM golang\nCOPY --from=t /x /",
			opts:       buildOptions{platform: "linux/arm64", args: map[string]string{"BUILDPLATFORM": "linux/s390x", "TARGETPLATFORM": "linux/riscv64"}}},
		{name: "platform argument in from", cue: `from: "golang:$TARGETARCH"`,
			dockerfile: "FROM golang:$TARGETARCH", opts: buildOptions{platform: "linux/arm64"}},
		{name: "argument in from", cue: `from: "golang:${GO}", args: GO: "1.25"`,
			dockerfile: "ARG GO=1.25\nFROM golang:${GO}\nARG GO=1.25", opts: buildOptions{args: map[string]string{"GO": "1.26"}}},
		{name: "pull", cue: `from: "alpine", steps: ["true"]`, dockerfile: "FROM alpine\nRUN true",
			opts: buildOptions{mode: llb.ResolveModeForcePull}},
		{name: "windows", cue: `from: "alpine", workdir: "app", steps: ["dir", {copy: "a\\b", to: "c:\\x\\"}]`,
			dockerfile: "FROM alpine\nWORKDIR app\nRUN dir\nCOPY a\\\\b c:\\\\x\\\\", opts: buildOptions{platform: "windows/amd64"}},
	}
}

func configPairs() []pair {
	return []pair{
		{name: "env", cue: `from: "alpine", env: {A: "1", B: "x y", C: "it's"}, steps: ["echo $A"]`,
			dockerfile: "FROM alpine\nENV A=1 B=\"x y\" C=\"it's\"\nRUN echo $A"},
		{name: "env replaces that of the base", cue: `from: "golang", env: {GOPATH: "/x", PATH: "/y"}, steps: ["true"]`,
			dockerfile: "FROM golang\nENV GOPATH=/x PATH=/y\nRUN true"},
		{name: "env is literal", cue: `from: "alpine", env: A: "$PATH"`, dockerfile: "FROM alpine\nENV A=\\$PATH"},
		{name: "workdir", cue: `from: "alpine", workdir: "/src", steps: ["pwd"]`, dockerfile: "FROM alpine\nWORKDIR /src\nRUN pwd"},
		{name: "relative workdir", cue: `from: "golang", workdir: "src/../x"`, dockerfile: "FROM golang\nWORKDIR src/../x"},
		{name: "workdir is the root", cue: `from: "golang", workdir: "/"`, dockerfile: "FROM golang\nWORKDIR /"},
		{name: "shell", cue: `from: "alpine", shell: ["/bin/bash", "-ec"], steps: ["true"], cmd: "serve"`,
			dockerfile: "FROM alpine\nSHELL [\"/bin/bash\", \"-ec\"]\nRUN true\nCMD serve"},
		{name: "all leading config", cue: `from: "alpine", workdir: "/w", shell: ["/bin/bash", "-c"], env: A: "1", args: V: "2", steps: ["true"]`,
			dockerfile: "FROM alpine\nARG V=2\nENV A=1\nSHELL [\"/bin/bash\", \"-c\"]\nWORKDIR /w\nRUN true"},
		{name: "user does not affect steps", cue: `from: "alpine", user: "app:1000", steps: ["id"], workdir: "/w"`,
			dockerfile: "FROM alpine\nWORKDIR /w\nRUN id\nUSER app:1000"},
		{name: "entrypoint resets cmd", cue: `from: "alpine", entrypoint: ["/x", "y"]`, dockerfile: "FROM alpine\nENTRYPOINT [\"/x\", \"y\"]"},
		{name: "entrypoint and cmd", cue: `from: "alpine", cmd: ["y"], entrypoint: ["/x"]`, dockerfile: "FROM alpine\nENTRYPOINT [\"/x\"]\nCMD [\"y\"]"},
		{name: "cmd set before entrypoint", cue: `from: "alpine", steps: [{set: cmd: ["y"]}], entrypoint: ["/x"]`,
			dockerfile: "FROM alpine\nCMD [\"y\"]\nENTRYPOINT [\"/x\"]"},
		{name: "entrypoint for the shell", cue: `from: "alpine", entrypoint: "run it"`, dockerfile: "FROM alpine\nENTRYPOINT run it"},
		{name: "entrypoint reset", cue: `from: "golang", entrypoint: []`, dockerfile: "FROM golang\nENTRYPOINT []"},
		{name: "cmd for the shell", cue: `from: "nginx", cmd: "run it"`, dockerfile: "FROM nginx\nCMD run it"},
		{name: "cmd reset", cue: `from: "golang", cmd: []`, dockerfile: "FROM golang\nCMD []"},
		{name: "expose", cue: `from: "nginx", expose: [8080, "53/udp", "9000-9002", "7/TCP"]`,
			dockerfile: "FROM nginx\nEXPOSE 8080 53/udp 9000-9002 7/TCP"},
		{name: "volumes", cue: `from: "nginx", volumes: ["/data", "/logs"]`, dockerfile: "FROM nginx\nVOLUME [\"/data\", \"/logs\"]"},
		{name: "labels", cue: `from: "nginx", labels: {a: "1", maintainer: "me", "x.y/z": "a b"}`,
			dockerfile: "FROM nginx\nLABEL a=1 maintainer=me x.y/z=\"a b\""},
		{name: "stop signal", cue: `from: "nginx", stopSignal: "SIGTERM"`, dockerfile: "FROM nginx\nSTOPSIGNAL SIGTERM"},
		{name: "stop signal by number", cue: `from: "nginx", stopSignal: "9"`, dockerfile: "FROM nginx\nSTOPSIGNAL 9"},
		{name: "health check", cue: `from: "alpine", healthcheck: {test: "curl x", interval: "10s", timeout: "1m", startPeriod: "5ms", startInterval: "2s", retries: 4}`,
			dockerfile: "FROM alpine\nHEALTHCHECK --interval=10s --timeout=1m --start-period=5ms --start-interval=2s --retries=4 CMD curl x"},
		{name: "health check by arguments", cue: `from: "alpine", healthcheck: test: ["curl", "x"]`,
			dockerfile: "FROM alpine\nHEALTHCHECK CMD [\"curl\", \"x\"]"},
		{name: "health check off", cue: `from: "nginx", healthcheck: test: []`, dockerfile: "FROM nginx\nHEALTHCHECK NONE"},
		{name: "onbuild", cue: `from: "alpine", onbuild: ["COPY . /app", "RUN make"]`,
			dockerfile: "FROM alpine\nONBUILD COPY . /app\nONBUILD RUN make"},
		{name: "author", cue: `from: "alpine", author: "Me <me@example.com>"`, dockerfile: "FROM alpine\nMAINTAINER Me <me@example.com>"},
		{name: "order of the trailing config", cue: `from: "alpine", cmd: ["c"], entrypoint: ["e"], onbuild: ["RUN x"], healthcheck: test: ["h"], stopSignal: "9", labels: l: "1", volumes: ["/v"], expose: [1], user: "u", author: "a", steps: ["true"]`,
			dockerfile: "FROM alpine\nRUN true\nMAINTAINER a\nUSER u\nEXPOSE 1\nVOLUME /v\nLABEL l=1\nSTOPSIGNAL 9\nHEALTHCHECK CMD [\"h\"]\nONBUILD RUN x\nENTRYPOINT [\"e\"]\nCMD [\"c\"]"},
		{name: "annotations are no config", cue: `from: "alpine", annotations: a: "b"`, dockerfile: "FROM alpine"},
		{name: "set env", cue: `from: "alpine", steps: ["a", {set: env: {A: "1", B: "2"}}, "b"]`,
			dockerfile: "FROM alpine\nRUN a\nENV A=1 B=2\nRUN b"},
		{name: "set env expanded", cue: `from: "golang", steps: [{set: env: {A: "$GOPATH/x", B: "${NONE:-d}", C: "'$A'"}, expand: true}, {set: env: D: "$A", expand: true}, "b"]`,
			dockerfile: "FROM golang\nENV A=$GOPATH/x B=${NONE:-d} C='$A'\nENV D=$A\nRUN b"},
		{name: "set workdir", cue: `from: "alpine", steps: [{set: workdir: "a"}, "x", {set: workdir: "../b"}, "y"]`,
			dockerfile: "FROM alpine\nWORKDIR a\nRUN x\nWORKDIR ../b\nRUN y"},
		{name: "set workdir expanded", cue: `from: "golang", steps: [{set: workdir: "$GOPATH/src", expand: true}]`,
			dockerfile: "FROM golang\nWORKDIR $GOPATH/src"},
		{name: "set user", cue: `from: "alpine", steps: [{set: user: "app"}, "id", {set: workdir: "/w"}, {set: user: "1:2"}, "id"]`,
			dockerfile: "FROM alpine\nUSER app\nRUN id\nWORKDIR /w\nUSER 1:2\nRUN id"},
		{name: "set user expanded", cue: `from: "alpine", env: U: "me", steps: [{set: user: "${U}", expand: true}, "id"]`,
			dockerfile: "FROM alpine\nENV U=me\nUSER ${U}\nRUN id"},
		{name: "set shell", cue: `from: "alpine", steps: ["a", {set: shell: ["/bin/bash", "-c"]}, "b"]`,
			dockerfile: "FROM alpine\nRUN a\nSHELL [\"/bin/bash\", \"-c\"]\nRUN b"},
		{name: "set the rest", cue: `from: "golang", env: V: "1", steps: [
			{set: author: "a"},
			{set: labels: {a: "$V", b: #""\"q\"""#}, expand: true},
			{set: expose: ["$V-3", "5"], expand: true},
			{set: volumes: ["/v$V"], expand: true},
			{set: stopSignal: "SIG${X:-INT}", expand: true},
			{set: healthcheck: test: "x"},
			{set: onbuild: ["RUN a"]},
			{set: entrypoint: ["e"]},
			{set: cmd: "c"},
			"true",
		]`, dockerfile: "FROM golang\nENV V=1\nMAINTAINER a\nLABEL a=$V b=\"\\\"q\\\"\"\nEXPOSE $V-3 5\nVOLUME /v$V\nSTOPSIGNAL SIG${X:-INT}\nHEALTHCHECK CMD x\nONBUILD RUN a\nENTRYPOINT [\"e\"]\nCMD c\nRUN true"},
		{name: "set several fields at once", cue: `from: "alpine", steps: [{set: {workdir: "/w", env: A: "1", user: "u"}}, "true"]`,
			dockerfile: "FROM alpine\nENV A=1\nWORKDIR /w\nUSER u\nRUN true"},
		{name: "entrypoint set twice", cue: `from: "alpine", steps: [{set: entrypoint: ["a"]}, {set: cmd: ["b"]}, {set: entrypoint: ["c"]}]`,
			dockerfile: "FROM alpine\nENTRYPOINT [\"a\"]\nCMD [\"b\"]\nENTRYPOINT [\"c\"]"},
	}
}

func argPairs() []pair {
	given := buildOptions{args: map[string]string{"A": "given", "UNUSED": "x"}}
	return []pair{
		{name: "args", cue: `from: "alpine", args: {A: "1", B: "2"}, steps: ["echo $A $B"]`,
			dockerfile: "FROM alpine\nARG A=1\nARG B=2\nRUN echo $A $B"},
		{name: "args given", cue: `from: "alpine", args: {A: "1", B: "2"}, steps: ["echo $A"]`,
			dockerfile: "FROM alpine\nARG A=1\nARG B=2\nRUN echo $A", opts: given},
		{name: "arg without a value", cue: `from: "alpine", args: {A: null, B: null}, steps: ["echo $A"]`,
			dockerfile: "FROM alpine\nARG A\nARG B\nRUN echo $A", opts: given},
		{name: "arg step", cue: `from: "alpine", steps: ["x", {arg: {A: "1", B: null}}, "y"]`,
			dockerfile: "FROM alpine\nRUN x\nARG A=1 B\nRUN y"},
		{name: "arg step given", cue: `from: "alpine", steps: [{arg: A: null}, "y"]`, dockerfile: "FROM alpine\nARG A\nRUN y", opts: given},
		{name: "arg expanded", cue: `from: "golang", steps: [{arg: {A: "$GOPATH", B: "${A}x"}, expand: true}, "y"]`,
			dockerfile: "FROM golang\nARG A=$GOPATH B=${A}x\nRUN y"},
		{name: "arg literal", cue: `from: "golang", steps: [{arg: A: "$GOPATH"}, "y"]`, dockerfile: "FROM golang\nARG A=\\$GOPATH\nRUN y"},
		{name: "arg twice", cue: `from: "alpine", steps: [{arg: A: "1"}, "x", {arg: A: "2"}, "y"]`,
			dockerfile: "FROM alpine\nARG A=1\nRUN x\nARG A=2\nRUN y"},
		{name: "env wins over arg in the history", cue: `from: "alpine", steps: [{arg: A: "1"}, {set: env: A: "2"}, "y"]`,
			dockerfile: "FROM alpine\nARG A=1\nENV A=2\nRUN y"},
		{name: "platform arguments", cue: `from: "alpine", steps: [{arg: {TARGETPLATFORM: null, TARGETARCH: null, TARGETOS: null, TARGETVARIANT: null, BUILDPLATFORM: null, BUILDARCH: null, BUILDOS: null, BUILDVARIANT: null, TARGETSTAGE: null}}, "y"]`,
			dockerfile: "FROM alpine\nARG TARGETPLATFORM TARGETARCH TARGETOS TARGETVARIANT BUILDPLATFORM BUILDARCH BUILDOS BUILDVARIANT TARGETSTAGE\nRUN y",
			opts:       buildOptions{platform: "linux/arm/v7"}},
		{name: "platform argument given", cue: `from: "alpine", steps: [{arg: TARGETARCH: null}, "y"]`,
			dockerfile: "FROM alpine\nARG TARGETARCH\nRUN y", opts: buildOptions{args: map[string]string{"TARGETARCH": "mine"}}},
		{name: "arg expanded in copy", cue: `from: "alpine", args: D: "/d", steps: [{copy: "a$D", to: "$D/x", expand: true}]`,
			dockerfile: "FROM alpine\nARG D=/d\nCOPY a$D $D/x"},
		{name: "SBOM arguments are no variables", cue: `from: "alpine", args: BUILDKIT_SBOM_SCAN_STAGE: "true", steps: ["true"]`,
			dockerfile: "FROM alpine\nARG BUILDKIT_SBOM_SCAN_STAGE=true\nRUN true"},
		{name: "proxies", cue: `from: "alpine", steps: ["true"]`, dockerfile: "FROM alpine\nRUN true",
			opts: buildOptions{args: map[string]string{"http_proxy": "a", "HTTPS_PROXY": "b", "ftp_proxy": "c", "no_proxy": "d", "ALL_PROXY": "e"}}},
		{name: "epoch", cue: `from: "alpine", workdir: "/w", steps: ["true", {copy: "a", to: "b"}]`,
			dockerfile: "FROM alpine\nWORKDIR /w\nRUN true\nCOPY a b", opts: buildOptions{args: map[string]string{"SOURCE_DATE_EPOCH": "1700000000"}}},
		{name: "epoch declared", cue: `from: "alpine", args: SOURCE_DATE_EPOCH: null, steps: ["true"]`,
			dockerfile: "FROM alpine\nARG SOURCE_DATE_EPOCH\nRUN true", opts: buildOptions{args: map[string]string{"SOURCE_DATE_EPOCH": "1700000000"}}},
		{name: "empty epoch", cue: `from: "alpine", args: SOURCE_DATE_EPOCH: null, workdir: "/w"`,
			dockerfile: "FROM alpine\nARG SOURCE_DATE_EPOCH\nWORKDIR /w", opts: buildOptions{args: map[string]string{"SOURCE_DATE_EPOCH": ""}}},
	}
}

func runPairs() []pair {
	return []pair{
		{name: "run shell", cue: `from: "alpine", steps: ["echo hi && echo \"$HOME\""]`, dockerfile: "FROM alpine\nRUN echo hi && echo \"$HOME\""},
		{name: "run verb", cue: `from: "alpine", steps: [{run: "echo hi"}]`, dockerfile: "FROM alpine\nRUN echo hi"},
		{name: "run arguments", cue: `from: "alpine", steps: [{run: ["/bin/echo", "a b"]}]`, dockerfile: "FROM alpine\nRUN [\"/bin/echo\", \"a b\"]"},
		{name: "run lines", cue: "from: \"alpine\", steps: [\"\"\"\n\tset -e\n\techo a\n\techo b\n\n\t\"\"\"]", dockerfile: "FROM alpine\nRUN <<EOF\nset -e\necho a\necho b\nEOF\n"},
		{name: "run script", cue: "from: \"alpine\", steps: [\"#!/usr/bin/env python3\\nprint(1)\\n\"]", dockerfile: "FROM alpine\nRUN <<EOF\n#!/usr/bin/env python3\nprint(1)\nEOF\n"},
		{name: "run script by stdin", cue: "from: \"alpine\", steps: [{run: \"<<PY\", stdin: \"#!/usr/bin/env python3\\nprint(1)\"}]", dockerfile: "FROM alpine\nRUN <<PY\n#!/usr/bin/env python3\nprint(1)\nPY\n"},
		{name: "run script with tabs cut", cue: "from: \"alpine\", steps: [{run: \"<<-X\", stdin: \"\\techo 1\\n\"}]", dockerfile: "FROM alpine\nRUN <<-X\n\techo 1\nX\n"},
		{name: "run shell with a heredoc", cue: "from: \"alpine\", steps: [\"cat <<EOF > /x\\nhello\\nEOF\"]", dockerfile: "FROM alpine\nRUN cat <<EOF > /x\nhello\nEOF\n"},
		{name: "run stdin", cue: "from: \"alpine\", steps: [{run: \"cat > /x\", stdin: \"a $b\\n\"}]", dockerfile: "FROM alpine\nRUN cat > /x <<'EOF'\na $b\nEOF\n"},
		{name: "run stdin without end of line", cue: "from: \"alpine\", steps: [{run: \"cat > /x\", stdin: \"a\"}]", dockerfile: "FROM alpine\nRUN cat > /x <<'EOF'\na\nEOF\n"},
		{name: "run stdin with the delimiter", cue: "from: \"alpine\", steps: [{run: \"cat > /x\", stdin: \"EOF\\nEOF1\\n\"}]", dockerfile: "FROM alpine\nRUN cat > /x <<'EOF2'\nEOF\nEOF1\nEOF2\n"},
		{name: "run empty stdin", cue: "from: \"alpine\", steps: [{run: \"cat\", stdin: \"\"}]", dockerfile: "FROM alpine\nRUN cat <<'EOF'\nEOF\n"},
		{name: "network none", cue: `from: "alpine", steps: [{run: "x", network: "none"}]`, dockerfile: "FROM alpine\nRUN --network=none x"},
		{name: "network host", cue: `from: "alpine", steps: [{run: "x", network: "host"}, "y"]`, dockerfile: "FROM alpine\nRUN --network=host x\nRUN y"},
		{name: "network default", cue: `from: "alpine", steps: [{run: "x", network: "default"}]`, dockerfile: "FROM alpine\nRUN --network=default x",
			opts: buildOptions{network: pb.NetMode_NONE}},
		{name: "insecure", cue: `from: "alpine", steps: [{run: "x", insecure: true}, "y"]`, dockerfile: "FROM alpine\nRUN --security=insecure x\nRUN y"},
		{name: "name is no key", cue: `from: "alpine", steps: [{run: "x", name: "does x"}]`, dockerfile: "FROM alpine\nRUN x"},
		{name: "expand leaves the command", cue: `from: "golang", steps: [{run: "echo $GOPATH", expand: true}]`, dockerfile: "FROM golang\nRUN echo $GOPATH"},
	}
}

func mountPairs() []pair {
	img := func(mount string) string { return `from: "golang", steps: [{run: "x", mounts: ` + mount + `}]` }
	df := func(flags string) string { return "FROM golang\nRUN " + flags + " x" }
	return []pair{
		{name: "bind context", cue: img(`"/src": {}`), dockerfile: df("--mount=type=bind,target=/src")},
		{name: "bind source", cue: img(`"/src": source: "sub/dir"`), dockerfile: df("--mount=type=bind,target=/src,source=sub/dir")},
		{name: "bind writable", cue: img(`"/src": rw: true`), dockerfile: df("--mount=target=/src,rw")},
		{name: "bind relative", cue: img(`"src": {}`), dockerfile: df("--mount=target=src")},
		{name: "bind image", cue: img(`"/bb": {from: "busybox:1", source: "/bin"}`), dockerfile: df("--mount=target=/bb,from=busybox:1,source=/bin")},
		{name: "bind scratch", cue: img(`"/bb": {from: "scratch", rw: true}`), dockerfile: df("--mount=target=/bb,from=scratch,rw")},
		{name: "bind stage", cue: `from: "golang", stages: s: {from: "alpine", steps: ["y"]}, steps: [{run: "x", mounts: "/s": {from: stages.s, source: "/out"}}]`,
			dockerfile: "FROM alpine AS s\nRUN y\nFROM golang\nRUN --mount=from=s,source=/out,target=/s x"},
		{name: "bind stage writable", cue: `from: "golang", stages: s: {from: "alpine", steps: ["y"]}, steps: [{run: "x", mounts: "/s": {from: stages.s, rw: true}}]`,
			dockerfile: "FROM alpine AS s\nRUN y\nFROM golang\nRUN --mount=from=s,rw,target=/s x"},
		{name: "cache list", cue: `from: "golang", steps: [{run: "x", cache: ["/go/pkg/mod", "/root/.cache/"]}]`,
			dockerfile: df("--mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/")},
		{name: "cache relative", cue: `from: "golang", steps: [{run: "x", cache: ["pkg"]}]`, dockerfile: df("--mount=type=cache,target=pkg")},
		{name: "cache with id", cue: img(`"/c": {type: "cache", id: "mine"}`), dockerfile: df("--mount=type=cache,target=/c,id=mine")},
		{name: "cache private", cue: img(`"/c": {type: "cache", sharing: "private"}`), dockerfile: df("--mount=type=cache,target=/c,sharing=private")},
		{name: "cache locked", cue: img(`"/c": {type: "cache", sharing: "locked"}`), dockerfile: df("--mount=type=cache,target=/c,sharing=locked")},
		{name: "cache read-only", cue: img(`"/c": {type: "cache", rw: false}`), dockerfile: df("--mount=type=cache,target=/c,ro")},
		{name: "cache owned", cue: img(`"/c": {type: "cache", uid: 5, gid: 6, mode: "0700"}`), dockerfile: df("--mount=type=cache,target=/c,uid=5,gid=6,mode=0700")},
		{name: "cache owned by a user", cue: img(`"/c": {type: "cache", uid: 5}`), dockerfile: df("--mount=type=cache,target=/c,uid=5")},
		{name: "cache from an image", cue: img(`"/c": {type: "cache", from: "busybox", source: "/etc"}`), dockerfile: df("--mount=type=cache,target=/c,from=busybox,source=/etc")},
		{name: "cache from an image, owned", cue: img(`"/c": {type: "cache", from: "busybox", mode: "0777"}`), dockerfile: df("--mount=type=cache,target=/c,from=busybox,mode=0777")},
		{name: "cache namespace", cue: `from: "golang", steps: [{run: "x", cache: ["/c"]}]`, dockerfile: df("--mount=type=cache,target=/c"),
			opts: buildOptions{args: map[string]string{"BUILDKIT_CACHE_MOUNT_NS": "ns"}}},
		{name: "tmpfs list", cue: `from: "golang", steps: [{run: "x", tmpfs: ["/a", "/b"]}]`, dockerfile: df("--mount=type=tmpfs,target=/a --mount=type=tmpfs,target=/b")},
		{name: "tmpfs size", cue: img(`"/a": {type: "tmpfs", size: 1048576}`), dockerfile: df("--mount=type=tmpfs,target=/a,size=1m")},
		{name: "tmpfs counts as reading the context", cue: `from: "golang", steps: [{copy: "a", to: "/"}, {run: "x", tmpfs: ["/a"]}]`,
			dockerfile: "FROM golang\nCOPY a /\nRUN --mount=type=tmpfs,target=/a x"},
		{name: "secret file", cue: `from: "golang", steps: [{run: "x", secrets: "/run/secrets/key": "key"}]`, dockerfile: df("--mount=type=secret,id=key")},
		{name: "secret at a path", cue: `from: "golang", steps: [{run: "x", secrets: "/root/.npmrc": "npm"}]`, dockerfile: df("--mount=type=secret,id=npm,target=/root/.npmrc")},
		{name: "secret variable", cue: `from: "golang", steps: [{run: "x", secrets: TOKEN: "npm"}]`, dockerfile: df("--mount=type=secret,id=npm,env=TOKEN")},
		{name: "secret required", cue: `from: "golang", steps: [{run: "x", secrets: TOKEN: {id: "npm", required: true}}]`, dockerfile: df("--mount=type=secret,id=npm,env=TOKEN,required")},
		{name: "secrets in order", cue: `from: "golang", steps: [{run: "x", secrets: {B: "b", "/a": "a", A: "a2"}}]`,
			dockerfile: df("--mount=type=secret,id=b,env=B --mount=type=secret,id=a,target=/a --mount=type=secret,id=a2,env=A")},
		{name: "secret mount", cue: img(`"/s": {type: "secret", id: "k", required: true, uid: 1, gid: 2, mode: "0440"}`),
			dockerfile: df("--mount=type=secret,id=k,target=/s,required=true,uid=1,gid=2,mode=0440")},
		{name: "secret mount named by its path", cue: img(`"/etc/key": type: "secret"`), dockerfile: df("--mount=type=secret,target=/etc/key")},
		{name: "secret mount of a user", cue: img(`"/s": {type: "secret", uid: 7}`), dockerfile: df("--mount=type=secret,target=/s,uid=7")},
		{name: "ssh", cue: `from: "golang", steps: [{run: "x", ssh: true}]`, dockerfile: df("--mount=type=ssh")},
		{name: "ssh by id", cue: `from: "golang", steps: [{run: "x", ssh: "deploy"}]`, dockerfile: df("--mount=type=ssh,id=deploy")},
		{name: "ssh by several ids", cue: `from: "golang", steps: [{run: "x", ssh: ["default", "deploy"]}]`, dockerfile: df("--mount=type=ssh --mount=type=ssh,id=deploy")},
		{name: "secret as both a file and a variable", cue: img(`"/s": {type: "secret", id: "i", env: "S"}`), dockerfile: df("--mount=type=secret,id=i,env=S,target=/s")},
		{name: "devices of a step", cue: `from: "golang", steps: [{run: "x", devices: ["v.com/gpu=all", {name: "v.com/gpu=0", required: true}]}]`, dockerfile: df("--device=v.com/gpu=all --device=v.com/gpu=0,required")},
		{name: "ssh mount", cue: img(`"/agent": {type: "ssh", id: "d", required: true, uid: 3, mode: "0666"}`), dockerfile: df("--mount=type=ssh,id=d,target=/agent,required,uid=3,mode=0666")},
		{name: "all mounts", cue: `from: "golang", steps: [{run: "x", mounts: {"/z": {}, "/b": {from: "busybox"}}, cache: ["/c"], tmpfs: ["/a"], secrets: S: "s", ssh: true}]`,
			dockerfile: df("--mount=target=/z --mount=target=/b,from=busybox --mount=type=cache,target=/c --mount=type=tmpfs,target=/a --mount=type=secret,id=s,env=S --mount=type=ssh")},
		{name: "mount expanded", cue: `from: "golang", steps: [{run: "x", mounts: "$GOPATH/src": source: "a$GOTOOLCHAIN", cache: ["$GOPATH/pkg"], tmpfs: ["/t$GOPATH"], secrets: "/s/$GOTOOLCHAIN": "id", expand: true}]`,
			dockerfile: df("--mount=target=$GOPATH/src,source=a$GOTOOLCHAIN --mount=type=cache,target=$GOPATH/pkg --mount=type=tmpfs,target=/t$GOPATH --mount=type=secret,target=/s/$GOTOOLCHAIN,id=id")},
	}
}

func copyPairs() []pair {
	return []pair{
		{name: "copy", cue: `from: "alpine", steps: [{copy: "a.txt", to: "/b.txt"}]`, dockerfile: "FROM alpine\nCOPY a.txt /b.txt"},
		{name: "copy several", cue: `from: "golang", steps: [{copy: ["go.mod", "go.sum", "dir/"], to: "./"}]`, dockerfile: "FROM golang\nCOPY go.mod go.sum dir/ ./"},
		{name: "copy all", cue: `from: "golang", steps: [{copy: ".", to: "."}]`, dockerfile: "FROM golang\nCOPY . ."},
		{name: "copy all and more", cue: `from: "golang", steps: [{copy: "a", to: "x"}, {copy: ".", to: "/y/"}]`, dockerfile: "FROM golang\nCOPY a x\nCOPY . /y/"},
		{name: "copy pairs", cue: `from: "alpine", steps: [{copy: {"a": "/x/", "b*": "/y/"}, chown: "1"}]`, dockerfile: "FROM alpine\nCOPY --chown=1 a /x/\nCOPY --chown=1 b* /y/"},
		{name: "copy wildcard", cue: `from: "alpine", steps: [{copy: "package*.json", to: "./"}]`, dockerfile: "FROM alpine\nCOPY package*.json ./"},
		{name: "copy to the root", cue: `from: "alpine", workdir: "/w", steps: [{copy: "../a", to: "/"}, {copy: "./b", to: "../c/."}]`,
			dockerfile: "FROM alpine\nWORKDIR /w\nCOPY ../a /\nCOPY ./b ../c/."},
		{name: "chown by number", cue: `from: "alpine", steps: [{copy: "a", to: "/", chown: "1000:1001"}]`, dockerfile: "FROM alpine\nCOPY --chown=1000:1001 a /"},
		{name: "chown by name", cue: `from: "alpine", steps: [{copy: "a", to: "/", chown: "app:root"}]`, dockerfile: "FROM alpine\nCOPY --chown=app:root a /"},
		{name: "chmod octal", cue: `from: "alpine", steps: [{copy: "a", to: "/", chmod: "4755"}]`, dockerfile: "FROM alpine\nCOPY --chmod=4755 a /"},
		{name: "chmod symbolic", cue: `from: "alpine", steps: [{copy: "a", to: "/", chmod: "u=rwX,go=rX"}]`, dockerfile: "FROM alpine\nCOPY --chmod=u=rwX,go=rX a /"},
		{name: "exclude", cue: `from: "alpine", steps: [{copy: ".", to: "/", exclude: ["*.bak", "docs/**"]}]`, dockerfile: "FROM alpine\nCOPY --exclude=*.bak --exclude=docs/** . /"},
		{name: "parents", cue: `from: "alpine", steps: [{copy: ["a/b/c.txt", "d/*/e"], to: "/x/", parents: true}]`, dockerfile: "FROM alpine\nCOPY --parents a/b/c.txt d/*/e /x/"},
		{name: "parents from a point", cue: `from: "alpine", steps: [{copy: "a/./b/c", to: "/x/", parents: true}]`, dockerfile: "FROM alpine\nCOPY --parents a/./b/c /x/"},
		{name: "link", cue: `from: "alpine", steps: ["x", {copy: "a", to: "/b/", link: true}, "y"]`, dockerfile: "FROM alpine\nRUN x\nCOPY --link a /b/\nRUN y"},
		{name: "link on scratch", cue: `steps: [{copy: "a", to: "/b/", link: true}, {copy: "c", to: "/", link: true}]`, dockerfile: "FROM scratch\nCOPY --link a /b/\nCOPY --link c /"},
		{name: "link with chown", cue: `from: "alpine", steps: [{copy: "a", to: "/b/", link: true, chown: "5"}]`, dockerfile: "FROM alpine\nCOPY --link --chown=5 a /b/"},
		{name: "link with chmod is no link", cue: `from: "alpine", steps: [{copy: "a", to: "/b/", link: true, chmod: "755"}]`, dockerfile: "FROM alpine\nCOPY --link --chmod=755 a /b/"},
		{name: "link relative", cue: `from: "golang", steps: [{copy: "a", to: "b/", link: true}]`, dockerfile: "FROM golang\nCOPY --link a b/"},
		{name: "copy from an image", cue: `from: "alpine", steps: [{copy: "/bin/sh", from: "busybox:1", to: "/sh"}]`, dockerfile: "FROM alpine\nCOPY --from=busybox:1 /bin/sh /sh"},
		{name: "copy from an image without layers", cue: `from: "alpine", steps: [{copy: "/x", from: "nothing", to: "/sh"}]`, dockerfile: "FROM alpine\nCOPY --from=nothing /x /sh"},
		{name: "copy from scratch", cue: `from: "alpine", steps: [{copy: "/x", from: "scratch", to: "/sh"}]`, dockerfile: "FROM alpine\nCOPY --from=scratch /x /sh"},
		{name: "copy from a stage", cue: `from: "alpine", stages: b: {from: "golang", steps: ["go build"]}, steps: [{copy: ["/go/x", "rel"], from: stages.b, to: "/bin/"}]`,
			dockerfile: "FROM golang AS b\nRUN go build\nFROM alpine\nCOPY --from=b /go/x rel /bin/"},
		{name: "copy expanded", cue: `from: "golang", env: {U: "me", M: "700"}, steps: [{copy: ["$GOTOOLCHAIN/a", "'b c'"], to: "${GOPATH}/", chown: "$U", chmod: "$M", expand: true}]`,
			dockerfile: "FROM golang\nENV U=me M=700\nCOPY --chown=$U --chmod=$M [\"$GOTOOLCHAIN/a\", \"'b c'\", \"${GOPATH}/\"]"},
		{name: "copy literal", cue: `from: "golang", steps: [{copy: "$x", to: "$y/"}]`, dockerfile: "FROM golang\nCOPY \\$x \\$y/"},
		{name: "copy in another platform", cue: `from: "alpine", steps: [{copy: "/bin/sh", from: "busybox:1", to: "/sh"}]`,
			dockerfile: "FROM alpine\nCOPY --from=busybox:1 /bin/sh /sh", opts: buildOptions{platform: "linux/ppc64le"}},
	}
}

func addPairs() []pair {
	const sum = "sha256:24454f830cdb571e2c4ad15481119c43b3cafd48dd869a9b2945d1036d1dc68d"
	const commit = "0123456789012345678901234567890123456789"
	return []pair{
		{name: "add file", cue: `from: "alpine", steps: [{add: "a.tar.gz", to: "/x/"}]`, dockerfile: "FROM alpine\nADD a.tar.gz /x/"},
		{name: "add without unpacking", cue: `from: "alpine", steps: [{add: "a.tar.gz", to: "/x/", unpack: false}]`, dockerfile: "FROM alpine\nADD --unpack=false a.tar.gz /x/"},
		{name: "add URL", cue: `from: "alpine", steps: [{add: "https://example.com/dir/a.tgz?x=1", to: "/x/"}]`, dockerfile: "FROM alpine\nADD https://example.com/dir/a.tgz?x=1 /x/"},
		{name: "add URL without a name", cue: `from: "alpine", steps: [{add: "https://example.com/", to: "/x/y"}]`, dockerfile: "FROM alpine\nADD https://example.com/ /x/y"},
		{name: "add URL and unpack", cue: `from: "alpine", steps: [{add: "https://example.com/a.tgz", to: "/x/", unpack: true, chown: "1:1", chmod: "600"}]`, dockerfile: "FROM alpine\nADD --unpack=true --chown=1:1 --chmod=600 https://example.com/a.tgz /x/"},
		{name: "add URL with checksum", cue: `from: "alpine", steps: [{add: "https://example.com/a.tgz", to: "/x/", checksum: "` + sum + `"}]`, dockerfile: "FROM alpine\nADD --checksum=" + sum + " https://example.com/a.tgz /x/"},
		{name: "add repository", cue: `from: "alpine", steps: [{add: "https://example.com/owner/repo.git#v1:sub", to: "/x/"}]`, dockerfile: "FROM alpine\nADD https://example.com/owner/repo.git#v1:sub /x/"},
		{name: "add repository with its history", cue: `from: "alpine", steps: [{add: "https://example.com/owner/repo.git", to: "/x/", keepGitDir: true, checksum: "` + commit + `"}]`,
			dockerfile: "FROM alpine\nADD --keep-git-dir=true --checksum=" + commit + " https://example.com/owner/repo.git /x/"},
		{name: "add repository by query", cue: `from: "alpine", steps: [{add: "https://example.com/owner/repo.git?branch=main&subdir=a&submodules=false", to: "/x/"}]`,
			dockerfile: "FROM alpine\nADD https://example.com/owner/repo.git?branch=main&subdir=a&submodules=false /x/"},
		{name: "add repository over git", cue: `from: "alpine", steps: [{add: "git://example.com/owner/repo", to: "/x/"}]`, dockerfile: "FROM alpine\nADD git://example.com/owner/repo /x/"},
		{name: "git advice", cue: `from: "alpine", steps: [{add: "git://example.com/owner/repo", to: "/x/"}]`, dockerfile: "FROM alpine\nADD git://example.com/owner/repo /x/",
			opts: buildOptions{args: map[string]string{"BUILDKIT_GIT_ADVICE": "1"}}},
		{name: "add several", cue: `from: "alpine", steps: [{add: ["a", "https://example.com/b", "https://example.com/c.git"], to: "/x/"}]`, dockerfile: "FROM alpine\nADD a https://example.com/b https://example.com/c.git /x/"},
		{name: "add link", cue: `from: "alpine", steps: [{add: "https://example.com/b", to: "/x/", link: true}]`, dockerfile: "FROM alpine\nADD --link https://example.com/b /x/"},
		{name: "add exclude", cue: `from: "alpine", steps: [{add: "a", to: "/x/", exclude: ["*.o"]}]`, dockerfile: "FROM alpine\nADD --exclude=*.o a /x/"},
		{name: "add expanded", cue: `from: "alpine", args: {V: "1.2", S: "` + sum + `"}, steps: [{add: "https://example.com/$V/a.tgz", to: "/x/", checksum: "$S", expand: true}]`,
			dockerfile: "FROM alpine\nARG V=1.2\nARG S=" + sum + "\nADD --checksum=$S https://example.com/$V/a.tgz /x/"},
		{name: "add inline files", cue: `from: "golang", steps: [{add: ["a"], files: {"b.txt": "b $GOPATH\n"}, to: "/x/", chmod: "600", expand: true}]`,
			dockerfile: "FROM golang\nADD --chmod=600 a <<b.txt /x/\nb $GOPATH\nb.txt\n"},
		{name: "add only inline files", cue: `from: "alpine", steps: [{add: [], files: {EOF: "x\n"}, to: "/x"}]`, dockerfile: "FROM alpine\nADD <<EOF /x\nx\nEOF\n"},
		{name: "copy with inline files", cue: `from: "alpine", steps: [{copy: "a", files: {b: "1\n", c: "2\n"}, to: "/x/", link: true}]`, dockerfile: "FROM alpine\nCOPY --link a <<b <<c /x/\n1\nb\n2\nc\n"},
		{name: "add URL reads no context", cue: `from: "alpine", steps: [{add: "https://example.com/b", to: "/"}, {copy: "a", to: "/"}]`, dockerfile: "FROM alpine\nADD https://example.com/b /\nCOPY a /"},
	}
}

func filePairs() []pair {
	return []pair{
		{name: "file", cue: `from: "alpine", steps: [{file: "/etc/motd", content: "hello\n$x\n"}]`, dockerfile: "FROM alpine\nCOPY <<\"EOF\" /etc/motd\nhello\n$x\nEOF\n"},
		{name: "file empty", cue: `from: "alpine", steps: [{file: "/etc/motd", content: ""}]`, dockerfile: "FROM alpine\nCOPY <<EOF /etc/motd\nEOF\n"},
		{name: "file relative with mode", cue: `from: "golang", steps: [{file: "x.sh", content: "a\n", chmod: "0755", chown: "me"}]`, dockerfile: "FROM golang\nCOPY --chown=me --chmod=0755 <<EOF x.sh\na\nEOF\n"},
		{name: "files", cue: `from: "alpine", steps: [{file: {"/a": "1\n", "/b/c": "2\n"}}]`, dockerfile: "FROM alpine\nCOPY <<EOF /a\n1\nEOF\nCOPY <<EOF /b/c\n2\nEOF\n"},
		{name: "file linked", cue: `from: "alpine", steps: [{file: "/a", content: "1\n", link: true}]`, dockerfile: "FROM alpine\nCOPY --link <<EOF /a\n1\nEOF\n"},
		{name: "file expanded", cue: `from: "golang", steps: [{file: "$GOPATH/x", content: "path is \"$GOPATH\" 'q'\n", expand: true}]`, dockerfile: "FROM golang\nCOPY <<EOF $GOPATH/x\npath is \"$GOPATH\" 'q'\nEOF\n"},
	}
}

func stagePairs() []pair {
	return []pair{
		{name: "from a stage", cue: `stages: b: {from: "golang", args: A: "1", env: E: "2", workdir: "/s", steps: ["x"]}, from: stages.b, steps: ["y"]`,
			dockerfile: "FROM golang AS b\nARG A=1\nENV E=2\nWORKDIR /s\nRUN x\nFROM b\nRUN y"},
		{name: "chain of stages", cue: `
			stages: a: {from: "alpine", steps: [{set: user: "u"}, "1"], entrypoint: ["e"]}
			stages: b: {from: stages.a, steps: ["2"], cmd: ["c"]}
			from: stages.b, entrypoint: ["f"]`,
			dockerfile: "FROM alpine AS a\nUSER u\nRUN 1\nENTRYPOINT [\"e\"]\nFROM a AS b\nRUN 2\nCMD [\"c\"]\nFROM b\nENTRYPOINT [\"f\"]"},
		{name: "stage from scratch", cue: `stages: s: {steps: [{copy: "a", to: "/"}]}, from: "alpine", steps: [{copy: "/a", from: stages.s, to: "/"}]`,
			dockerfile: "FROM scratch AS s\nCOPY a /\nFROM alpine\nCOPY --from=s /a /"},
		{name: "paths of all stages", cue: `
			stages: a: {from: "alpine", steps: [{copy: "one", to: "/"}]}
			stages: b: {from: "alpine", steps: [{run: "x", mounts: "/m": source: "two"}]}
			from: "alpine"
			steps: [{copy: "/1", from: stages.a, to: "/"}, {copy: "/2", from: stages.b, to: "/"}, {copy: "three", to: "/"}]`,
			dockerfile: "FROM alpine AS a\nCOPY one /\nFROM alpine AS b\nRUN --mount=target=/m,source=two x\nFROM alpine\nCOPY --from=a /1 /\nCOPY --from=b /2 /\nCOPY three /"},
		{name: "switch", cue: `
			stages: {intel: {from: "alpine", steps: ["i"]}, arm: {from: "busybox", steps: ["a"]}}
			from: {switch: "$TARGETARCH", cases: {amd64: stages.intel, arm64: stages.arm}}
			steps: ["x"]`,
			dockerfile: "FROM alpine AS base-amd64\nRUN i\nFROM busybox AS base-arm64\nRUN a\nFROM base-$TARGETARCH\nRUN x", opts: buildOptions{platform: "linux/arm64"}},
		{name: "switch without the case", cue: `
			stages: intel: {from: "alpine", steps: ["i"]}
			args: BASE: "golang"
			from: {switch: "${BASE:-x}", cases: intel: stages.intel, default: "$BASE"}
			steps: ["x"]`,
			dockerfile: "ARG BASE=golang\nFROM alpine AS intel\nRUN i\nFROM $BASE\nARG BASE=golang\nRUN x", opts: buildOptions{args: map[string]string{"BASE": "busybox"}}},
		{name: "switch by an argument of the image", cue: `
			stages: {slim: {from: "alpine", steps: ["s"]}, full: {from: "busybox", steps: ["f"]}}
			args: KIND: "slim"
			from: {switch: "$KIND", cases: {slim: stages.slim, full: stages.full}}`,
			dockerfile: "ARG KIND=slim\nFROM alpine AS slim\nRUN s\nFROM busybox AS full\nRUN f\nFROM $KIND\nARG KIND=slim", opts: buildOptions{args: map[string]string{"KIND": "full"}}},
		{name: "unused stages do not count", cue: `stages: a: {from: "alpine", steps: [{copy: "one", to: "/"}]}, from: "alpine", steps: [{copy: "two", to: "/"}]`,
			dockerfile: "FROM alpine AS a\nCOPY one /\nFROM alpine\nCOPY two /"},
		{name: "nested stages", cue: `
			stages: outer: {from: "alpine", stages: inner: {from: "busybox", steps: ["i"]}, steps: [{copy: "/i", from: stages.inner, to: "/"}]}
			from: "alpine", steps: [{copy: "/o", from: stages.outer, to: "/"}]`,
			dockerfile: "FROM busybox AS inner\nRUN i\nFROM alpine AS outer\nCOPY --from=inner /i /\nFROM alpine\nCOPY --from=outer /o /"},
		{name: "stage from an image without layers", cue: `stages: s: {from: "nothing", steps: ["x"]}, from: stages.s, steps: ["y"]`,
			dockerfile: "FROM nothing AS s\nRUN x\nFROM s\nRUN y"},
		{name: "stage on the build platform as base", cue: `stages: s: {from: "golang", platform: "build", steps: ["x"]}, from: stages.s, steps: [{arg: TARGETARCH: null}, "y"]`,
			dockerfile: "FROM --platform=$BUILDPLATFORM golang AS s\nRUN x\nFROM s\nARG TARGETARCH\nRUN y", opts: buildOptions{platform: "linux/arm64"}},
		{name: "example of the language", cue: `
			stages: build: {
				from: "golang:1.26"
				env: CGO_ENABLED: "0"
				workdir: "/src"
				steps: [
					{copy: ["go.mod", "go.sum"], to: "./"},
					{run: "go mod download", cache: ["/go/pkg/mod"]},
					{
						run: "go build -o /out/api ./cmd/api"
						mounts: "/src": {}
						cache: ["/go/pkg/mod", "/root/.cache/go-build"]
					},
				]
			}
			steps: [{copy: {"/out/api": "/", "/etc/ssl/certs": "/etc/ssl/"}, from: stages.build}]
			entrypoint: ["/api"]
			user: "65532"
			expose: [8080]
			labels: "org.opencontainers.image.version": "dev"`,
			dockerfile: `FROM golang:1.26 AS build
ENV CGO_ENABLED=0
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
RUN --mount=type=bind,target=/src --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build go build -o /out/api ./cmd/api
FROM scratch
COPY --from=build /out/api /
COPY --from=build /etc/ssl/certs /etc/ssl/
USER 65532
EXPOSE 8080
LABEL org.opencontainers.image.version=dev
ENTRYPOINT ["/api"]
`, opts: buildOptions{platform: "linux/arm64"}},
	}
}

func onbuildPairs() []pair {
	return []pair{
		{name: "triggers", cue: `from: "onbuild", steps: ["x"]`, dockerfile: "FROM onbuild\nRUN x"},
		{name: "triggers before leading config", cue: `from: "onbuild", workdir: "/later", env: A: "1", steps: ["x"]`, dockerfile: "FROM onbuild\nENV A=1\nWORKDIR /later\nRUN x"},
		{name: "triggers with arguments", cue: `from: "onbuild"`, dockerfile: "FROM onbuild", opts: buildOptions{args: map[string]string{"MODE": "prod"}}},
		{name: "triggers of every kind", cue: `from: "onbuild2", steps: ["x"]`, dockerfile: "FROM onbuild2\nRUN x"},
		{name: "triggers that read stages", cue: `from: "onbuildfrom", stages: helper: {from: "alpine", steps: ["h"]}, steps: ["x"]`,
			dockerfile: "FROM alpine AS helper\nRUN h\nFROM onbuildfrom\nRUN x"},
		{name: "triggers of a stage", cue: `stages: s: {from: "alpine", steps: ["a"], onbuild: ["RUN t", "ENV X=1"]}, from: stages.s, steps: ["b"]`,
			dockerfile: "FROM alpine AS s\nRUN a\nONBUILD RUN t\nONBUILD ENV X=1\nFROM s\nRUN b"},
		{name: "triggers run once", cue: `stages: s: {from: "onbuild", steps: ["a"]}, from: stages.s, steps: ["b"]`,
			dockerfile: "FROM onbuild AS s\nRUN a\nFROM s\nRUN b"},
		{name: "triggers are not copied", cue: `from: "alpine", stages: s: {from: "alpine", onbuild: ["RUN t"]}, steps: [{copy: "/a", from: stages.s, to: "/"}]`,
			dockerfile: "FROM alpine AS s\nONBUILD RUN t\nFROM alpine\nCOPY --from=s /a /"},
	}
}

func optionPairs() []pair {
	const cue, df = `from: "alpine", steps: ["a", {run: "b", network: "host"}]`, "FROM alpine\nRUN a\nRUN --network=host b"
	return []pair{
		{name: "network of the build", cue: cue, dockerfile: df, opts: buildOptions{network: pb.NetMode_NONE}},
		{name: "extra hosts", cue: cue, dockerfile: df, opts: buildOptions{hosts: hosts()}},
		{name: "host name", cue: cue, dockerfile: df, opts: buildOptions{hostname: "builder"}},
		{name: "host name by argument", cue: cue, dockerfile: df, opts: buildOptions{args: map[string]string{"BUILDKIT_SANDBOX_HOSTNAME": "box"}}},
		{name: "shm size", cue: cue, dockerfile: df, opts: buildOptions{shm: 1 << 27}},
		{name: "ulimits", cue: cue, dockerfile: df, opts: buildOptions{ulimits: []*pb.Ulimit{{Name: "nofile", Soft: 10, Hard: 20}, {Name: "core", Soft: -1, Hard: -1}}}},
		{name: "cgroup parent", cue: cue, dockerfile: df, opts: buildOptions{cgroup: "/builds"}},
		{name: "devices", cue: cue, dockerfile: df, opts: buildOptions{devices: []*pb.CDIDevice{{Name: "vendor.com/gpu=0"}, {Name: "x.com/y=z", Optional: true}}}},
		{name: "labels of the build", cue: `from: "nginx"`, dockerfile: "FROM nginx", opts: buildOptions{labels: map[string]string{"maintainer": "me", "x": "y"}}},
		{name: "labels of the build on scratch", cue: `cmd: ["a"]`, dockerfile: "FROM scratch\nCMD [\"a\"]", opts: buildOptions{labels: map[string]string{"x": "y"}}},
	}
}
