package seccomp

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	moby "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// data is struct seccomp_data.
type data struct {
	number, arch uint32
	args         [6]uint64
}

func (d data) word(offset uint32) uint32 {
	switch {
	case offset == offsetNumber:
		return d.number
	case offset == offsetArch:
		return d.arch
	}
	arg := d.args[(offset-offsetArgs)/8]
	if (offset-offsetArgs)%8 == 4 {
		return uint32(arg >> 32)
	}
	return uint32(arg)
}

// execute runs a program as the kernel does, and counts the instructions.
func execute(t *testing.T, code []unix.SockFilter, d data) (result uint32, steps int) {
	t.Helper()
	var a uint32
	for pc := 0; pc < len(code); pc++ {
		steps++
		in := code[pc]
		taken := false
		switch in.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			a = d.word(in.K)
			continue
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			a &= in.K
			continue
		case unix.BPF_RET | unix.BPF_K:
			return in.K, steps
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(in.K)
			continue
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			taken = a == in.K
		case unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K:
			taken = a > in.K
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			taken = a >= in.K
		default:
			t.Fatalf("instruction %d has code %#x", pc, in.Code)
		}
		if taken {
			pc += int(in.Jt)
		} else {
			pc += int(in.Jf)
		}
	}
	t.Fatal("program ran off its end")
	return 0, 0
}

// meets is the plain meaning of a condition.
func meets(c specs.LinuxSeccompArg, args [6]uint64) bool {
	v := args[c.Index]
	switch c.Op {
	case specs.OpEqualTo:
		return v == c.Value
	case specs.OpNotEqual:
		return v != c.Value
	case specs.OpMaskedEqual:
		return v&c.Value == c.ValueTwo
	case specs.OpGreaterThan:
		return v > c.Value
	case specs.OpGreaterEqual:
		return v >= c.Value
	case specs.OpLessThan:
		return v < c.Value
	default:
		return v <= c.Value
	}
}

// expected is the plain meaning of a profile for a call that it names.
func expected(p *specs.LinuxSeccomp, name string, args [6]uint64) (uint32, bool) {
	named := false
	for _, c := range p.Syscalls {
		for _, n := range c.Names {
			if n != name {
				continue
			}
			named = true
			ok := true
			for _, a := range c.Args {
				ok = ok && meets(a, args)
			}
			if ok {
				r, _ := action(c.Action, c.ErrnoRet)
				return r, true
			}
		}
	}
	r, _ := action(p.DefaultAction, p.DefaultErrnoRet)
	return r, named
}

func randomArgs() (args [6]uint64) {
	pool := []uint64{0, 1, 2, 16, 38, 40, 41, 0x20000, 0x20008, 0xffffffff, 1 << 32, 0x7e020000, 0x10000000}
	for i := range args {
		args[i] = pool[rand.IntN(len(pool))]
		if rand.IntN(4) == 0 {
			args[i] |= rand.Uint64()
		}
	}
	return args
}

// checkProfile compares the program with the profile's plain meaning, for
// every number of every ABI.
func checkProfile(t *testing.T, p *specs.LinuxSeccomp, code []unix.SockFilter) {
	t.Helper()
	abis, err := abisOf(p.Architectures)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range abis {
		names := map[uint32]string{}
		for name, nr := range a.numbers {
			names[nr] = name
		}
		for nr, name := range names {
			for range 20 {
				d := data{number: nr, arch: a.audit, args: randomArgs()}
				got, _ := execute(t, code, d)
				want, named := expected(p, name, d.args)
				if got != want && (named || got != unix.SECCOMP_RET_ERRNO|uint32(unix.ENOSYS)) {
					t.Fatalf("%s: %s (%d) with %#x: got %#x, want %#x", a.arch, name, nr, d.args, got, want)
				}
			}
		}
	}
}

