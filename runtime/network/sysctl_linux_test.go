package network

import (
	"context"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/internal/testenv"
)

// TestPortsAndPingForEverybody: as under docker, an ordinary user of a
// container binds port 80 and pings.
func TestPortsAndPingForEverybody(t *testing.T) {
	testenv.Root(t)
	p, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, mode := range []Mode{Private, None} {
		n, err := p.Namespace(context.Background(), mode)
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		err = inside(t, n.NS(), func() error {
			// The group of this thread alone, and its capabilities with it:
			// the thread ends with the test.
			if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, 33, 33, 33); errno != 0 {
				return os.NewSyscallError("setresgid", errno)
			}
			if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 33, 33, 33); errno != 0 {
				return os.NewSyscallError("setresuid", errno)
			}
			s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
			if err != nil {
				return os.NewSyscallError("socket ICMP", err)
			}
			unix.Close(s)
			s, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return os.NewSyscallError("socket", err)
			}
			defer unix.Close(s)
			return os.NewSyscallError("bind port 80", unix.Bind(s, &unix.SockaddrInet4{Port: 80}))
		})
		if err != nil {
			t.Errorf("mode %d: %v", mode, err)
		}
	}
}
