package schema

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// oneImage is a typical image of a service.
const oneImage = `
images: "svc%[1]d": %[2]s{
	stages: build: {
		from: "golang:1.26"
		env: CGO_ENABLED: "0"
		workdir: "/src"
		steps: [
			{copy: ["go.mod", "go.sum"], to: "./"},
			{run: "go mod download", cache: ["/go/pkg/mod"]},
			{
				run: "go build -ldflags '-X main.version=\(version)' -o /out/svc%[1]d ./cmd/svc%[1]d"
				mounts: "/src": {}
				cache: ["/go/pkg/mod", "/root/.cache/go-build"]
			},
		]
	}
	from: _base
	steps: [{copy: {"/out/svc%[1]d": "/", "/etc/ssl/certs": "/etc/ssl/"}, from: stages.build}]
	entrypoint: ["/svc%[1]d"]
	user: "65532"
	expose: [8080]
	labels: "org.opencontainers.image.version": version
	platforms: ["linux/amd64", "linux/arm64"]
	tags: ["registry.example.com/shop/svc%[1]d:\(version)"]
}
`

// manyImages is a file of n images; prefix is what comes before the brace.
func manyImages(n int, prefix string) string {
	var b strings.Builder
	b.WriteString("package app\n\n")
	if prefix != "" {
		fmt.Fprintf(&b, "import b %q\n\n", ImportPath)
	}
	b.WriteString("version: string | *\"dev\" @tag(version)\n_base: {from: \"debian:12\", steps: [\"apt-get update\"]}\n")
	for i := range n {
		fmt.Fprintf(&b, oneImage, i, prefix)
	}
	return b.String()
}

// monorepo writes n packages that share a base and a template.
func monorepo(tb testing.TB, n int) string {
	dir := tb.TempDir()
	write := func(name, text string) {
		tb.Helper()
		if err := replaceFile(filepath.Join(dir, name), []byte(text)); err != nil {
			tb.Fatal(err)
		}
	}
	write("cue.mod/module.cue", moduleText("example.com/shop"))
	write("base/base.cue", "package base\n\nimport b \"strata.build/schema\"\n\nimages: base: b.#Image & {from: \"debian:12\", steps: [\"apt-get update\"]}\n")
	write("lib/lib.cue", `package lib

import b "strata.build/schema"

#Service: b.#Image & {
	#name: string
	#base: _
	stages: build: {
		from: "golang:1.26"
		steps: [{run: "go build -o /out/\(#name) ./\(#name)", mounts: "/src": {from: {local: "/"}}}]
	}
	from: #base
	steps: [{copy: "/out/\(#name)", from: stages.build, to: "/usr/local/bin/"}]
	entrypoint: [#name]
}
`)
	for i := range n {
		write(fmt.Sprintf("svc%d/build.cue", i), fmt.Sprintf(`package svc%[1]d

import (
	"example.com/shop/base"
	"example.com/shop/lib"
)

images: svc%[1]d: lib.#Service & {#name: "svc%[1]d", #base: base.images.base}
`, i))
	}
	return dir
}

func BenchmarkLoad(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		for name, prefix := range map[string]string{"plain": "", "typed": "b.#Image & "} {
			dir := b.TempDir()
			file := filepath.Join(dir, "build.cue")
			if err := replaceFile(file, []byte(manyImages(n, prefix))); err != nil {
				b.Fatal(err)
			}
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				benchmarkLoad(b, LoadOptions{Dir: dir, Args: []string{file}}, n)
			})
			b.Run(fmt.Sprintf("%s/one-of-%d", name, n), func(b *testing.B) {
				benchmarkLoad(b, LoadOptions{Dir: dir, Args: []string{file}, Targets: []string{"svc0"}}, 1)
			})
		}
	}
}

func BenchmarkLoadMonorepo(b *testing.B) {
	dir := monorepo(b, 1000)
	b.Run("all", func(b *testing.B) { benchmarkLoad(b, LoadOptions{Dir: dir, Args: []string{"./..."}}, 1001) })
	b.Run("one-target", func(b *testing.B) {
		benchmarkLoad(b, LoadOptions{Dir: dir, Args: []string{"./..."}, Targets: []string{"svc7"}}, 1)
	})
	b.Run("one-package", func(b *testing.B) { benchmarkLoad(b, LoadOptions{Dir: dir, Args: []string{"./svc7"}}, 1) })
}

func benchmarkLoad(b *testing.B, opts LoadOptions, want int) {
	for b.Loop() {
		spec, err := Load(context.Background(), opts)
		if err != nil {
			b.Fatal(err)
		}
		if len(spec.Images) != want {
			b.Fatalf("%d images, want %d", len(spec.Images), want)
		}
	}
}

func BenchmarkVet(b *testing.B) {
	dir := b.TempDir()
	file := filepath.Join(dir, "build.cue")
	if err := replaceFile(file, []byte(manyImages(100, "b.#Image & "))); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := Vet(context.Background(), LoadOptions{Dir: dir, Args: []string{file}}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFingerprint(b *testing.B) {
	dir := monorepo(b, 100)
	spec, err := Load(context.Background(), LoadOptions{Dir: dir, Args: []string{"./..."}})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := Fingerprint(spec.Inputs()); err != nil {
			b.Fatal(err)
		}
	}
}
