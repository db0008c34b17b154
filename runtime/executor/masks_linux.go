package executor

import (
	"errors"
	"os"
	"slices"
	"strconv"

	"github.com/strata-build/strata/runtime/executor/program"
	"golang.org/x/sys/unix"
)

// maskedDirs and maskedFiles tell a process about the machine, or about other
// processes; readOnlyPaths change the machine. They are docker's lists.
func maskedDirs() []string {
	return []string{
		"/proc/acpi", "/proc/asound", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
	}
}

func maskedFiles() []string {
	return []string{
		"/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug",
		"/proc/timer_list", "/proc/timer_stats",
	}
}

func readOnlyPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}

// mask covers the sensitive paths. Each is opened below the very proc or sysfs
// mount that was attached, without crossing a symlink, and covered by
// descriptor: there is no path that the image or another process
// could have changed (CVE-2019-19921, CVE-2025-31133, CVE-2025-52565). What
// covers it is the null device of the host, whose number was checked
// (CVE-2025-31133: runc took the image's), or an empty directory of ours.
func (s *step) mask() {
	for _, p := range slices.Concat(maskedDirs(), s.e.throttles) {
		s.cover(p, launcherEmpty)
	}
	for _, p := range maskedFiles() {
		s.cover(p, launcherNull)
	}
	for _, p := range readOnlyPaths() {
		s.protect(p)
	}
}

// sensitive opens a path below /proc or /sys, or goes on at missing.
func (s *step) sensitive(what, p string, missing *program.Label) (program.Arg, bool) {
	top := "/" + split(p)[0]
	m, ok := s.tree.mounts[top]
	if !ok {
		return program.Arg{}, false
	}
	base := m.arg
	if m.file != nil {
		base = fd(m.file)
	}
	// Other mounts may be crossed: those of the spec, which must not uncover a
	// path, and the host's where its /proc was cloned.
	const resolve = insideMount &^ unix.RESOLVE_NO_XDEV
	call := s.open(what, base, p[len(top)+1:], unix.O_PATH|unix.O_NOFOLLOW, resolve)
	call.Ignore, call.Else = []unix.Errno{unix.ENOENT}, missing
	return s.Add(call), true
}

// cover mounts a thing of the launcher's namespace, which the child's began
// as a copy of, over p.
func (s *step) cover(p, with string) {
	what := "mask " + p
	var missing program.Label
	target, ok := s.sensitive(what, p, &missing)
	if !ok {
		return
	}
	mask := s.Add(program.Call{
		What: what, Number: unix.SYS_OPEN_TREE,
		Args: program.Args{
			program.Int(unix.AT_FDCWD), s.String("/" + with), program.Int(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC),
		},
	})
	s.attach(what, mask, target)
	s.close(mask, target)
	s.Place(&missing)
}

func (s *step) protect(p string) {
	what := "make " + p + " read-only"
	var missing program.Label
	if target, ok := s.sensitive(what, p, &missing); ok {
		c := s.clone(what, target, unix.AT_RECURSIVE)
		s.setReadOnly(what, c)
		s.attach(what, c, target)
		s.close(c, target)
		s.Place(&missing)
	}
}

// throttles are directories of /sys, one for each processor, that docker masks
// since they tell how hot the machine is.
func throttles() ([]string, error) {
	entries, err := os.ReadDir("/sys/devices/system/cpu")
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var list []string
	for _, e := range entries {
		n, ok := cutPrefixNumber(e.Name(), "cpu")
		if !ok {
			continue
		}
		p := "/sys/devices/system/cpu/cpu" + strconv.Itoa(n) + "/thermal_throttle"
		if _, err := os.Stat(p); err == nil {
			list = append(list, p)
		}
	}
	return list, err
}

func cutPrefixNumber(s, prefix string) (int, bool) {
	if len(s) <= len(prefix) || s[:len(prefix)] != prefix {
		return 0, false
	}
	n, err := strconv.Atoi(s[len(prefix):])
	return n, err == nil
}
