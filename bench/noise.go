package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// noisy is the share of busy processors between samples from which on a
// machine is called noisy.
const noisy = 0.10

// busy watches the processors for a while and returns the share of their time
// that was not idle; 0 where the kernel does not tell.
func busy(d time.Duration) float64 {
	idle0, total0 := processorTicks()
	time.Sleep(d)
	idle1, total1 := processorTicks()
	if total1 <= total0 {
		return 0
	}
	return 1 - float64(idle1-idle0)/float64(total1-total0)
}

// processorTicks reads the first line of /proc/stat: user, nice, system, idle,
// iowait, irq, softirq, steal.
func processorTicks() (idle, total uint64) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0
	}
	line, _, _ := strings.Cut(string(data), "\n")
	fields := strings.Fields(line)
	for i := 1; i < len(fields) && i <= 8; i++ {
		n, err := strconv.ParseUint(fields[i], 10, 64)
		if err != nil {
			return 0, 0
		}
		total += n
		if i == 4 || i == 5 {
			idle += n
		}
	}
	return idle, total
}

// ticksPerSecond is the unit of the times in /proc, which is the same on every
// architecture of Linux that Go knows.
const ticksPerSecond = 100

// processTime is the processor time of a process and the children that it
// waited for: fields 14 to 17 of its stat, counted behind the name, which may
// hold spaces. It is 0 when the process is gone.
func processTime(pid int) time.Duration {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	text := string(data)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	var ticks uint64
	for i := 11; i <= 14 && i < len(fields); i++ {
		n, err := strconv.ParseUint(fields[i], 10, 64)
		if err != nil {
			return 0
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / ticksPerSecond
}
