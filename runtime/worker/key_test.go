package worker

import (
	"fmt"
	"strings"
	"testing"

	"github.com/moby/buildkit/solver/pb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/strata-build/strata/solver"
)

// testWorker has no runtime below it: keys and refusals need none.
func testWorker(opt Options) *Worker {
	opt.Platform.OS, opt.Platform.Architecture = "linux", "amd64"
	return New(opt)
}

// vertex makes a vertex with two inputs.
func vertex(op *pb.Op) *solver.Vertex {
	in := solver.Edge{Vertex: &solver.Vertex{}}
	return &solver.Vertex{Op: op, Meta: &pb.OpMetadata{}, Inputs: []solver.Edge{in, in}}
}

// key returns the key of an op, or "" when the worker refuses it.
func key(t *testing.T, w *Worker, op *pb.Op) string {
	t.Helper()
	o, err := w.Op(vertex(op))
	if err != nil {
		return ""
	}
	k, err := o.Key(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return k.Digest.String()
}

// mutate changes each leaf field below m in turn, also those that are unset,
// and calls fn with the field's path while it is changed.
func mutate(path string, m protoreflect.Message, fn func(path string)) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		name := path + "." + string(f.Name())
		switch {
		case f.IsMap():
			continue // the operations have none
		case f.IsList():
			mutateList(name, m, f, fn)
		case f.Kind() == protoreflect.MessageKind:
			if m.Has(f) {
				mutate(name, m.Mutable(f).Message(), fn)
			}
		default:
			if f.ContainingOneof() != nil && !m.Has(f) {
				continue // it would replace the alternative that is set
			}
			had, old := m.Has(f), m.Get(f)
			m.Set(f, other(f, old))
			fn(name)
			if m.Set(f, old); !had {
				m.Clear(f)
			}
		}
	}
}

func mutateList(name string, m protoreflect.Message, f protoreflect.FieldDescriptor, fn func(path string)) {
	list := m.Mutable(f).List()
	if f.Kind() == protoreflect.MessageKind {
		for i := range list.Len() {
			mutate(fmt.Sprintf("%s[%d]", name, i), list.Get(i).Message(), fn)
		}
		return
	}
	n := list.Len()
	list.Append(other(f, list.NewElement()))
	fn(name)
	list.Truncate(n)
}

// other is another value of a field.
func other(f protoreflect.FieldDescriptor, v protoreflect.Value) protoreflect.Value {
	switch f.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(!v.Bool())
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(v.String() + "x")
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(append([]byte("x"), v.Bytes()...))
	case protoreflect.EnumKind:
		if v.Enum() == 0 {
			return protoreflect.ValueOfEnum(1)
		}
		return protoreflect.ValueOfEnum(0)
	case protoreflect.Int32Kind, protoreflect.Sint32Kind:
		return protoreflect.ValueOfInt32(int32(v.Int()) + 1)
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(v.Uint()) + 1)
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(v.Uint() + 1)
	default:
		return protoreflect.ValueOfInt64(v.Int() + 1)
	}
}

func execOpMessage() *pb.Op {
	return &pb.Op{Op: &pb.Op_Exec{Exec: &pb.ExecOp{
		Meta: &pb.Meta{
			Args: []string{"sh", "-c", "true"}, Env: []string{"A=b"}, Cwd: "/w", User: "u",
			ExtraHosts: []*pb.HostIP{{Host: "h", IP: "10.0.0.1"}},
			Ulimit:     []*pb.Ulimit{{Name: "nofile", Soft: 1, Hard: 2}},
			ProxyEnv:   &pb.ProxyEnv{HttpProxy: "http://proxy"},
		},
		Mounts: []*pb.Mount{
			{Dest: "/", Input: 0, Output: 0},
			{Dest: "/b", Input: 1, Output: -1, Selector: "s", Readonly: true},
			{Dest: "/c", Input: -1, Output: -1, MountType: pb.MountType_CACHE, CacheOpt: &pb.CacheOpt{ID: "c"}},
			{Dest: "/t", Input: -1, Output: -1, MountType: pb.MountType_TMPFS, TmpfsOpt: &pb.TmpfsOpt{Size: 1}},
			{Dest: "/s", Input: -1, MountType: pb.MountType_SECRET, SecretOpt: &pb.SecretOpt{ID: "s", Mode: 0o400}},
			{Dest: "/a", Input: -1, MountType: pb.MountType_SSH, SSHOpt: &pb.SSHOpt{ID: "a", Mode: 0o600}},
		},
		Secretenv: []*pb.SecretEnv{{ID: "i", Name: "N"}},
	}}}
}

