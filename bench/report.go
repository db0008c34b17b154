package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// show writes a time with the digits that mean something.
func show(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d >= time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d >= 10*time.Millisecond:
		return fmt.Sprintf("%.0f ms", d.Seconds()*1e3)
	case d >= time.Millisecond:
		return fmt.Sprintf("%.1f ms", d.Seconds()*1e3)
	}
	return fmt.Sprintf("%.1f µs", d.Seconds()*1e6)
}

// printReport prints the table of ratios, the times behind it, and what could
// not be measured.
func printReport(w io.Writer, l *lab, rows []*row) {
	fmt.Fprintf(w, "%s\n\n", machine(l))
	fmt.Fprintln(w, "| work | goal | time | lowest–highest | of CPU | |\n| --- | --- | --- | --- | --- | --- |")
	for _, r := range rows {
		r.printRatios(w)
	}
	fmt.Fprintln(w, "\n| work | lane | median | lowest–highest | CPU |\n| --- | --- | --- | --- | --- |")
	for _, r := range rows {
		r.printLanes(w)
	}
	printNotes(w, rows)
}

// machine says what the figures were measured on.
func machine(l *lab) string {
	var u unix.Utsname
	kernel := "?"
	if unix.Uname(&u) == nil {
		kernel = unix.ByteSliceToString(u.Release[:])
	}
	return fmt.Sprintf("%d processors (%s), Linux %s, %s; %s; %s",
		runtime.NumCPU(), processorModel(), kernel, time.Now().Format("2006-01-02 15:04 MST"),
		strings.Join(l.versions, ", "), plural(l.runs, "run"))
}

func processorModel() string {
	data, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(data)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

func (r *row) printRatios(w io.Writer) {
	if r.err != nil {
		fmt.Fprintf(w, "| %s | %s | NOT MEASURED: %s | | | |\n", r.name, r.goal.text, firstLine(r.err))
		return
	}
	for i, q := range r.ratios {
		goalText, verdict := "", ""
		mid, low, high, ok := q.value()
		if i == 0 {
			goalText = r.goal.text
			verdict = r.goal.verdict(mid, ok)
		}
		if !ok {
			fmt.Fprintf(w, "| %s: %s | %s | NOT MEASURED: %s | | | |\n", r.name, q.label, goalText, q.reason())
			continue
		}
		fmt.Fprintf(w, "| %s: %s | %s | %.2f | %.2f–%.2f | %s | %s |\n", r.name, q.label, goalText, mid, low, high, q.processors(), verdict)
	}
	if len(r.ratios) == 0 {
		r.printAbsolute(w)
	}
}

// printAbsolute prints a row whose goal is no ratio.
func (r *row) printAbsolute(w io.Writer) {
	l := r.lanes[0]
	if l.err != nil {
		fmt.Fprintf(w, "| %s | %s | NOT MEASURED: %s | | | |\n", r.name, r.goal.text, firstLine(l.err))
		return
	}
	mid := median(l.times)
	fmt.Fprintf(w, "| %s | %s | %s | %s–%s | %s | %s |\n", r.name, r.goal.text, show(mid),
		show(slices.Min(l.times)), show(slices.Max(l.times)), show(median(l.cpu)), r.goal.verdict(float64(mid), true))
}

// verdict compares with the goal.
func (g goal) verdict(value float64, ok bool) string {
	switch {
	case !ok || g.most == 0:
		return ""
	case value <= g.most:
		return "reached"
	}
	return "MISSED"
}

// reason is why a ratio has no value.
func (q ratio) reason() string {
	for _, l := range []*lane{q.over, q.under} {
		if l.err != nil {
			return l.name + ": " + firstLine(l.err)
		}
	}
	return "no samples"
}

func (r *row) printLanes(w io.Writer) {
	for _, l := range r.lanes {
		if l.err != nil || len(l.times) == 0 {
			fmt.Fprintf(w, "| %s | %s | FAILED | | |\n", r.name, l.name)
			continue
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s–%s | %s |\n", r.name, l.name,
			show(median(l.times)), show(slices.Min(l.times)), show(slices.Max(l.times)), show(median(l.cpu)))
	}
}

// printNotes prints remarks, how busy the machine was, and each failure with
// the program's own words.
func printNotes(w io.Writer, rows []*row) {
	fmt.Fprintln(w)
	for _, r := range rows {
		for _, n := range r.notes {
			fmt.Fprintf(w, "- %s: %s\n", r.name, n)
		}
		if share := median(r.noise); share > noisy {
			fmt.Fprintf(w, "- %s: THE MACHINE WAS NOISY: %.0f %% of its processors were busy between the samples\n", r.name, share*100)
		}
	}
	for _, r := range rows {
		if r.err != nil {
			fmt.Fprintf(w, "\nNOT MEASURED: %s: %v\n", r.name, r.err)
		}
		for _, l := range r.lanes {
			if l.err != nil {
				fmt.Fprintf(w, "\nFAILED: %s, %s: %v\n", r.name, l.name, l.err)
			}
		}
	}
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
