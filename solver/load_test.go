package solver_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	"github.com/strata-build/strata/solver"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

func load(t *testing.T, defs ...*pb.Definition) (*solver.Graph, []solver.Edge) {
	t.Helper()
	g, edges, err := solver.Load(defs...)
	if err != nil {
		t.Fatal(err)
	}
	return g, edges
}

func names(g *solver.Graph) (list []string) {
	for v := range g.Vertices() {
		list = append(list, v.Name)
	}
	return list
}

// client is a definition as BuildKit's own client writes it.
func clientDefinition(t *testing.T) *pb.Definition {
	base := llb.Image("docker.io/library/alpine:latest")
	file := llb.NewSourceMap(nil, "Dockerfile", "Dockerfile", []byte("FROM alpine\nRUN make\n"))
	src := llb.Local("context", llb.SharedKeyHint("context"))
	built := base.Run(
		llb.Args([]string{"/bin/sh", "-c", "make"}),
		file.Location([]*pb.Range{{Start: &pb.Position{Line: 2}, End: &pb.Position{Line: 2, Character: 8}}}),
		llb.AddMount("/src", src, llb.Readonly),
		llb.AddMount("/cache", llb.Scratch(), llb.AsPersistentCacheDir("id", llb.CacheMountShared)),
		llb.AddSecret("/secret"), llb.AddSSHSocket(),
	)
	out := built.AddMount("/out", llb.Scratch())
	final := base.File(
		llb.Mkdir("/app", 0o755).Mkfile("/app/x", 0o644, []byte("x"), llb.WithUser("nobody")).
			Copy(out, "/bin", "/app", llb.WithUser("root")).Rm("/tmp").Symlink("/app", "/a"),
		llb.WithCustomName("assemble"),
	)
	merged := llb.Merge([]llb.State{final, llb.Diff(base, built.Root())})
	def, err := merged.Marshal(t.Context(), llb.LinuxAmd64)
	if err != nil {
		t.Fatal(err)
	}
	return def.ToPB()
}

func TestLoadClientDefinition(t *testing.T) {
	g, edges := load(t, clientDefinition(t))
	list := names(g)
	for _, want := range []string{
		"docker-image://docker.io/library/alpine:latest", "local://context", "/bin/sh -c make", "assemble",
		"diff (docker-image://docker.io/library/alpine:latest) -> (/bin/sh -c make)",
	} {
		if !slices.Contains(list, want) {
			t.Errorf("no vertex %q in %q", want, list)
		}
	}
	if name := edges[0].Vertex.Name; !strings.HasPrefix(name, "merge (assemble, diff (") {
		t.Errorf("target %q", name)
	}
	seen := map[*solver.Vertex]bool{}
	for v := range g.Vertices() {
		for _, in := range v.Inputs {
			if !seen[in.Vertex] {
				t.Errorf("%s stands before its input %s", v.Name, in.Vertex.Name)
			}
		}
		seen[v] = true
	}
}

// A source that no file mentions stands where it is used.
func TestLocations(t *testing.T) {
	g, _ := load(t, clientDefinition(t))
	placed := []string{"/bin/sh -c make", "docker-image://docker.io/library/alpine:latest", "local://context"}
	for v := range g.Vertices() {
		loc := v.Location()
		if !slices.Contains(placed, v.Name) {
			if loc != nil {
				t.Errorf("%s is at %v", v.Name, loc)
			}
			continue
		}
		want := []solver.Range{{Start: solver.Position{Line: 2}, End: solver.Position{Line: 2, Character: 8}}}
		if loc == nil || loc.Filename != "Dockerfile" || loc.Language != "Dockerfile" ||
			!bytes.Contains(loc.Data, []byte("RUN make")) || !slices.Equal(loc.Ranges, want) || len(v.Locations()) != 1 {
			t.Errorf("location %+v", loc)
		}
	}
}