func fileOpMessage() *pb.Op {
	owner := &pb.ChownOpt{
		User:  &pb.UserOpt{User: &pb.UserOpt_ByName{ByName: &pb.NamedUserOpt{Name: "n", Input: 0}}},
		Group: &pb.UserOpt{User: &pb.UserOpt_ByID{ByID: 7}},
	}
	action := func(in, second, out int64) *pb.FileAction {
		return &pb.FileAction{Input: in, SecondaryInput: second, Output: out}
	}
	cp, mkfile, mkdir, rm, link := action(0, 1, -1), action(2, -1, -1), action(3, -1, -1), action(4, -1, -1), action(5, -1, 0)
	cp.Action = &pb.FileAction_Copy{Copy: &pb.FileActionCopy{Src: "/a", Dest: "/b", Owner: owner, IncludePatterns: []string{"i"}}}
	mkfile.Action = &pb.FileAction_Mkfile{Mkfile: &pb.FileActionMkFile{Path: "/f", Data: []byte("d"), Owner: owner}}
	mkdir.Action = &pb.FileAction_Mkdir{Mkdir: &pb.FileActionMkDir{Path: "/d", Owner: owner}}
	rm.Action = &pb.FileAction_Rm{Rm: &pb.FileActionRm{Path: "/r"}}
	link.Action = &pb.FileAction_Symlink{Symlink: &pb.FileActionSymlink{Oldpath: "/o", Newpath: "/n", Owner: owner}}
	return &pb.Op{Op: &pb.Op_File{File: &pb.FileOp{Actions: []*pb.FileAction{cp, mkfile, mkdir, rm, link}}}}
}

// TestEveryFieldIsInTheKey is CVE-2024-24557's class: a field that decides
// the result and is not in the key lets one build poison another.
func TestEveryFieldIsInTheKey(t *testing.T) {
	w := testWorker(Options{AllowInsecure: true, AllowHostNetwork: true})
	for name, op := range map[string]*pb.Op{"exec": execOpMessage(), "file": fileOpMessage()} {
		want := key(t, w, op)
		if want == "" {
			t.Fatalf("%s: the operation itself is refused", name)
		}
		changed := 0
		inner := op.GetExec().ProtoReflect()
		if name == "file" {
			inner = op.GetFile().ProtoReflect()
		}
		mutate(name, inner, func(path string) {
			changed++
			got := key(t, w, op)
			if strings.Contains(path, ".proxy_env.") {
				if got != want {
					t.Errorf("%s is in the key: a proxy is the surroundings' affair", path)
				}
			} else if got == want {
				t.Errorf("%s is not in the key", path)
			}
		})
		if changed < 40 {
			t.Errorf("%s: only %d fields were changed", name, changed)
		}
		if key(t, w, op) != want {
			t.Errorf("%s: the operation was not restored", name)
		}
	}
}

