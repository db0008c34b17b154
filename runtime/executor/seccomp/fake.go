package seccomp

import (
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// FakeIDs compiles a filter for user namespaces in which a single user ID is
// mapped. There, no file can be given away and no process can become somebody
// else: chown, setgroups, setuid and their like fail, and with them dpkg,
// rpm, useradd, tar and su. The filter makes these calls succeed and do
// nothing. (Charliecloud builds images in this way.)
//
// What it fakes, and what it leaves alone:
//
//   - chown and its variants. Everything belongs to the single ID, so that
//     whoever asked can use the file.
//   - setgroups, setuid, setgid and their variants: who drops privileges goes
//     on with them. Nothing is lost: the process has those of the user who
//     runs Strata, and no others. A program that looks whether it has become
//     somebody else (apt; the executor tells it not to) notices.
//   - mknod of devices, which no user namespace may do. FIFOs and sockets are
//     made as ever.
//   - Not capset, nor the setting of file capabilities: these work.
//
// It is loaded beside the profile; of two filters, the kernel takes the
// stricter result, and a faked success counts as an error.
func FakeIDs() (*Filter, error) {
	zero := uint(0)
	fake := func(names []string, args ...specs.LinuxSeccompArg) specs.LinuxSyscall {
		return specs.LinuxSyscall{Names: names, Action: specs.ActErrno, ErrnoRet: &zero, Args: args}
	}
	device := func(arg uint, kind uint64) specs.LinuxSeccompArg {
		return specs.LinuxSeccompArg{Index: arg, Op: specs.OpMaskedEqual, Value: unix.S_IFMT, ValueTwo: kind}
	}
	p := &specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow,
		Syscalls: []specs.LinuxSyscall{
			fake([]string{
				"chown", "chown32", "fchown", "fchown32", "fchownat", "lchown", "lchown32",
				"setgid", "setgid32", "setgroups", "setgroups32", "setregid", "setregid32",
				"setresgid", "setresgid32", "setresuid", "setresuid32", "setreuid", "setreuid32",
				"setuid", "setuid32",
			}),
			fake([]string{"mknod"}, device(1, unix.S_IFCHR)),
			fake([]string{"mknod"}, device(1, unix.S_IFBLK)),
			fake([]string{"mknodat"}, device(2, unix.S_IFCHR)),
			fake([]string{"mknodat"}, device(2, unix.S_IFBLK)),
		},
	}
	if native() == specs.ArchX86_64 {
		p.Architectures = []specs.Arch{specs.ArchX86_64, specs.ArchX86}
	} else {
		p.Architectures = []specs.Arch{specs.ArchAARCH64, specs.ArchARM}
	}
	return Compile(p)
}
