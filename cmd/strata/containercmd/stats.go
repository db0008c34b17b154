package containercmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/strata-build/strata/cmd/strata/output"
	"github.com/strata-build/strata/runtime/container"
)

type statsOptions struct {
	all, once, whole bool
	format           string
}

func (a *app) statsCommand() *cobra.Command {
	var o statsOptions
	cmd := &cobra.Command{
		Use:   "stats [flags] [CONTAINER...]",
		Short: "Show what containers use, once a second",
		Long: "Show what containers use, once a second: of those that are named, or of all that run. Where a\n" +
			"container has no control group, the figures are summed up over its processes.",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.peekContainers(cmd.Context(), func(s *container.Set) error { return a.stats(cmd.Context(), s, &o, args) })
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.all, "all", "a", false, "show also those that do not run")
	f.BoolVar(&o.once, "no-stream", false, "show one reading, and end")
	f.BoolVar(&o.whole, "no-trunc", false, "print whole ids")
	f.StringVar(&o.format, "format", "", "table, json, or a Go template for each container")
	return cmd
}

// statsRow is what --format can name; the fields are docker's.
type statsRow struct {
	BlockIO, CPUPerc, Container, ID, MemPerc, MemUsage, Name, NetIO, PIDs string
}

var statsHeadings = statsRow{
	BlockIO: "BLOCK I/O", CPUPerc: "CPU %", Container: "CONTAINER", ID: "CONTAINER ID", MemPerc: "MEM %",
	MemUsage: "MEM USAGE / LIMIT", Name: "NAME", NetIO: "NET I/O", PIDs: "PIDS",
}

const statsTable = "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}"

// statsInterval is the time between two readings, over which the use of the
// processor is measured.
const statsInterval = time.Second

// statsReader takes one reading after the other.
type statsReader struct {
	*statsOptions
	set   *container.Set
	names []string
	// before is the last reading, by the containers' ids.
	before map[string]container.Stats
}

// stats shows readings until the context ends, or all that were named are gone.
func (a *app) stats(ctx context.Context, s *container.Set, o *statsOptions, names []string) error {
	r := statsReader{o, s, names, map[string]container.Stats{}}
	if _, err := r.read(ctx); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(statsInterval):
		}
		l, err := r.read(ctx)
		if err == nil {
			err = a.showStats(l, o)
		}
		if err != nil || o.once || len(names) > 0 && len(l.Rows) == 0 {
			return err
		}
	}
}

// read makes the rows of one reading.
func (r *statsReader) read(ctx context.Context) (output.Listing, error) {
	l := output.Listing{Table: statsTable, Headers: statsHeadings}
	all, err := r.choose(ctx)
	for i := range all {
		rec := &all[i].Record
		now, err := r.set.Stats(rec.ID)
		if errors.Is(err, container.ErrNotFound) {
			continue // removed meanwhile
		}
		if err != nil {
			return l, err
		}
		row := describeStats(now, r.before[rec.ID])
		row.Container, row.ID, row.Name = all[i].name, containerID(rec, r.whole), rec.Name
		l.Rows = append(l.Rows, row)
		r.before[rec.ID] = now
	}
	return l, err
}

// namedContainer is a container by the name that the user has for it.
type namedContainer struct {
	container.Record
	name string
}

func (r *statsReader) choose(ctx context.Context) ([]namedContainer, error) {
	var chosen []namedContainer
	for _, name := range r.names {
		rec, err := r.set.Find(ctx, name)
		if errors.Is(err, container.ErrNotFound) && len(r.before) > 0 {
			continue // it was there before, and has been removed
		}
		if err != nil {
			return nil, err
		}
		chosen = append(chosen, namedContainer{rec, name})
	}
	if len(r.names) > 0 {
		return chosen, nil
	}
	all, err := r.set.List(ctx)
	for _, rec := range all {
		if r.all || rec.State.Live() {
			chosen = append(chosen, namedContainer{rec, containerID(&rec, r.whole)})
		}
	}
	return chosen, err
}

func describeStats(now, before container.Stats) statsRow {
	percent := 0.0
	if now.MemoryLimit > 0 {
		percent = 100 * float64(now.Memory) / float64(now.MemoryLimit)
	}
	return statsRow{
		CPUPerc:  fmt.Sprintf("%.2f%%", now.CPUPercent(before)),
		MemUsage: units.BytesSize(float64(now.Memory)) + " / " + units.BytesSize(float64(now.MemoryLimit)),
		MemPerc:  fmt.Sprintf("%.2f%%", percent),
		NetIO:    bytePair(now.Received, now.Sent), BlockIO: bytePair(now.ReadBytes, now.WriteBytes),
		PIDs: fmt.Sprint(now.Pids),
	}
}

func bytePair(a, b uint64) string {
	const precision = 3 // docker's
	return units.HumanSizeWithPrecision(float64(a), precision) + " / " + units.HumanSizeWithPrecision(float64(b), precision)
}

// showStats writes a reading; on a terminal, in the place of the last.
func (a *app) showStats(l output.Listing, o *statsOptions) error {
	var b bytes.Buffer
	if f, ok := a.Stdout.(*os.File); ok && !o.once && o.format != output.JSON && term.IsTerminal(int(f.Fd())) {
		b.WriteString("\x1b[H\x1b[J")
	}
	if err := l.Print(&b, o.format); err != nil {
		return err
	}
	_, err := a.Stdout.Write(b.Bytes())
	return err
}
