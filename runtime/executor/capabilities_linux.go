package executor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/moby/sys/capability"
	"golang.org/x/sys/unix"
)

// capSet is a set of capabilities, by number.
type capSet uint64

func (s capSet) has(c int) bool { return s&(1<<c) != 0 }

// names lists the set as seccomp profiles name it.
func (s capSet) names() []string {
	var list []string
	for _, c := range capability.ListKnown() {
		if s.has(int(c)) {
			list = append(list, "CAP_"+strings.ToUpper(c.String()))
		}
	}
	return list
}

func parseCaps(names []string) (capSet, error) {
	known := capability.ListKnown()
	var s capSet
	for _, name := range names {
		i := slices.IndexFunc(known, func(c capability.Cap) bool {
			return "CAP_"+strings.ToUpper(c.String()) == name
		})
		if i < 0 {
			return 0, fmt.Errorf("capability %q is not known; they are named like CAP_NET_ADMIN", name)
		}
		s |= 1 << known[i]
	}
	return s, nil
}

// ownCaps are the capabilities that this process may pass on.
func ownCaps() (capSet, error) {
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var d [2]unix.CapUserData
	if err := unix.Capget(&h, &d[0]); err != nil {
		return 0, fmt.Errorf("read capabilities: %w", err)
	}
	return capSet(d[0].Permitted) | capSet(d[1].Permitted)<<32, nil
}

// capabilities are those that a command keeps.
func (e *Executor) capabilities(s *Security) (capSet, error) {
	if s.Privileged {
		return e.caps, nil
	}
	if s.Capabilities == nil {
		return e.defaultCaps, nil
	}
	set, err := parseCaps(s.Capabilities)
	if err != nil {
		return 0, err
	}
	if missing := set &^ e.caps; missing != 0 {
		return 0, fmt.Errorf("capabilities %s were asked for, but Strata itself runs without them", strings.Join(missing.names(), ", "))
	}
	return set, nil
}

// AllCapabilities are the capabilities that Linux has, as CAP_NAME.
func AllCapabilities() []string { return (^capSet(0)).names() }