func TestEqualVerticesOfSeveralDefinitions(t *testing.T) {
	one, two := &llbWriter{}, &llbWriter{}
	a := one.target(one.exec("a", one.exec("shared", one.source("base"))))
	shared := two.exec("shared", two.source("base"))
	two.meta(shared, &pb.OpMetadata{IgnoreCache: true, Description: map[string]string{"llb.customname": "other"}})
	b := two.target(two.exec("b", shared))
	g, edges := load(t, a, b, a)
	if want := []string{"local://base", "shared", "a", "b"}; !slices.Equal(names(g), want) || g.Len() != 4 {
		t.Errorf("vertices %q, want %q", names(g), want)
	}
	if edges[0] != edges[2] {
		t.Error("equal definitions have different edges")
	}
	v := edges[0].Vertex.Inputs[0].Vertex
	if v != edges[1].Vertex.Inputs[0].Vertex || v.Name != "shared" || !v.Meta.IgnoreCache {
		t.Errorf("the shared vertex is %q, ignore cache %v", v.Name, v.Meta.IgnoreCache)
	}
	if meta := one.def.Metadata[string(shared.digest)]; meta != nil {
		t.Error("the caller's metadata was changed")
	}
}

func TestUnneededAndRepeatedOperations(t *testing.T) {
	g := &llbWriter{}
	top := g.exec("top", g.source("base"))
	g.exec("nobody needs this", g.source("nor this"))
	g.source("base")
	loaded, _ := load(t, g.target(top))
	if want := []string{"local://base", "top"}; !slices.Equal(names(loaded), want) {
		t.Errorf("vertices %q, want %q", names(loaded), want)
	}
}

func TestNames(t *testing.T) {
	actions := []*pb.FileAction{
		{Output: -1, Action: &pb.FileAction_Mkdir{Mkdir: &pb.FileActionMkDir{Path: "/d"}}},
		{Output: -1, Action: &pb.FileAction_Mkfile{Mkfile: &pb.FileActionMkFile{Path: "/f"}}},
		{Output: -1, Action: &pb.FileAction_Symlink{Symlink: &pb.FileActionSymlink{Oldpath: "/f", Newpath: "/l"}}},
		{Output: -1, Action: &pb.FileAction_Rm{Rm: &pb.FileActionRm{Path: "/r"}}},
		{Output: 0, Action: &pb.FileAction_Copy{Copy: &pb.FileActionCopy{Src: "/s", Dest: "/t"}}},
	}
	diff := &pb.DiffOp{Lower: &pb.LowerDiffInput{Input: -1}, Upper: &pb.UpperDiffInput{Input: 0}}
	for want, op := range map[string]*pb.Op{
		"mkdir /d, mkfile /f, symlink /l -> /f, rm /r, copy /s /t": fileOp(actions...),
		"diff scratch -> (local://base)":                           {Op: &pb.Op_Diff{Diff: diff}},
		"passthrough x":                                            {Op: &pb.Op_Passthrough{Passthrough: &pb.PassthroughOp{Id: "x", Outputs: []int64{0}}}},
		"build":                                                    {Op: &pb.Op_Build{Build: &pb.BuildOp{}}},
	} {
		g := &llbWriter{}
		_, edges := load(t, g.target(g.add(op, g.source("base"))))
		if got := edges[0].Vertex.Name; got != want {
			t.Errorf("name %q, want %q", got, want)
		}
	}
	g := &llbWriter{}
	top := g.exec("top")
	g.meta(top, &pb.OpMetadata{Description: map[string]string{"llb.customname": "[1/1] RUN top"}})
	_, edges := load(t, g.target(top))
	if got := edges[0].Vertex.Name; got != "[1/1] RUN top" {
		t.Errorf("name %q", got)
	}
}

