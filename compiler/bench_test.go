package compiler

import (
	"context"
	"fmt"
	"testing"

	"github.com/strata-build/strata/schema"
)

// service is an image like those of a monorepo: a build stage that mounts
// the repository, and a final image on a base that all of them share.
func service(n int, base *schema.Image) *schema.Image {
	name := fmt.Sprintf("svc%d", n)
	workdir := "/src"
	pos := schema.Position{File: "svc/" + name + "/build.cue", Line: 10, Column: 3}
	build := &schema.Image{
		Name: "build", Path: "images." + name + ".stages.build", Context: "/repo/" + name, Pos: pos,
		From:   &schema.From{Ref: "golang:1.26"},
		Config: schema.Config{Workdir: &workdir, Env: []schema.Var{{Name: "CGO_ENABLED", Value: "0"}}},
		Steps: []*schema.Step{
			{Verb: schema.VerbCopy, Paths: []string{"go.mod", "go.sum"}, To: "./", Pos: pos},
			{Verb: schema.VerbRun, Run: schema.Command{Shell: true, Args: []string{"go mod download"}}, Cache: []string{"/go/pkg/mod"}, Pos: pos},
			{Verb: schema.VerbRun, Run: schema.Command{Shell: true, Args: []string{"go build -o /out/" + name}},
				Mounts: []*schema.Mount{{Target: "/src"}}, Cache: []string{"/go/pkg/mod", "/root/.cache/go-build"}, Pos: pos},
		},
	}
	return &schema.Image{
		Name: name, Path: "images." + name, Context: "/repo/" + name, Pos: pos,
		Stages: []*schema.Image{build},
		From:   &schema.From{Image: base},
		Steps: []*schema.Step{
			{Verb: schema.VerbCopy, Paths: []string{"/out/" + name}, To: "/usr/local/bin/", From: &schema.From{Image: build}, Pos: pos},
		},
		Config: schema.Config{
			Entrypoint: &schema.Command{Args: []string{name}},
			Labels:     []schema.Var{{Name: "service", Value: name}},
			Expose:     []string{"8080"},
		},
	}
}

// sharedBase is the base image of all services.
func sharedBase() *schema.Image {
	user := "app"
	return &schema.Image{
		Name: "base", Path: "images.base", Context: "/repo/base",
		From: &schema.From{Ref: "alpine"},
		Steps: []*schema.Step{
			{Verb: schema.VerbRun, Run: schema.Command{Shell: true, Args: []string{"adduser app"}}},
			{Verb: schema.VerbCopy, Paths: []string{"etc"}, To: "/etc/"},
			{Verb: schema.VerbRun, Run: schema.Command{Shell: true, Args: []string{"apk add curl"}}},
		},
		Config: schema.Config{User: &user},
	}
}

func services(n int) *schema.Spec {
	base := sharedBase()
	spec := &schema.Spec{}
	for i := range n {
		spec.Images = append(spec.Images, service(i, base))
	}
	return spec
}

func BenchmarkCompile(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("images=%d", n), func(b *testing.B) {
			spec := services(n)
			opts := buildOptions{platform: build}.options(b)
			opts.Ignore = func(string) ([]string, error) { return nil, nil }
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Compile(context.Background(), spec, opts); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkEqual(b *testing.B) {
	opts := buildOptions{platform: build}.options(b)
	one := compileOne(b, services(1).Images[0], opts)
	for b.Loop() {
		if diff, ok := Equal(one, one); !ok {
			b.Fatal(diff)
		}
	}
}
