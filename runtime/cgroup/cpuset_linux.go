package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// A set of processors or of memory nodes, as it is written into a file.
type set struct {
	what  string // for messages
	value string
}

// sets are those of the limits, by file.
func (r Resources) sets() map[string]set {
	return map[string]set{
		"cpuset.cpus": {"processors", r.CPUSetCPUs},
		"cpuset.mems": {"memory nodes", r.CPUSetMems},
	}
}

// within checks a set against what the parent group has, in a file that may be
// missing. The kernel says of all that is wrong with one that it is invalid.
func (s set) within(parent, file string) error {
	wanted, err := parseSet(s.value)
	if err != nil {
		return fmt.Errorf("%s %q: it takes numbers and ranges, such as 0-2,4", s.what, s.value)
	}
	have, err := read(parent, file)
	if errors.Is(err, fs.ErrNotExist) || have == "" {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read control group limit: %w", err)
	}
	there, err := parseSet(have)
	if err != nil {
		return fmt.Errorf("read control group limit %q: %w", have, err)
	}
	for n := range wanted {
		if !there[n] {
			return fmt.Errorf("%s %q: there is no number %d, only %s", s.what, s.value, n, have)
		}
	}
	return nil
}

// maxSetNumber is more than any kernel has processors.
const maxSetNumber = 1 << 16

// parseSet reads the kernel's list format.
func parseSet(text string) (map[int]bool, error) {
	numbers := map[int]bool{}
	for part := range strings.SplitSeq(strings.TrimSpace(text), ",") {
		from, to, isRange := strings.Cut(part, "-")
		first, err := strconv.ParseUint(from, 10, 32)
		if err != nil {
			return nil, err
		}
		last := first
		if isRange {
			if last, err = strconv.ParseUint(to, 10, 32); err != nil {
				return nil, err
			}
		}
		if last < first || last > maxSetNumber {
			return nil, fmt.Errorf("%q is no range of numbers", part)
		}
		for n := first; n <= last; n++ {
			numbers[int(n)] = true
		}
	}
	return numbers, nil
}
