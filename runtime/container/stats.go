package container

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/strata-build/strata/runtime/cgroup"
)

// Stats is what a container uses. What is not measured is 0.
type Stats struct {
	// Read is when the figures were read. It is zero for a container that
	// does not run.
	Read time.Time
	// CPU, Memory, Pids, ReadBytes and WriteBytes are the control group's.
	// Where there is none, they are summed up over the processes, memory that
	// several of them share included.
	cgroup.Stats
	// Received and Sent went through the container's network devices.
	Received, Sent uint64
}

// CPUPercent is how much of one processor was used since an earlier reading.
func (s Stats) CPUPercent(before Stats) float64 {
	passed := s.Read.Sub(before.Read)
	if before.Read.IsZero() || passed <= 0 || s.CPU < before.CPU {
		return 0
	}
	return 100 * float64(s.CPU-before.CPU) / float64(passed)
}

// Stats reads what a container uses.
func (s *Set) Stats(id string) (Stats, error) {
	rec, err := s.Get(id)
	if err != nil || rec.State.Status != Running {
		return Stats{}, err
	}
	st, err := s.stats(&rec)
	if err != nil && rec.target().Check() != nil {
		return Stats{}, nil // it has just ended
	}
	if err != nil {
		return st, fmt.Errorf("figures of container %s: %w", rec.Name, err)
	}
	return st, nil
}

func (s *Set) stats(rec *Record) (Stats, error) {
	st := Stats{Read: time.Now()}
	group, err := s.group(rec)
	if err != nil {
		return st, err
	}
	if group != nil {
		st.Stats, err = group.Stats()
		if err := errors.Join(err, group.Close()); err != nil {
			return st, err
		}
	}
	if st.CPU == 0 || st.Memory == 0 || st.Pids == 0 {
		if err := s.sumUp(rec, &st); err != nil {
			return st, err
		}
	}
	total, err := machineMemory()
	if err != nil {
		return st, err
	}
	if st.MemoryLimit == 0 || st.MemoryLimit > total {
		st.MemoryLimit = total
	}
	if mode := rec.Config.Network.Mode; mode == NetworkPrivate || mode == NetworkContainer {
		st.Received, st.Sent, err = networkBytes(rec.State.PID)
	}
	return st, err
}

// sumUp adds what the control group does not tell.
func (s *Set) sumUp(rec *Record, st *Stats) error {
	processes, err := s.processes(rec)
	if err != nil {
		return err
	}
	var sum cgroup.Stats
	for _, p := range processes {
		sum.CPU += p.CPU + p.Reaped
		sum.Memory += p.Memory
		sum.Pids += uint64(p.Threads)
	}
	st.CPU = cmp.Or(st.CPU, sum.CPU)
	st.Memory = cmp.Or(st.Memory, sum.Memory)
	st.Pids = cmp.Or(st.Pids, sum.Pids)
	return nil
}

// machineMemory is the limit of what has none.
func machineMemory() (uint64, error) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0, errors.New("the kernel does not tell the machine's memory")
	}
	kilobytes, err := strconv.ParseUint(fields[1], 10, 64)
	return kilobytes << 10, err
}

// networkBytes sums up the devices of a process' network, but for loopback.
func networkBytes(pid int) (received, sent uint64, err error) {
	f, err := os.Open(procFile(pid, "net/dev"))
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, rest, ok := strings.Cut(lines.Text(), ":")
		fields := strings.Fields(rest)
		if !ok || strings.TrimSpace(name) == "lo" || len(fields) < 9 {
			continue
		}
		in, inErr := strconv.ParseUint(fields[0], 10, 64)
		out, outErr := strconv.ParseUint(fields[8], 10, 64)
		if err := errors.Join(inErr, outErr); err != nil {
			return 0, 0, fmt.Errorf("read the figures of network device %s: %w", strings.TrimSpace(name), err)
		}
		received, sent = received+in, sent+out
	}
	return received, sent, lines.Err()
}