func TestPlatformIsInTheKeyOfAnExec(t *testing.T) {
	w := testWorker(Options{})
	op := execOpMessage()
	seen := map[string]string{}
	for _, p := range []*pb.Platform{
		{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"},
		{OS: "linux", Architecture: "arm", Variant: "v6"}, {OS: "linux", Architecture: "arm", Variant: "v7"},
	} {
		op.Platform = p
		k := key(t, w, op)
		if other, dup := seen[k]; dup {
			t.Errorf("%v and %s have one key", p, other)
		}
		seen[k] = p.String()
	}
}

// TestRefusals is CVE-2024-23653's class: what gives up isolation needs an
// explicit permission, and what is not known is refused by name.
func TestRefusals(t *testing.T) {
	edit := func(fn func(*pb.ExecOp)) *pb.Op {
		op := proto.Clone(execOpMessage()).(*pb.Op)
		fn(op.GetExec())
		return op
	}
	for name, c := range map[string]struct {
		op   *pb.Op
		want string
	}{
		"insecure":         {edit(func(e *pb.ExecOp) { e.Security = pb.SecurityMode_INSECURE }), "--allow security.insecure"},
		"host network":     {edit(func(e *pb.ExecOp) { e.Network = pb.NetMode_HOST }), "--allow network.host"},
		"unknown security": {edit(func(e *pb.ExecOp) { e.Security = 7 }), "security mode 7 is not known"},
		"unknown network":  {edit(func(e *pb.ExecOp) { e.Network = 9 }), "network mode 9 is not known"},
		"unknown mount":    {edit(func(e *pb.ExecOp) { e.Mounts[1].MountType = 42 }), "is not supported"},
		"input":            {edit(func(e *pb.ExecOp) { e.Mounts[1].Input = 5 }), "reads input 5 of 2"},
		"no root":          {edit(func(e *pb.ExecOp) { e.Mounts = e.Mounts[1:] }), "without a root"},
		"device":           {edit(func(e *pb.ExecOp) { e.CdiDevices = []*pb.CDIDevice{{Name: "vendor/gpu"}} }), "vendor/gpu"},
		"build":            {&pb.Op{Op: &pb.Op_Build{Build: &pb.BuildOp{}}}, "nested build"},
		"scheme":           {&pb.Op{Op: &pb.Op_Source{Source: &pb.SourceOp{Identifier: "ftp://x"}}}, `kind "ftp"`},
		"attribute": {&pb.Op{Op: &pb.Op_Source{Source: &pb.SourceOp{
			Identifier: "docker-image://docker.io/library/x:1", Attrs: map[string]string{"image.new": "1"},
		}}}, `"image.new"`},
		"local": {&pb.Op{Op: &pb.Op_Source{Source: &pb.SourceOp{Identifier: "local://elsewhere"}}}, `"elsewhere"`},
	} {
		_, err := testWorker(Options{}).Op(vertex(c.op))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: the error is %v, want one with %q", name, err, c.want)
		}
	}
}

func TestUnknownCapabilityIsRefusedByName(t *testing.T) {
	v := vertex(execOpMessage())
	for _, name := range []string{"exec.meta.network.proxy", "exec.from.the.future"} {
		v.Meta = &pb.OpMetadata{Caps: map[string]bool{name: true}}
		if _, err := testWorker(Options{}).Op(v); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("capability %s: the error is %v", name, err)
		}
	}
	v.Meta = &pb.OpMetadata{Caps: map[string]bool{string(pb.CapExecMetaBase): true}}
	if _, err := testWorker(Options{}).Op(v); err != nil {
		t.Error(err)
	}
}

// TestNoCredentialInFacts is GHSA-gc89-7gcr-jxqc's class: facts are kept on
// disk and shown by `why`.
func TestNoCredentialInFacts(t *testing.T) {
	op := execOpMessage()
	op.GetExec().Meta.Env = []string{"API_TOKEN=hunter2", "DB_PASSWORD=hunter2", "PLAIN=visible"}
	o, err := testWorker(Options{}).Op(vertex(op))
	if err != nil {
		t.Fatal(err)
	}
	k, err := o.Key(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprint(k.Facts)
	if strings.Contains(text, "hunter2") || !strings.Contains(text, "visible") {
		t.Errorf("facts: %s", text)
	}
}
