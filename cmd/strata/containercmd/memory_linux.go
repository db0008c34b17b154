package containercmd

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"
)

// shrink gives back what a monitor needed to start its container and hardly
// needs again: free memory, and the pages of the program that were used on the
// way, three quarters of what it would hold for weeks. Those that are needed
// still come back from the page cache.
func shrink() {
	debug.FreeOSMemory()
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return // then it stays larger
	}
	maps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return
	}
	defer maps.Close()
	for _, m := range cleanMappings(maps, self) {
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.from, m.to-m.from, unix.MADV_DONTNEED)
	}
}

// mapping is a part of the address space.
type mapping struct{ from, to uintptr }

// cleanMappings are the parts of a program that are as in its file: they are
// not writable now, and nothing was written to them before, as a loader does
// when it relocates a program.
func cleanMappings(smaps io.Reader, program string) []mapping {
	var clean []mapping
	var m mapping
	ours := false
	for lines := bufio.NewScanner(smaps); lines.Scan(); {
		line := lines.Text()
		var at mapping
		var mode string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &at.from, &at.to, &mode); err == nil {
			m = at
			ours = mode[1] == '-' && strings.HasSuffix(line, " "+program)
		}
		if f := strings.Fields(line); ours && f[0] == "Anonymous:" && f[1] == "0" {
			clean = append(clean, m)
		}
	}
	return clean
}