func TestNamesStayShort(t *testing.T) {
	g := &llbWriter{}
	r := g.source("base")
	for range 100 {
		merge := &pb.MergeOp{Inputs: []*pb.MergeInput{{Input: 0}, {Input: 1}}}
		r = g.add(&pb.Op{Op: &pb.Op_Merge{Merge: merge}}, r, r)
	}
	_, edges := load(t, g.target(r))
	if n := len(edges[0].Vertex.Name); n > 600 {
		t.Errorf("a name of %d bytes", n)
	}
}

func TestDeepDefinition(t *testing.T) {
	g := &llbWriter{}
	r := g.source("base")
	for i := range 5000 {
		r = g.exec(fmt.Sprint("step", i), r)
	}
	loaded, _ := load(t, g.target(r))
	if loaded.Len() != 5001 {
		t.Errorf("%d vertices", loaded.Len())
	}
}

// nested is a build operation with a definition whose source map has a
// definition whose source map has …
func nested(depth int) []byte {
	var data []byte
	for range depth {
		data = wrap(data, 3, 2, 3) // SourceInfo.definition, Source.infos, Definition.Source
	}
	return wrap(data, 3, 5) // BuildOp.def, Op.build
}

func wrap(data []byte, fields ...protowire.Number) []byte {
	for _, field := range fields {
		data = protowire.AppendBytes(protowire.AppendTag(nil, field, protowire.BytesType), data)
	}
	return data
}

func raw(ops ...[]byte) *pb.Definition { return &pb.Definition{Def: ops} }

func marshal(op *pb.Op) []byte {
	data, err := proto.Marshal(op)
	if err != nil {
		panic(err)
	}
	return data
}

