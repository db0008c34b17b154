package seccomp

import (
	_ "embed"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

//go:embed syscalls.txt
var syscallTable string

// x32Bit marks the numbers of the x32 ABI, which shares x86_64's architecture.
// Kernels are built without it, or have it switched off; and those programs
// that exist for it are rebuilt in an hour. Every filter answers it as such a
// kernel does, with ENOSYS: that is a third less program to load for each
// process.
const x32Bit = 0x40000000

// abi is an architecture, with the numbers of its calls and a profile's rules
// for them.
type abi struct {
	arch     specs.Arch
	audit    uint32 // AUDIT_ARCH_*
	numbers  map[string]uint32
	rules    map[uint32][]rule
	fallback uint32
}

// rule says what happens to a call whose arguments meet all conditions.
type rule struct {
	action     uint32
	conditions []specs.LinuxSeccompArg
}

// column is where syscalls.txt has an architecture's numbers.
func column(arch specs.Arch) (int, uint32, error) {
	switch arch {
	case specs.ArchX86_64:
		return 1, unix.AUDIT_ARCH_X86_64, nil
	case specs.ArchX86:
		return 2, unix.AUDIT_ARCH_I386, nil
	case specs.ArchAARCH64:
		return 3, unix.AUDIT_ARCH_AARCH64, nil
	case specs.ArchARM:
		return 4, unix.AUDIT_ARCH_ARM, nil
	}
	return 0, 0, fmt.Errorf("seccomp profile is for the architecture %s, which is not supported", arch)
}

func native() specs.Arch {
	if runtime.GOARCH == "arm64" {
		return specs.ArchAARCH64
	}
	return specs.ArchX86_64
}

// abisOf are the architectures of a profile, this machine's first: nearly all
// calls are of it.
func abisOf(arches []specs.Arch) ([]*abi, error) {
	list := []*abi{}
	for _, arch := range append([]specs.Arch{native()}, arches...) {
		if arch == specs.ArchX32 || slices.ContainsFunc(list, func(a *abi) bool { return a.arch == arch }) {
			continue
		}
		a, err := newABI(arch)
		if err != nil {
			return nil, err
		}
		list = append(list, a)
	}
	return list, nil
}

func newABI(arch specs.Arch) (*abi, error) {
	col, audit, err := column(arch)
	if err != nil {
		return nil, err
	}
	a := &abi{arch: arch, audit: audit, numbers: map[string]uint32{}, rules: map[uint32][]rule{}}
	for line := range strings.Lines(syscallTable) {
		f := strings.Fields(line)
		if len(f) != 5 || f[col] == "-" {
			continue
		}
		if a.numbers[f[0]], err = number(f[col]); err != nil {
			return nil, err
		}
	}
	return a, nil
}

func number(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("read table of system calls: %w", err)
	}
	return uint32(n), nil
}

// addRules keeps the rules for the calls that exist here. A profile names the
// calls of all architectures: a name that is unknown is not an error.
func (a *abi) addRules(calls []specs.LinuxSyscall) error {
	for _, c := range calls {
		act, err := action(c.Action, c.ErrnoRet)
		if err != nil {
			return err
		}
		for _, name := range c.Names {
			if nr, ok := a.numbers[name]; ok {
				a.rules[nr] = append(a.rules[nr], split(act, c.Args)...)
			}
		}
	}
	return nil
}

// split makes a rule of conditions on different arguments one rule, and a rule
// with two conditions on the same argument one rule for each: that is how
// profiles are written, because libseccomp cannot do otherwise.
func split(act uint32, args []specs.LinuxSeccompArg) []rule {
	seen := map[uint]bool{}
	for _, arg := range args {
		if seen[arg.Index] {
			rules := make([]rule, len(args))
			for i := range args {
				rules[i] = rule{action: act, conditions: args[i : i+1]}
			}
			return rules
		}
		seen[arg.Index] = true
	}
	return []rule{{action: act, conditions: args}}
}
