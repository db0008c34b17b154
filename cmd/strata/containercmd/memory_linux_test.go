package containercmd

import (
	"slices"
	"strings"
	"testing"
)

// Only what is as in the program's file is given back.
func TestCleanMappings(t *testing.T) {
	const smaps = `00400000-00401000 r-xp 00000000 fe:00 1 /bin/strata
Rss:                   4 kB
Anonymous:             0 kB
VmFlags: rd ex mr
00401000-00402000 r--p 00001000 fe:00 1 /bin/strata
Anonymous:             4 kB
00402000-00403000 rw-p 00002000 fe:00 1 /bin/strata
Anonymous:             0 kB
00403000-00404000 r--p 00002000 fe:00 1 /bin/strata
Anonymous:             0 kB
7f0000000000-7f0000001000 r-xp 00000000 fe:00 2 /lib/other /bin/strata.so
Anonymous:             0 kB
7f0000001000-7f0000002000 r--p 00000000 00:00 0
Anonymous:             0 kB
`
	want := []mapping{{0x400000, 0x401000}, {0x403000, 0x404000}}
	if got := cleanMappings(strings.NewReader(smaps), "/bin/strata"); !slices.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
}