// invalid are definitions that have to be refused, with the reason.
func invalid() map[string]*pb.Definition {
	defs := map[string]*pb.Definition{
		"there is none":                    nil,
		"decode operation 1: proto":        raw([]byte("not a message")),
		"has to be the terminal":           raw(marshal(&pb.Op{})),
		"exceeded maximum recursion depth": raw(nested(4000)),
		"operation 1 needs a newer version: it has field 99 of pb.Op": raw(
			protowire.AppendBytes(protowire.AppendTag(nil, 99, protowire.BytesType), []byte("new op"))),
		"the terminal operation: input \"sha256:": raw(marshal(&pb.Op{Inputs: []*pb.Input{{Digest: string(digest.FromString("x"))}}})),
		"the terminal operation: input \"\"":      raw(marshal(&pb.Op{Inputs: []*pb.Input{{}}})),
	}
	add := func(want string, make func(g *llbWriter, base ref) ref) {
		g := &llbWriter{}
		defs[want] = g.target(make(g, g.source("base")))
	}
	addOp := func(want string, op *pb.Op) {
		add(want, func(g *llbWriter, base ref) ref { return g.add(op, base) })
	}
	add("output index -1 is out of range", func(_ *llbWriter, base ref) ref { return base.out(-1) })
	add(`output index 1 is out of range: "local://base" has 1`, func(_ *llbWriter, base ref) ref { return base.out(1) })
	add("operation 2 (exec): input 0: output index 7 is out of range", func(g *llbWriter, base ref) ref {
		return g.exec("x", base.out(7))
	})
	add("operation 2 (exec): input 1, \"sha256:", func(g *llbWriter, base ref) ref {
		return g.exec("x", base, ref{digest: digest.FromString("missing")})
	})
	add("operation 2 (source docker-image): a source has no inputs", func(g *llbWriter, base ref) ref {
		return g.add(&pb.Op{Op: &pb.Op_Source{Source: &pb.SourceOp{Identifier: "docker-image://x"}}}, base)
	})
	add("output index 65536 is out of range", func(g *llbWriter, base ref) ref {
		return g.add(&pb.Op{Op: &pb.Op_Build{Build: &pb.BuildOp{}}}, base).out(1 << 16)
	})
	addOp("the source has no identifier", &pb.Op{Op: &pb.Op_Source{Source: &pb.SourceOp{}}})
	addOp("there is no command", &pb.Op{Op: &pb.Op_Exec{Exec: &pb.ExecOp{}}})
	addOp("nothing is mounted as the root", execOp(&pb.Mount{Dest: "/x", Output: -1}))
	addOp("mount 0 (/): input index 1 is out of range: there are 1", execOp(&pb.Mount{Dest: "/", Input: 1}))
	addOp("mount 0 (/): input index -2 is out of range", execOp(&pb.Mount{Dest: "/", Input: -2}))
	addOp("mount 0 (/): output index -2 is negative", execOp(&pb.Mount{Dest: "/", Output: -2}))
	addOp("mount 1 (/x): output index 0 is used twice", execOp(&pb.Mount{Dest: "/"}, &pb.Mount{Dest: "/x"}))
	addOp("there are 1 outputs, but one has index 5", execOp(&pb.Mount{Dest: "/", Output: 5}))
	addOp("there are no actions", &pb.Op{Op: &pb.Op_File{File: &pb.FileOp{}}})
	addOp("no action has an output", fileOp(&pb.FileAction{Output: -1}))
	addOp("action 0: input index 1 is out of range", fileOp(&pb.FileAction{Input: 1}))
	addOp("action 1: input index 2 is out of range", fileOp(&pb.FileAction{Output: -1}, &pb.FileAction{Input: 2}))
	addOp("action 1: output index 0 is used twice", fileOp(&pb.FileAction{}, &pb.FileAction{}))
	addOp("action 0: secondary input index 1 is out of range",
		fileOp(&pb.FileAction{SecondaryInput: 1, Action: &pb.FileAction_Copy{Copy: &pb.FileActionCopy{}}}))
	owner := func(input int64) *pb.ChownOpt {
		return &pb.ChownOpt{Group: &pb.UserOpt{User: &pb.UserOpt_ByName{ByName: &pb.NamedUserOpt{Name: "x", Input: input}}}}
	}
	addOp("action 0: user's input index 11", fileOp(&pb.FileAction{Action: &pb.FileAction_Copy{Copy: &pb.FileActionCopy{Owner: owner(11)}}}))
	addOp("action 0: user's input index 12", fileOp(&pb.FileAction{Action: &pb.FileAction_Mkdir{Mkdir: &pb.FileActionMkDir{Owner: owner(12)}}}))
	addOp("action 0: user's input index 13", fileOp(&pb.FileAction{Action: &pb.FileAction_Mkfile{Mkfile: &pb.FileActionMkFile{Owner: owner(13)}}}))
	addOp("action 0: user's input index 14", fileOp(&pb.FileAction{Action: &pb.FileAction_Symlink{Symlink: &pb.FileActionSymlink{Owner: owner(14)}}}))
	addOp("merge input 0: input index 3", &pb.Op{Op: &pb.Op_Merge{Merge: &pb.MergeOp{Inputs: []*pb.MergeInput{{Input: 3}}}}})
	addOp("a diff has a lower and an upper input", &pb.Op{Op: &pb.Op_Diff{Diff: &pb.DiffOp{}}})
	addOp("lower input index 4", &pb.Op{Op: &pb.Op_Diff{Diff: &pb.DiffOp{Lower: &pb.LowerDiffInput{Input: 4}, Upper: &pb.UpperDiffInput{}}}})
	addOp("upper input index 4", &pb.Op{Op: &pb.Op_Diff{Diff: &pb.DiffOp{Lower: &pb.LowerDiffInput{}, Upper: &pb.UpperDiffInput{Input: 4}}}})
	addOp("output 0 is input 1 of 1", &pb.Op{Op: &pb.Op_Passthrough{Passthrough: &pb.PassthroughOp{Outputs: []int64{1}}}})
	addOp("builder index 5", &pb.Op{Op: &pb.Op_Build{Build: &pb.BuildOp{Builder: 5}}})
	addOp(`build input "x": input index 6`, &pb.Op{Op: &pb.Op_Build{Build: &pb.BuildOp{Inputs: map[string]*pb.BuildInput{"x": {Input: 6}}}}})

	unknown := &pb.Mount{Dest: "/"}
	unknown.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 77, protowire.VarintType), 1))
	addOp("it has field 77 of pb.Mount", execOp(unknown))

	g := &llbWriter{}
	source := g.target(g.source("base"))
	source.Source = &pb.Source{Locations: map[string]*pb.Locations{"x": {Locations: []*pb.Location{{SourceIndex: 3}}}}}
	defs["source location of x: file 3 of 0"] = source
	return defs
}