func profileFor(t *testing.T, capabilities []string) *specs.LinuxSeccomp {
	t.Helper()
	s := &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: capabilities}}}
	p, err := moby.GetDefaultProfile(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestDefaultProfile(t *testing.T) {
	for _, caps := range [][]string{nil, {"CAP_SYS_ADMIN"}, {"CAP_SYS_PTRACE", "CAP_SYSLOG", "CAP_BPF"}} {
		f, err := Default(caps)
		if err != nil {
			t.Fatal(err)
		}
		checkProfile(t, profileFor(t, caps), f.Code())
	}
}

// Every operator, every action, two conditions on one argument, and conditions
// on several.
func TestOperators(t *testing.T) {
	ops := []specs.LinuxSeccompOperator{
		specs.OpEqualTo, specs.OpNotEqual, specs.OpMaskedEqual, specs.OpGreaterThan,
		specs.OpGreaterEqual, specs.OpLessThan, specs.OpLessEqual,
	}
	values := []uint64{0, 1, 40, 0xffffffff, 1 << 32, 1<<32 + 5, ^uint64(0)}
	p := &specs.LinuxSeccomp{DefaultAction: specs.ActKillProcess, Architectures: profileFor(t, nil).Architectures}
	names := strings.Fields("read write open close stat ioctl mmap futex execve clone kill openat preadv2 pwritev2")
	for i, op := range ops {
		for j, v := range values {
			arg := specs.LinuxSeccompArg{Index: uint(j % 6), Op: op, Value: v, ValueTwo: v & 0xff0ff}
			other := specs.LinuxSeccompArg{Index: uint((j + 1) % 6), Op: ops[(i+j)%len(ops)], Value: 38}
			p.Syscalls = append(p.Syscalls, specs.LinuxSyscall{
				Names:  []string{names[(i*len(values)+j)%len(names)]},
				Action: specs.ActAllow,
				Args:   []specs.LinuxSeccompArg{arg, other},
			})
		}
	}
	f, err := Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	checkProfile(t, p, f.Code())
}

func TestTwoConditionsOnOneArgumentAreAlternatives(t *testing.T) {
	p := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{{
		Names:  []string{"read"},
		Action: specs.ActAllow,
		Args:   []specs.LinuxSeccompArg{{Index: 0, Op: specs.OpEqualTo, Value: 3}, {Index: 0, Op: specs.OpEqualTo, Value: 5}},
	}}}
	f, err := Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	abis, _ := abisOf(nil)
	for arg, want := range map[uint64]uint32{3: unix.SECCOMP_RET_ALLOW, 5: unix.SECCOMP_RET_ALLOW, 4: unix.SECCOMP_RET_ERRNO | 1} {
		got, _ := execute(t, f.Code(), data{number: abis[0].numbers["read"], arch: abis[0].audit, args: [6]uint64{arg}})
		if got != want {
			t.Errorf("read(%d): got %#x, want %#x", arg, got, want)
		}
	}
}

func TestNumbersWithoutName(t *testing.T) {
	f, err := Default(nil)
	if err != nil {
		t.Fatal(err)
	}
	nosys := unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	for name, c := range map[string]struct {
		d    data
		want uint32
	}{
		"future call":           {data{arch: unix.AUDIT_ARCH_X86_64, number: 5000}, nosys},
		"future call on i386":   {data{arch: unix.AUDIT_ARCH_I386, number: 5000}, nosys},
		"hole in the table":     {data{arch: unix.AUDIT_ARCH_X86_64, number: 350}, unix.SECCOMP_RET_ERRNO | 1},
		"read on x32":           {data{arch: unix.AUDIT_ARCH_X86_64, number: x32Bit}, nosys},
		"foreign architecture":  {data{arch: unix.AUDIT_ARCH_S390X, number: 1}, unix.SECCOMP_RET_KILL_PROCESS},
		"clone3 asks for clone": {data{arch: unix.AUDIT_ARCH_X86_64, number: 435}, nosys},
	} {
		if native() != specs.ArchX86_64 {
			t.Skip("numbers of x86_64")
		}
		if got, _ := execute(t, f.Code(), c.d); got != c.want {
			t.Errorf("%s: got %#x, want %#x", name, got, c.want)
		}
	}
}

// The program is a search, not a list: no call takes long to decide.
func TestProgramIsShort(t *testing.T) {
	f, err := Default(nil)
	if err != nil {
		t.Fatal(err)
	}
	abis, _ := abisOf(profileFor(t, nil).Architectures)
	for name, nr := range abis[0].numbers {
		if _, steps := execute(t, f.Code(), data{number: nr, arch: abis[0].audit}); steps > 25 {
			t.Errorf("%s takes %d instructions", name, steps)
		}
	}
	t.Logf("%d instructions", len(f.Code()))
}

