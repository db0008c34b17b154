package userns

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// allIDs is the length of the initial user namespace's map.
const allIDs = 1<<32 - 1

// Current describes the user namespace of this process.
func Current() (Info, error) {
	users, err := readMap("/proc/self/uid_map")
	if err != nil {
		return Info{}, err
	}
	groups, err := readMap("/proc/self/gid_map")
	if err != nil {
		return Info{}, err
	}
	return Info{
		Rootless: users.count != allIDs,
		SingleID: users.count == 1,
		UID:      users.root,
		GID:      groups.root,
		IDs:      users.count,
		GroupIDs: groups.count,
	}, nil
}

// idMap is what we need to know of /proc/PID/uid_map.
type idMap struct {
	count uint64
	root  uint32 // what 0 is outside
}

func readMap(path string) (idMap, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return idMap{}, fmt.Errorf("read the ID map of the user namespace: %w", err)
	}
	return parseMap(string(text))
}

// parseMap reads lines of "INSIDE OUTSIDE COUNT".
func parseMap(text string) (idMap, error) {
	var m idMap
	for line := range strings.Lines(text) {
		var n [3]uint64
		f := strings.Fields(line)
		if len(f) != len(n) {
			return m, fmt.Errorf("ID map of the user namespace has the line %q", line)
		}
		for i := range n {
			var err error
			if n[i], err = strconv.ParseUint(f[i], 10, 32); err != nil {
				return m, fmt.Errorf("ID map of the user namespace: %w", err)
			}
		}
		if n[0] == 0 {
			m.root = uint32(n[1])
		}
		m.count += n[2]
	}
	return m, nil
}

// Sufficient tells whether this process may set up namespaces: it is root
// (of whichever user namespace) and has CAP_SYS_ADMIN there.
func Sufficient() (bool, error) {
	if unix.Geteuid() != 0 {
		return false, nil
	}
	return effective(unix.CAP_SYS_ADMIN)
}

// effective tells whether this process has a capability.
func effective(c uint) (bool, error) {
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var d [2]unix.CapUserData
	if err := unix.Capget(&h, &d[0]); err != nil {
		return false, fmt.Errorf("read capabilities: %w", err)
	}
	return d[c/32].Effective&(1<<(c%32)) != 0, nil
}
