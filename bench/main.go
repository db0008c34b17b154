// Command bench measures Strata beside buildkitd, buildah and podman, on the
// same inputs, on the same machine, in one run, and prints the ratios.
//
// A row is one kind of work: "nothing changed", "20 RUN steps". Its lanes are
// what is compared, mostly the same Dockerfile built by each of the programs.
// The lanes of a row take turns, A B C A B C, so that a machine that slows
// down slows down all of them. What a sample counts is the time from the start
// of the client's process to its end; whatever a daemon does after its answer
// is not counted.
//
// Each lane is warmed once. After that nothing is deleted until the end: a
// file system that works off deletions would be measured as well. A cold
// sample gets another value of a build argument, or a store of its own,
// instead of an emptied cache.
//
// Nothing is asserted. A lane that fails is printed with its reason, and makes
// the command exit with 1 after all rows are done.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// programs are the paths of what is measured. An empty one is not measured,
// and the table says so.
type programs struct {
	strata, buildkitd, buildctl, buildah, podman, runc string
}

// options are the command line.
type options struct {
	programs
	runs int
	rows *regexp.Regexp
	dir  string
	hold bool
}

func parseOptions() (options, error) {
	var o options
	var rows string
	flag.StringVar(&o.strata, "strata", "bin/strata", "`path` of strata")
	flag.StringVar(&o.buildkitd, "buildkitd", "", "`path` of buildkitd")
	flag.StringVar(&o.buildctl, "buildctl", "", "`path` of buildctl")
	flag.StringVar(&o.buildah, "buildah", "buildah", "`path` of buildah")
	flag.StringVar(&o.podman, "podman", "podman", "`path` of podman")
	flag.StringVar(&o.runc, "runc", "runc", "`path` of runc, for the others")
	flag.IntVar(&o.runs, "runs", 5, "samples of each lane")
	flag.StringVar(&rows, "rows", ".", "`regexp` of the rows to measure")
	flag.StringVar(&o.dir, "dir", "", "`directory` on the disk to measure, for stores and inputs (default: a temporary one)")
	flag.BoolVar(&o.hold, "hold", false, "afterwards keep the registry, the stores and the inputs until interrupted, for a profiler")
	flag.Parse()
	if flag.NArg() > 0 {
		return o, fmt.Errorf("no arguments are taken, but there is %q", flag.Arg(0))
	}
	if o.runs < 1 {
		return o, fmt.Errorf("-runs %d: at least one is needed", o.runs)
	}
	var err error
	o.rows, err = regexp.Compile(rows)
	return o, err
}

func run(ctx context.Context) error {
	o, err := parseOptions()
	if err != nil {
		return err
	}
	l, err := newLab(ctx, o)
	if err != nil {
		return err
	}
	measured, err := measureAll(l, o)
	if err == nil {
		printReport(os.Stdout, l, measured)
	}
	if err == nil && o.hold {
		fmt.Fprintf(os.Stderr, "held: %s, registry %s; interrupt to end\n", l.dir, l.registry)
		<-ctx.Done()
	}
	return errors.Join(err, failures(measured), l.close())
}

// measureAll measures every row that was asked for. A row that cannot be set
// up is kept, with its error.
func measureAll(l *lab, o options) ([]*row, error) {
	var measured []*row
	for _, def := range definitions() {
		if !o.rows.MatchString(def.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "== %s\n", def.name)
		r := &row{name: def.name, goal: def.goal}
		measured = append(measured, r)
		if r.err = def.setUp(l, r); r.err == nil {
			r.measure(l.ctx, o.runs)
		}
		if r.err != nil {
			fmt.Fprintf(os.Stderr, "   not measured: %v\n", r.err)
		}
		if err := l.ctx.Err(); err != nil {
			return nil, err
		}
	}
	return measured, nil
}

// failures sums up what could not be measured.
func failures(rows []*row) error {
	failed := 0
	for _, r := range rows {
		if r.err != nil {
			failed++
		}
		for _, l := range r.lanes {
			if l.err != nil {
				failed++
			}
		}
	}
	if failed == 0 {
		return nil
	}
	return fmt.Errorf("%d measurements failed, see the table", failed)
}