// A profile that forbids a few calls and allows the rest forbids them on x32
// too.
func TestX32IsNoWayAround(t *testing.T) {
	p := &specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow,
		Syscalls:      []specs.LinuxSyscall{{Names: []string{"mount"}, Action: specs.ActErrno}},
	}
	f, err := Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	d := data{arch: unix.AUDIT_ARCH_X86_64, number: x32Bit | 165}
	if got, _ := execute(t, f.Code(), d); native() == specs.ArchX86_64 && got != noSuchCall {
		t.Errorf("got %#x", got)
	}
}

func TestFakeIDs(t *testing.T) {
	f, err := FakeIDs()
	if err != nil {
		t.Fatal(err)
	}
	abis, _ := abisOf(nil)
	a := abis[0]
	success := unix.SECCOMP_RET_ERRNO | uint32(0)
	for _, c := range []struct {
		name string
		args [6]uint64
		want uint32
	}{
		{"fchownat", [6]uint64{}, success},
		{"setresuid", [6]uint64{}, success},
		{"mknodat", [6]uint64{0, 0, unix.S_IFCHR | 0o666}, success},
		{"mknodat", [6]uint64{0, 0, unix.S_IFBLK | 0o600}, success},
		{"mknodat", [6]uint64{0, 0, unix.S_IFIFO | 0o600}, unix.SECCOMP_RET_ALLOW},
		{"mknodat", [6]uint64{0, 0, unix.S_IFREG | 0o600}, unix.SECCOMP_RET_ALLOW},
		{"capset", [6]uint64{}, unix.SECCOMP_RET_ALLOW},
		{"openat", [6]uint64{}, unix.SECCOMP_RET_ALLOW},
	} {
		got, _ := execute(t, f.Code(), data{number: a.numbers[c.name], arch: a.audit, args: c.args})
		if got != c.want {
			t.Errorf("%s %#x: got %#x, want %#x", c.name, c.args, got, c.want)
		}
	}
}

func TestLoad(t *testing.T) {
	text, err := json.Marshal(moby.DefaultProfile())
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := Load(text, nil)
	if err != nil {
		t.Fatal(err)
	}
	own, err := Default(nil)
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(loaded) != fmt.Sprint(own) {
		t.Error("the default profile compiles to something else when it is loaded")
	}
	for text, want := range map[string]string{
		`{`: "unexpected EOF",
		`{"defaultAction":"SCMP_ACT_NOTIFY","syscalls":[]}`: `the action "SCMP_ACT_NOTIFY", which is not supported`,
		`{"defaultAction":"SCMP_ACT_ALLOW","flags":["X"]}`:  `the flag "X", which is not supported`,
		`{"defaultAction":"SCMP_ACT_ALLOW","sycalls":[]}`:   `unknown field "sycalls"`,
		`{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_VAX"],"syscalls":[{"names":["read"],"action":"SCMP_ACT_ERRNO"}]}`:       "SCMP_ARCH_VAX, which is not supported",
		`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_ERRNO","args":[{"index":6,"op":"SCMP_CMP_EQ"}]}]}`: "argument 6",
		`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_ERRNO","args":[{"index":1,"op":"SCMP_CMP_SO"}]}]}`: `the operator "SCMP_CMP_SO"`,
		`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_ERRNO","errnoRet":5000}]}`:                         "error number 5000",
	} {
		if _, err := Load([]byte(text), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}

func FuzzLoad(f *testing.F) {
	text, err := json.Marshal(moby.DefaultProfile())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_ERRNO","args":[{"index":5,"op":"SCMP_CMP_LE","value":7}]}]}`))
	f.Fuzz(func(t *testing.T, profile []byte) {
		filter, err := Load(profile, nil)
		if err != nil || len(filter.Code()) == 0 {
			return
		}
		execute(t, filter.Code(), data{number: 1, arch: unix.AUDIT_ARCH_X86_64, args: randomArgs()})
	})
}

func BenchmarkDefault(b *testing.B) {
	for b.Loop() {
		if _, err := Default(nil); err != nil {
			b.Fatal(err)
		}
	}
}
