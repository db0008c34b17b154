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
const x32Bit = 0x40000000

// x32Numbers are the calls that x32 has its own entry for.
const x32Numbers = `rt_sigaction 512 rt_sigreturn 513 ioctl 514 readv 515 writev 516 recvfrom 517
sendmsg 518 recvmsg 519 execve 520 ptrace 521 rt_sigpending 522 rt_sigtimedwait 523
rt_sigqueueinfo 524 sigaltstack 525 timer_create 526 mq_notify 527 kexec_load 528 waitid 529
set_robust_list 530 get_robust_list 531 vmsplice 532 move_pages 533 preadv 534 pwritev 535
rt_tgsigqueueinfo 536 recvmmsg 537 sendmmsg 538 process_vm_readv 539 process_vm_writev 540
setsockopt 541 getsockopt 542 io_setup 543 io_submit 544 execveat 545 preadv2 546 pwritev2 547`

// abi is an architecture, with the numbers of its calls and a profile's rules
// for them. Those of x32 lie beside x86_64's, as they do in the kernel.
type abi struct {
	arch     specs.Arch
	audit    uint32 // AUDIT_ARCH_*
	x32      bool
	numbers  map[string][]uint32
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
		a, err := newABI(arch, arch == specs.ArchX86_64 && slices.Contains(arches, specs.ArchX32))
		if err != nil {
			return nil, err
		}
		list = append(list, a)
	}
	return list, nil
}

func newABI(arch specs.Arch, x32 bool) (*abi, error) {
	col, audit, err := column(arch)
	if err != nil {
		return nil, err
	}
	a := &abi{arch: arch, audit: audit, x32: x32, numbers: map[string][]uint32{}, rules: map[uint32][]rule{}}
	for line := range strings.Lines(syscallTable) {
		f := strings.Fields(line)
		if len(f) != 5 || f[col] == "-" {
			continue
		}
		nr, err := number(f[col])
		if err != nil {
			return nil, err
		}
		a.numbers[f[0]] = []uint32{nr}
		if x32 {
			a.numbers[f[0]] = []uint32{nr, nr | x32Bit}
		}
	}
	if x32 {
		return a, a.addX32()
	}
	return a, nil
}

func (a *abi) addX32() error {
	own := strings.Fields(x32Numbers)
	for i := 0; i+1 < len(own); i += 2 {
		nr, err := number(own[i+1])
		if err != nil {
			return err
		}
		a.numbers[own[i]] = []uint32{a.numbers[own[i]][0], nr | x32Bit}
	}
	return nil
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
			for _, nr := range a.numbers[name] {
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
