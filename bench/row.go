package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// row is one kind of work with what was measured of it.
type row struct {
	name   string
	goal   goal
	lanes  []*lane
	ratios []ratio
	notes  []string
	// conclude adds notes on what was measured; it may be nil.
	conclude func(*row)
	noise    []float64 // share of the processors that others used, before each sample
	err      error     // why there is nothing
}

// goal is what a ratio or a time is to be at most. It is printed, and nothing
// depends on it.
type goal struct {
	text string
	most float64
}

// ratio compares two lanes of a row. The goal of the row belongs to its first.
type ratio struct {
	label       string
	over, under *lane
}

// lane is one of the things that a row compares.
type lane struct {
	name string
	// before prepares sample i, outside of the measured time. Sample -1 is
	// the warming one.
	before func(i int) error
	// command is what is measured; nil where something else measured already.
	command func(i int) (*exec.Cmd, error)
	// after cleans up, outside of the measured time.
	after func(i int) error
	// daemon is the processor time of a daemon that works for the command, so
	// far; nil where there is none.
	daemon func() time.Duration
	// cold lanes are not warmed.
	cold bool

	times []time.Duration
	cpu   []time.Duration // of the command, its children and its daemon
	err   error
}

// add adds a lane.
func (r *row) add(l *lane) *lane {
	r.lanes = append(r.lanes, l)
	return l
}

// compare adds a ratio.
func (r *row) compare(label string, over, under *lane) {
	if over != nil && under != nil {
		r.ratios = append(r.ratios, ratio{label, over, under})
	}
}

// note adds a remark below the table.
func (r *row) note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

// measure warms the lanes and takes turns between them. A lane that failed
// once is not run again.
func (r *row) measure(ctx context.Context, runs int) {
	for _, l := range r.lanes {
		if l.command != nil && !l.cold {
			l.sample(ctx, -1)
		}
	}
	for i := range runs {
		for _, l := range r.lanes {
			if l.command == nil || l.err != nil || ctx.Err() != nil {
				continue
			}
			r.noise = append(r.noise, settle())
			l.sample(ctx, i)
		}
	}
	if r.conclude != nil {
		r.conclude(r)
	}
	for _, l := range r.lanes {
		if l.err != nil {
			fmt.Fprintf(os.Stderr, "   %s FAILED: %v\n", l.name, l.err)
			continue
		}
		fmt.Fprintf(os.Stderr, "   %-28s %s\n", l.name, l.summary())
	}
}

// sample takes one sample; the warming one is not kept.
func (l *lane) sample(ctx context.Context, i int) {
	if l.err = call(l.before, i); l.err != nil {
		return
	}
	cmd, err := l.command(i)
	if err != nil {
		l.err = err
		return
	}
	served := l.daemonTime()
	started := time.Now()
	if l.err = runCommand(ctx, cmd); l.err != nil {
		return
	}
	if i >= 0 {
		l.times = append(l.times, time.Since(started))
		own := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		l.cpu = append(l.cpu, own+l.daemonTime()-served)
	}
	l.err = call(l.after, i)
}

func (l *lane) daemonTime() time.Duration {
	if l.daemon == nil {
		return 0
	}
	return l.daemon()
}

func call(fn func(int) error, i int) error {
	if fn == nil {
		return nil
	}
	return fn(i)
}

// runCommand runs a command whose output matters only if it fails.
func runCommand(ctx context.Context, cmd *exec.Cmd) error {
	var out bytes.Buffer
	if cmd.Stdout == nil {
		cmd.Stdout = &out
	}
	if cmd.Stderr == nil {
		cmd.Stderr = &out
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, tail(out.String(), 12))
	}
	return nil
}

// tail is the last lines of a text.
func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// median of an odd or even number of values; 0 of none.
func median[T ~int64 | ~float64](values []T) T {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Clone(values)
	slices.Sort(sorted)
	mid := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[mid]
	}
	return (sorted[mid-1] + sorted[mid]) / 2
}

// summary is a lane's times for reading.
func (l *lane) summary() string {
	if len(l.times) == 0 {
		return "no samples"
	}
	return fmt.Sprintf("%s (%s–%s), %s of CPU",
		show(median(l.times)), show(slices.Min(l.times)), show(slices.Max(l.times)), show(median(l.cpu)))
}

// value is the quotient of the medians, and its smallest and largest among the
// turns.
func (q ratio) value() (mid, low, high float64, ok bool) {
	n := min(len(q.over.times), len(q.under.times))
	if n == 0 || q.over.err != nil || q.under.err != nil {
		return 0, 0, 0, false
	}
	var turns []float64
	for i := range n {
		turns = append(turns, float64(q.over.times[i])/float64(q.under.times[i]))
	}
	return float64(median(q.over.times)) / float64(median(q.under.times)), slices.Min(turns), slices.Max(turns), true
}

// processors is the quotient of the medians of processor time, which a busy
// machine blurs less.
func (q ratio) processors() string {
	over, under := median(q.over.cpu), median(q.under.cpu)
	if over == 0 || under == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", float64(over)/float64(under))
}

// settle lets what the last sample left reach the disk, so that the next one
// does not pay for it, and returns the share of the processors that is busy
// with something else.
func settle() float64 {
	unix.Sync()
	return busy(150 * time.Millisecond)
}
