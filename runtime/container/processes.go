package container

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/internal/printable"
)

// Process is a process of a container, as the machine sees it.
type Process struct {
	PID, Parent int
	// UID is the effective user, by its number outside of user namespaces
	// that are below this process'.
	UID     uint32
	Started time.Time
	// CPU is the processor time of the process, Reaped that of those which it
	// has waited for.
	CPU, Reaped time.Duration
	Threads     int
	// Memory is what it has resident.
	Memory uint64
	// Terminal is the number of its terminal, 0 for none.
	Terminal uint64
	// Command is its command line, or its name in brackets. What is not
	// printable in it is replaced.
	Command string
}

// Processes lists the processes of a running container by number.
func (s *Set) Processes(id string) ([]Process, error) {
	rec, err := s.Get(id)
	if err != nil {
		return nil, err
	}
	if rec.State.Status != Running {
		return nil, fmt.Errorf("%s: %w", rec.Name, ErrNotRunning)
	}
	return s.processes(&rec)
}

func (s *Set) processes(rec *Record) ([]Process, error) {
	pids, err := s.pids(rec)
	if err != nil {
		return nil, err
	}
	boot, err := bootTime()
	if err != nil {
		return nil, err
	}
	var all []Process
	for _, pid := range pids {
		p, err := readProcess(pid, boot)
		if ended(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look at process %d of container %s: %w", pid, rec.Name, err)
		}
		all = append(all, p)
	}
	return all, nil
}

// ended tells that a process has ended while it was looked at.
func ended(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) }

// pids are the processes of the control group, or where there is none, of the
// first process' pid namespace.
func (s *Set) pids(rec *Record) ([]int, error) {
	group, err := s.group(rec)
	if err != nil {
		return nil, err
	}
	var list []int
	if group != nil {
		list, err = group.Procs()
		err = errors.Join(err, group.Close())
	} else {
		list, err = namespacePIDs(rec.State.PID)
	}
	slices.Sort(list)
	return slices.Compact(list), err
}

func namespacePIDs(first int) ([]int, error) {
	namespace, err := pidNamespace(first)
	if err != nil {
		return nil, fmt.Errorf("find the pid namespace of the container: %w", err)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var list []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		// Those that may not be looked at are not the container's.
		if ns, err := pidNamespace(pid); err == nil && ns == namespace {
			list = append(list, pid)
		}
	}
	return list, nil
}

func pidNamespace(pid int) (string, error) { return os.Readlink(procFile(pid, "ns/pid")) }

func procFile(pid int, name string) string { return "/proc/" + strconv.Itoa(pid) + "/" + name }

// ticks are the kernel's units of processor time in a second, for programs.
const ticks = 100

func fromTicks(n uint64) time.Duration { return time.Duration(n) * (time.Second / ticks) }

// bootTime is what start times count from.
func bootTime() (time.Time, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return time.Time{}, err
	}
	_, rest, _ := strings.Cut(string(text), "\nbtime ")
	line, _, _ := strings.Cut(rest, "\n")
	seconds, err := strconv.ParseInt(line, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("read the time of the machine's start: %w", err)
	}
	return time.Unix(seconds, 0), nil
}

func readProcess(pid int, boot time.Time) (Process, error) {
	p := Process{PID: pid}
	stat, err := os.ReadFile(procFile(pid, "stat"))
	if err != nil {
		return p, err
	}
	name, err := p.parse(string(stat), boot)
	if err != nil {
		return p, err
	}
	status, err := os.ReadFile(procFile(pid, "status"))
	if err != nil {
		return p, err
	}
	if p.UID, err = effectiveUID(string(status)); err != nil {
		return p, err
	}
	line, err := os.ReadFile(procFile(pid, "cmdline"))
	p.Command = commandLine(line, name)
	return p, err
}

// Fields of /proc/PID/stat, counted from the one after the name.
const (
	statParent   = 1
	statTerminal = 4
	statUser     = 11
	statSystem   = 12
	statReaped   = 13 // and the next
	statThreads  = 17
	statStart    = 19
	statResident = 21
)

// parse reads /proc/PID/stat, and returns the process' name, in which anything
// may stand, closing parentheses too.
func (p *Process) parse(text string, boot time.Time) (name string, err error) {
	begin, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	fields := strings.Fields(text[end+1:])
	if begin < 0 || end < begin || len(fields) <= statResident {
		return "", errors.New("what the kernel tells of the process is not understood")
	}
	number := func(i int) uint64 {
		n, e := strconv.ParseUint(strings.TrimPrefix(fields[i], "-"), 10, 64)
		err = errors.Join(err, e)
		return n
	}
	p.Parent, p.Terminal, p.Threads = int(number(statParent)), number(statTerminal), int(number(statThreads))
	p.CPU = fromTicks(number(statUser) + number(statSystem))
	p.Reaped = fromTicks(number(statReaped) + number(statReaped+1))
	p.Started = boot.Add(fromTicks(number(statStart)))
	p.Memory = number(statResident) * uint64(os.Getpagesize())
	return text[begin+1 : end], err
}

// effectiveUID is the second number of the line "Uid:" of /proc/PID/status.
func effectiveUID(status string) (uint32, error) {
	_, rest, _ := strings.Cut(status, "\nUid:")
	line, _, _ := strings.Cut(rest, "\n")
	fields := strings.Fields(line)
	if len(fields) < 2 {
		return 0, errors.New("the kernel does not tell the user of the process")
	}
	n, err := strconv.ParseUint(fields[1], 10, 32)
	return uint32(n), err
}

func commandLine(line []byte, name string) string {
	line = bytes.TrimRight(line, "\x00")
	if len(line) == 0 {
		return printable.Text("["+name+"]", '?')
	}
	return printable.Text(strings.ReplaceAll(string(line), "\x00", " "), '?')
}