func execOp(mounts ...*pb.Mount) *pb.Op {
	return &pb.Op{Op: &pb.Op_Exec{Exec: &pb.ExecOp{Meta: &pb.Meta{Args: []string{"x"}}, Mounts: mounts}}}
}

func fileOp(actions ...*pb.FileAction) *pb.Op {
	return &pb.Op{Op: &pb.Op_File{File: &pb.FileOp{Actions: actions}}}
}

func TestInvalidDefinitions(t *testing.T) {
	for want, def := range invalid() {
		_, _, err := solver.Load(def)
		if !errors.Is(err, solver.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
		_, _, err = solver.Load(&pb.Definition{}, def)
		if err == nil || !strings.Contains(err.Error(), "definition 2: ") {
			t.Errorf("error %v, want it to name definition 2", err)
		}
	}
}

// An operation of an unknown kind is loaded; the worker refuses it by name.
func TestUnknownKind(t *testing.T) {
	g := &llbWriter{}
	_, edges := load(t, g.target(g.add(&pb.Op{}, g.source("base"))))
	if name := edges[0].Vertex.Name; name != "unknown operation" {
		t.Errorf("name %q", name)
	}
}

// FuzzLoad feeds Load with definitions as they come over a wire.
func FuzzLoad(f *testing.F) {
	for _, def := range invalid() {
		if data, err := proto.Marshal(def); err == nil && len(data) < 1<<16 {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		def := &pb.Definition{}
		if proto.Unmarshal(data, def) != nil {
			return
		}
		checkLoad(t, def)
	})
}

// FuzzLoadGraph has the digests right, which chance does not find: the input
// is a program that writes operations with arbitrary indexes.
func FuzzLoadGraph(f *testing.F) {
	f.Add([]byte{0, 1, 1, 0, 0, 0, 2, 0, 0, 3, 1, 1})
	f.Add([]byte{0, 1, 2, 0, 0, 255, 4, 0, 1, 1, 0, 9, 8, 7})
	f.Fuzz(func(t *testing.T, program []byte) {
		p := &choices{rest: program}
		g := &llbWriter{}
		refs := []ref{g.source("base")}
		for len(p.rest) > 0 && len(refs) < 50 {
			var inputs []ref
			for range p.next(4) {
				inputs = append(inputs, refs[p.next(len(refs))].out(p.index()))
			}
			refs = append(refs, g.add(p.op(), inputs...))
		}
		checkLoad(t, g.target(refs[len(refs)-1].out(p.index())))
	})
}

// choices reads choices from bytes; where there are none left, zeros.
type choices struct{ rest []byte }

func (p *choices) next(n int) int {
	if len(p.rest) == 0 {
		return 0
	}
	b := int(p.rest[0])
	p.rest = p.rest[1:]
	return b % n
}

// index is mostly small, sometimes negative or huge.
func (p *choices) index() int64 {
	return []int64{0, 0, 0, 0, 1, 1, 2, 3, -1, -1, -2, 1 << 40, -1 << 63}[p.next(13)]
}

func (p *choices) owner() *pb.ChownOpt {
	named := &pb.UserOpt{User: &pb.UserOpt_ByName{ByName: &pb.NamedUserOpt{Input: p.index()}}}
	return []*pb.ChownOpt{nil, {}, {User: named}, {Group: named}}[p.next(4)]
}

func (p *choices) op() *pb.Op {
	switch p.next(7) {
	case 0:
		op := execOp()
		for i := range p.next(4) {
			dest := []string{"/", "/x"}[min(i, 1)]
			op.GetExec().Mounts = append(op.GetExec().Mounts,
				&pb.Mount{Dest: dest, Input: p.index(), Output: p.index(), MountType: pb.MountType(p.next(6))})
		}
		return op
	case 1:
		op := fileOp()
		for range p.next(4) {
			a := &pb.FileAction{Input: p.index(), SecondaryInput: p.index(), Output: p.index()}
			if p.next(2) == 0 {
				a.Action = &pb.FileAction_Copy{Copy: &pb.FileActionCopy{Owner: p.owner()}}
			} else {
				a.Action = &pb.FileAction_Mkdir{Mkdir: &pb.FileActionMkDir{Owner: p.owner()}}
			}
			op.GetFile().Actions = append(op.GetFile().Actions, a)
		}
		return op
	case 2:
		merge := &pb.MergeOp{}
		for range p.next(4) {
			merge.Inputs = append(merge.Inputs, &pb.MergeInput{Input: p.index()})
		}
		return &pb.Op{Op: &pb.Op_Merge{Merge: merge}}
	case 3:
		return &pb.Op{Op: &pb.Op_Diff{Diff: &pb.DiffOp{
			Lower: &pb.LowerDiffInput{Input: p.index()}, Upper: &pb.UpperDiffInput{Input: p.index()}}}}
	case 4:
		return &pb.Op{Op: &pb.Op_Passthrough{Passthrough: &pb.PassthroughOp{Outputs: []int64{p.index(), p.index()}}}}
	case 5:
		return &pb.Op{Op: &pb.Op_Build{Build: &pb.BuildOp{Builder: p.index()}}}
	}
	return &pb.Op{}
}

// checkLoad loads a definition. If it is accepted, all its indexes are good.
func checkLoad(t *testing.T, def *pb.Definition) {
	g, edges, err := solver.Load(def)
	if err != nil {
		if !errors.Is(err, solver.ErrInvalid) {
			t.Fatalf("error %v is not ErrInvalid", err)
		}
		return
	}
	seen := map[*solver.Vertex]bool{}
	for v := range g.Vertices() {
		if len(v.Inputs) != len(v.Op.Inputs) || v.Meta == nil {
			t.Fatalf("%s: %d inputs of %d", v.Name, len(v.Inputs), len(v.Op.Inputs))
		}
		for _, in := range v.Inputs {
			if !seen[in.Vertex] || in.Output < 0 || in.Output >= 1<<16 {
				t.Fatalf("%s: input %v", v.Name, in)
			}
		}
		checkIndexes(t, v)
		seen[v] = true
	}
	if !edges[0].Scratch() && !seen[edges[0].Vertex] {
		t.Fatal("the target is not in the graph")
	}
}

func checkIndexes(t *testing.T, v *solver.Vertex) {
	within := func(index int64, n int) {
		if index < -1 || index >= int64(n) {
			t.Fatalf("%s: index %d of %d", v.Name, index, n)
		}
	}
	n := len(v.Inputs)
	for _, m := range v.Op.GetExec().GetMounts() {
		within(m.Input, n)
	}
	for i, a := range v.Op.GetFile().GetActions() {
		within(a.Input, n+i)
		within(a.Output, len(v.Op.GetFile().Actions))
		if c := a.GetCopy(); c != nil {
			within(a.SecondaryInput, n+i)
			within(c.GetOwner().GetUser().GetByName().GetInput(), max(1, n+i))
			within(c.GetOwner().GetGroup().GetByName().GetInput(), max(1, n+i))
		}
	}
	for _, in := range v.Op.GetMerge().GetInputs() {
		within(in.Input, n)
	}
	if d := v.Op.GetDiff(); d != nil {
		within(d.Lower.Input, n)
		within(d.Upper.Input, n)
	}
}
