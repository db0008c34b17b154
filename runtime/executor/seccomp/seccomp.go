// Package seccomp compiles seccomp profiles, docker's default one among them,
// to the BPF programs that the kernel takes. It needs no libseccomp.
//
// The kernel runs the program at every system call of the process, and once
// for every number when the program is loaded (to learn which calls it always
// allows). So the program is a binary search, not a list of comparisons:
//
//	load architecture
//	for each architecture:
//	   load number
//	   number ≥ middle? ── yes ──▶ upper half ── … ──▶ range of equal action ──▶ return
//	        └──── no ────▶ lower half ── … ──▶ one call ──▶ compare arguments ──▶ return
//	otherwise kill
//
// Neighbours that are treated alike are one range, which leaves some eighty
// ranges of docker's profile for an architecture. All architectures that the
// processor can execute are in the program: with only one of them, a process
// would call by the numbers of the other.
//
// A number above all that the profile names gets ENOSYS, not the profile's
// default: the C library then takes the older call that the profile does
// name. (runc does the same.)
package seccomp

//go:generate go run gen.go

import (
	"bytes"
	"encoding/json"
	"fmt"

	moby "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Filter is a compiled profile. It never changes, so it can be kept and used
// by many processes.
type Filter struct {
	code  []unix.SockFilter
	flags uint
}

// Unconfined returns the filter that is not loaded at all.
func Unconfined() *Filter { return &Filter{} }

// Default compiles docker's default profile for a process with these
// capabilities (CAP_NAME).
func Default(capabilities []string) (*Filter, error) {
	return fromMoby(func(s *specs.Spec) (*specs.LinuxSeccomp, error) {
		return moby.GetDefaultProfile(s)
	}, capabilities)
}

// Load compiles a profile in docker's JSON format for a process with these
// capabilities.
func Load(profile []byte, capabilities []string) (*Filter, error) {
	// A mistyped field would silently allow or forbid something else.
	d := json.NewDecoder(bytes.NewReader(profile))
	d.DisallowUnknownFields()
	if err := d.Decode(&moby.Seccomp{}); err != nil {
		return nil, fmt.Errorf("read seccomp profile: %w", err)
	}
	return fromMoby(func(s *specs.Spec) (*specs.LinuxSeccomp, error) {
		return moby.LoadProfile(string(profile), s)
	}, capabilities)
}

func fromMoby(load func(*specs.Spec) (*specs.LinuxSeccomp, error), capabilities []string) (*Filter, error) {
	s := &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: capabilities}}}
	p, err := load(s)
	if err != nil {
		return nil, fmt.Errorf("read seccomp profile: %w", err)
	}
	if p == nil {
		return Unconfined(), nil
	}
	return Compile(p)
}

// Code is the program; it must not be changed. It is empty for Unconfined.
func (f *Filter) Code() []unix.SockFilter { return f.code }

// Flags are the flags of seccomp(2).
func (f *Filter) Flags() uint { return f.flags }

// Compile compiles a profile of the OCI runtime specification.
func Compile(p *specs.LinuxSeccomp) (*Filter, error) {
	flags, err := filterFlags(p.Flags)
	if err != nil {
		return nil, err
	}
	fallback, err := action(p.DefaultAction, p.DefaultErrnoRet)
	if err != nil {
		return nil, err
	}
	abis, err := abisOf(p.Architectures)
	if err != nil {
		return nil, err
	}
	for _, a := range abis {
		a.fallback = fallback
		if err := a.addRules(p.Syscalls); err != nil {
			return nil, err
		}
	}
	code, err := assemble(abis)
	if err != nil {
		return nil, err
	}
	return &Filter{code: code, flags: flags}, nil
}

func filterFlags(names []specs.LinuxSeccompFlag) (uint, error) {
	if len(names) == 0 {
		// Without it, kernels before 5.16 turn speculation off for the
		// process, which halves the speed of some. runc has the same default.
		return unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW, nil
	}
	flags := uint(0)
	for _, n := range names {
		switch n {
		case specs.LinuxSeccompFlagLog:
			flags |= unix.SECCOMP_FILTER_FLAG_LOG
		case specs.LinuxSeccompFlagSpecAllow:
			flags |= unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
		case "SECCOMP_FILTER_FLAG_TSYNC":
			// The process has one thread.
		default:
			return 0, fmt.Errorf("seccomp profile has the flag %q, which is not supported", n)
		}
	}
	return flags, nil
}

// action is what the program returns for an action of a profile.
func action(a specs.LinuxSeccompAction, errno *uint) (uint32, error) {
	value := uint32(unix.EPERM)
	if errno != nil {
		if *errno > 4095 {
			return 0, fmt.Errorf("seccomp profile has the error number %d; the greatest is 4095", *errno)
		}
		value = uint32(*errno)
	}
	switch a {
	case specs.ActAllow:
		return unix.SECCOMP_RET_ALLOW, nil
	case specs.ActErrno:
		return unix.SECCOMP_RET_ERRNO | value, nil
	case specs.ActTrace:
		return unix.SECCOMP_RET_TRACE | value, nil
	case specs.ActTrap:
		return unix.SECCOMP_RET_TRAP, nil
	case specs.ActLog:
		return unix.SECCOMP_RET_LOG, nil
	case specs.ActKill, specs.ActKillThread:
		return unix.SECCOMP_RET_KILL_THREAD, nil
	case specs.ActKillProcess:
		return unix.SECCOMP_RET_KILL_PROCESS, nil
	}
	return 0, fmt.Errorf("seccomp profile has the action %q, which is not supported", a)
}
