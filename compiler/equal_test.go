package compiler

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/moby/buildkit/solver/pb"
)

// TestDifferences makes sure that Equal names what differs.
func TestDifferences(t *testing.T) {
	const base = "FROM alpine\nWORKDIR /w\nCOPY a /\nRUN --mount=type=cache,target=/c x\n"
	for _, c := range []struct{ name, other, want string }{
		{"command", strings.Replace(base, "c x", "c y", 1), `exec /bin/sh -c x | exec /bin/sh -c y: exec.meta.args[2]: "x" != "y"`},
		{"more arguments", strings.Replace(base, "c x", `c ["x"]`, 1), `exec /bin/sh -c x | exec x: exec.meta.args[0]: "/bin/sh" != "x"`},
		{"environment", strings.Replace(base, "COPY", "ENV A=1\nCOPY", 1), `exec.meta.env: 1 elements != 2`},
		{"directory", strings.Replace(base, "/w", "/v", 1), `file mkdir /w | file mkdir /v: file.actions[0].mkdir.path: "/w" != "/v"`},
		{"image", strings.Replace(base, "alpine", "alpine:2", 1), `source.identifier: "docker-image://`},
		{"owner", strings.Replace(base, "COPY", "COPY --chown=5", 1), `file copy /a /: file.actions[0].copy.owner: given on one side only`},
		{"mode", strings.Replace(base, "COPY", "COPY --chmod=700", 1), `file.actions[0].copy.mode: -1 != 448`},
		{"action", strings.Replace(base, "COPY a", "COPY a b", 1), `local context: source.attrs[local.followpaths]: "[\"a\"]" != "[\"a\",\"b\"]"`},
		{"cache", strings.Replace(base, "target=/c", "target=/c,id=z", 1), `exec.mounts[1].cacheOpt.ID: "//c" != "/z"`},
		{"network", strings.Replace(base, "RUN", "RUN --network=none", 1), `exec.network: 0 != 2`},
		{"mount", strings.Replace(base, "RUN", "RUN --mount=target=/b,from=busybox", 1), `exec.mounts[1]`},
		{"less", "FROM alpine\nWORKDIR /w\nCOPY a /\n", `exec /bin/sh -c x | file copy /a /`},
		{"nothing", "FROM scratch\n", "one is the empty image: 5 ops against 0"},
		{"config", base + "USER x\n", "image config: config.User: nothing != \"x\""},
		{"history", strings.Replace(base, "WORKDIR", "LABEL a=b\nWORKDIR", 1), `image config: config.Labels: nothing != {"a":"b"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := buildOptions{}.dockerfile(t, base), buildOptions{}.dockerfile(t, c.other)
			diff, ok := Equal(a, b)
			if ok {
				t.Fatal("they are equal")
			}
			if !strings.Contains(diff, c.want) {
				t.Errorf("got  %s\nwant %s", diff, c.want)
			}
			if back, ok := Equal(b, a); ok || back == "" {
				t.Error("the other way round they are equal")
			}
			if diff, ok := Equal(b, b); !ok {
				t.Errorf("not equal to itself: %s", diff)
			}
		})
	}
}

// TestOtherOutputs makes sure that the output of an op counts.
func TestOtherOutputs(t *testing.T) {
	a := buildOptions{}.dockerfile(t, "FROM alpine\nRUN x\n")
	g, err := decode(a.Definition)
	if err != nil {
		t.Fatal(err)
	}
	g.root.Index = 1
	dt, err := (&pb.Op{Inputs: []*pb.Input{g.root}}).MarshalVT()
	if err != nil {
		t.Fatal(err)
	}
	b := a
	b.Definition = &pb.Definition{Def: append(append([][]byte{}, a.Definition.Def[:2]...), dt)}
	if diff, ok := Equal(a, b); ok || diff != "result: output 0 != 1" {
		t.Errorf("got %q", diff)
	}
}

// TestBadDefinitions makes sure that a broken definition is an error.
func TestBadDefinitions(t *testing.T) {
	good := buildOptions{}.dockerfile(t, "FROM alpine\nRUN x\nRUN y\n")
	def := good.Definition.Def
	for name, bad := range map[string][][]byte{
		"garbage":       {[]byte("garbage")},
		"missing input": {def[1], def[3]},
		"wrong order":   {def[1], def[0], def[2], def[3]},
		"no root":       def[:3],
		"root only":     {def[3]},
	} {
		t.Run(name, func(t *testing.T) {
			target := Target{Definition: &pb.Definition{Def: bad}, Config: good.Config}
			if diff, ok := Equal(target, good); ok || !strings.HasPrefix(diff, "first definition: ") {
				t.Errorf("Equal: %q %v", diff, ok)
			}
			if diff, ok := Equal(good, target); ok || !strings.HasPrefix(diff, "second definition: ") {
				t.Errorf("Equal: %q %v", diff, ok)
			}
			plan := &Plan{Targets: []Target{target}}
			for name, print := range map[string]func(io.Writer) error{"text": plan.Text, "dot": plan.Dot} {
				if err := print(io.Discard); err == nil {
					t.Errorf("%s prints it", name)
				}
			}
			if _, err := WithLocalUnique(target.Definition, "x"); err == nil {
				t.Error("WithLocalUnique takes it")
			}
		})
	}
	broken := good
	broken.Config = []byte("{")
	if diff, ok := Equal(good, broken); ok || !strings.Contains(diff, "second config") {
		t.Errorf("broken config: %q", diff)
	}
}

// FuzzDefinition feeds definitions to all that decodes them.
func FuzzDefinition(f *testing.F) {
	for _, p := range allPairs() {
		if p.opts.platform != "" || p.opts.args != nil {
			continue
		}
		target := p.opts.dockerfile(f, p.dockerfile)
		dt, err := marshalDefinition(target.Definition)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(dt, target.Config)
	}
	good := buildOptions{}.dockerfile(f, "FROM alpine\nRUN x\n")
	f.Fuzz(func(t *testing.T, dt, config []byte) {
		var def pb.Definition
		if err := def.UnmarshalVT(dt); err != nil {
			return
		}
		target := Target{Definition: &def, Config: config}
		if diff, ok := Equal(target, good); !ok && diff == "" {
			t.Error("different without a difference")
		}
		plan := &Plan{Targets: []Target{target}}
		for _, print := range []func(io.Writer) error{plan.Text, plan.Dot, plan.LLB} {
			if err := print(io.Discard); err != nil && err.Error() == "" {
				t.Error("an error without text")
			}
		}
		other, err := WithLocalUnique(&def, "x")
		if err != nil {
			return
		}
		if diff, ok := Equal(target, Target{Definition: other, Config: config}); !ok && !strings.Contains(diff, "config") {
			t.Errorf("another id counts: %s", diff)
		}
	})
}

// FuzzTrigger feeds triggers of a base image to the compiler.
func FuzzTrigger(f *testing.F) {
	for _, line := range []string{
		"RUN x", "COPY --from=a b c", "ADD https://example.com/x.git /", "ENV A=$B", "ARG A=${B:-c}", "EXPOSE 1-3/udp $X",
		"RUN --mount=type=secret,id=a,env=B --device=x.com/y=z x", "HEALTHCHECK --interval=1s CMD [\"a\"]", "COPY <<A <<-B /\n1\nA\n\t2\nB\n",
		"RUN <<EOF\n#!/bin/sh\nEOF", "WORKDIR ../..", "USER $U", "VOLUME [\"/a\"]", "SHELL [\"a\"]", "CMD a b", "STOPSIGNAL 9", "LABEL a=b", "ENTRYPOINT []",
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		if strings.Contains(line, "ssh") || strings.Contains(line, "@") {
			return // a repository by ssh asks its host for keys
		}
		c, err := newCompilation(Options{Meta: registry{}, Ignore: noIgnore})
		if err != nil {
			t.Fatal(err)
		}
		img := sharedBase()
		s, err := c.stage(context.Background(), img, place{target: c.opts.BuildPlatform, platform: c.opts.BuildPlatform})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.triggers(context.Background(), []string{line}); err != nil {
			if fmt.Sprint(err) == "" {
				t.Error("an error without text")
			}
			return
		}
		if _, _, err := c.marshal.definition(context.Background(), s, c.opts.BuildPlatform); err != nil {
			t.Logf("%q: %v", line, err)
		}
	})
}
