package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// definition is a row before it is set up.
type definition struct {
	name  string
	goal  goal
	setUp func(*lab, *row) error
}

// definitions are the rows.
func definitions() []definition {
	return []definition{
		{"nothing changed, 20 steps, no export", goal{"≤ 0.25", 0.25}, unchangedSteps},
		{"nothing changed, context of 20,000 files", goal{"≤ 0.15", 0.15}, unchangedContext},
		{"20 RUN steps in a row, cold", goal{"≤ 0.15, ≤ 5 ms a step", 0.15}, coldSteps},
		{"8 independent stages of equal sleep", goal{"≤ 1.2 × one stage", 1.2}, parallelStages},
		{"one file of 20,000 changed, COPY and RUN", goal{"≤ 0.4", 0.4}, changedFile},
		{"pull and unpack a Debian base", goal{"≤ 0.6", 0.6}, pullDebian},
		{"export of 1 GiB of new layers, gzip 6", goal{"≤ 0.7", 0.7}, exportLayers},
		{"solver alone, 10,000 vertices", goal{"≤ 20 µs a vertex, linear", 20e3}, solverAlone},
		{"100-image monorepo, nothing changed", goal{"≤ 150 ms", 150e6}, unchangedMonorepo},
		{"run --rm of a container that does nothing", goal{"≤ 0.5", 0.5}, runOne},
		{"20 containers in a row", goal{"≤ 0.5", 0.5}, runTwenty},
	}
}

// compareAll adds strata's ratios to the peers, by the lane of each contender.
func (r *row) compareAll(lanes map[string]*lane) {
	for _, peer := range []string{"buildkitd", "buildah"} {
		r.compare("strata ÷ "+peer, lanes["strata"], lanes[peer])
	}
}

// eachBuilds adds a lane for each contender that builds b, changed for each
// sample by vary, which may be nil.
func (r *row) eachBuilds(l *lab, b build, vary func(c contender, i int) (build, error)) {
	lanes := map[string]*lane{}
	for _, c := range l.contenders() {
		lanes[c.name()] = r.add(&lane{name: c.name(), daemon: c.daemonTime, command: func(i int) (*exec.Cmd, error) {
			if vary == nil {
				return c.build(b), nil
			}
			varied, err := vary(c, i)
			return c.build(varied), err
		}})
	}
	r.compareAll(lanes)
}

// unchangedSteps builds the same once more.
func unchangedSteps(l *lab, r *row) error {
	b, err := l.project(steps(l.busybox, 20))
	if err != nil {
		return err
	}
	r.eachBuilds(l, b, nil)
	start := r.add(&lane{name: "strata version", command: func(int) (*exec.Cmd, error) {
		return l.strata.command("version"), nil
	}})
	r.compare("strata ÷ strata version", r.lanes[0], start)
	r.note("buildah commits an image for each build, which is its cache; it has no build without")
	return nil
}

// bigContext is a project with a context of 20,000 files.
func (l *lab) bigContext(dockerfile string) (build, error) {
	b, err := l.project(dockerfile)
	if err != nil {
		return b, err
	}
	return b, manyFiles(b.context, 20000)
}

func unchangedContext(l *lab, r *row) error {
	b, err := l.bigContext(fmt.Sprintf("FROM %s\nCOPY . /src\nRUN ls /src >/list\n", l.busybox))
	if err != nil {
		return err
	}
	r.eachBuilds(l, b, nil)
	return nil
}

// coldSteps gives each sample a new build argument: the base is there, and
// every step runs. The same builds once more, with nothing to do, tell what of
// it is not the steps.
func coldSteps(l *lab, r *row) error {
	b, err := l.project(steps(l.busybox, 20))
	if err != nil {
		return err
	}
	r.eachBuilds(l, b, func(c contender, i int) (build, error) { return b.nonce("cold", i), nil })
	for _, c := range l.contenders() {
		r.add(&lane{name: c.name() + ", again", daemon: c.daemonTime, command: func(i int) (*exec.Cmd, error) {
			return c.build(b.nonce("cold", i)), nil
		}})
	}
	r.conclude = perStep
	r.note("steps have strata's default network, which is private, " +
		"and the host's in buildkitd and buildah")
	return nil
}

// perStep notes what one of the twenty steps costs.
func perStep(r *row) {
	again := map[string]*lane{}
	for _, l := range r.lanes {
		again[l.name] = l
	}
	for _, l := range r.lanes {
		if a := again[l.name+", again"]; a != nil && l.err == nil && a.err == nil {
			r.note("%s: %s a step, %s of CPU", l.name,
				show((median(l.times)-median(a.times))/20), show((median(l.cpu)-median(a.cpu))/20))
		}
	}
}

// parallelStages compares strata with itself: eight stages beside one.
func parallelStages(l *lab, r *row) error {
	eight, err := l.project(sleepers(l.busybox, 8, 1))
	if err != nil {
		return err
	}
	one, err := l.project(sleepers(l.busybox, 1, 1))
	if err != nil {
		return err
	}
	for _, c := range l.contenders() {
		lane8 := r.add(&lane{name: c.name() + ", 8 stages", daemon: c.daemonTime, command: func(i int) (*exec.Cmd, error) {
			b := eight.nonce("eight", i)
			b.jobs = jobsOf(c)
			return c.build(b), nil
		}})
		lane1 := r.add(&lane{name: c.name() + ", 1 stage", daemon: c.daemonTime, command: func(i int) (*exec.Cmd, error) {
			return c.build(one.nonce("one", i)), nil
		}})
		r.compare(c.name()+", 8 stages ÷ 1", lane8, lane1)
	}
	r.note("a stage sleeps for 1 s; buildah runs one at a time unless told, so it is given --jobs 8")
	return nil
}

// jobsOf is what a program has to be told to run eight stages at once.
func jobsOf(c contender) int {
	if c.name() == "buildah" {
		return 8
	}
	return 0
}

// changedFile changes one file before each sample.
func changedFile(l *lab, r *row) error {
	b, err := l.bigContext(fmt.Sprintf("FROM %s\nCOPY . /src\nRUN ls /src >/list\n", l.busybox))
	if err != nil {
		return err
	}
	r.eachBuilds(l, b, nil)
	for _, lane := range r.lanes {
		lane.before = func(i int) error {
			_, err := writeFile(b.context, "pkg100/file10050.txt", fmt.Sprintf("changed for %s, %d\n", lane.name, i))
			return err
		}
	}
	return nil
}

// pullDebian copies a file out of the base, so that the base has to be
// unpacked, and gives each sample a new store.
func pullDebian(l *lab, r *row) error {
	debian, err := l.debianBase()
	if err != nil {
		return err
	}
	b, err := l.project(fmt.Sprintf("FROM %s AS base\nFROM scratch\nCOPY --from=base /etc/debian_version /\n", debian))
	if err != nil {
		return err
	}
	lanes := map[string]*lane{}
	for _, c := range l.contenders() {
		var now contender
		lanes[c.name()] = r.add(&lane{
			name:   c.name(),
			daemon: func() time.Duration { return now.daemonTime() },
			before: func(int) (err error) {
				now, err = c.fresh(l)
				return err
			},
			command: func(int) (*exec.Cmd, error) { return now.build(b), nil },
			after:   func(int) error { return now.close() },
		})
	}
	r.compareAll(lanes)
	r.note("a store of its own for each sample; buildkitd's start is not counted")
	return nil
}

// exportLayers makes 1 GiB of new layers, four of them, from the files of a
// Debian base, and then measures the export of what is built.
func exportLayers(l *lab, r *row) error {
	debian, err := l.debianBase()
	if err != nil {
		return err
	}
	dockerfile := fmt.Sprintf("FROM %s\nARG NONCE\n", debian)
	for i := range 4 {
		dockerfile += fmt.Sprintf("RUN mkdir /copy%d && n=0 && "+
			"while [ $(du -sm /copy%d | cut -f1) -lt 256 ]; do cp -a /usr /copy%d/$n; n=$((n+1)); done; "+
			"echo $NONCE >/copy%d/nonce\n", i, i, i, i)
	}
	b, err := l.project(dockerfile)
	if err != nil {
		return err
	}
	built, exported := map[string]*lane{}, map[string]*lane{}
	for _, c := range l.contenders() {
		built[c.name()] = r.add(&lane{
			name: c.name() + ", building them", daemon: c.daemonTime, cold: true,
			command: func(i int) (*exec.Cmd, error) { return c.build(b.nonce("export", i)), nil },
		})
		exported[c.name()] = r.add(exportLane(l, c, b))
	}
	r.compareAll(exported)
	r.compare("building them, strata ÷ buildkitd", built["strata"], built["buildkitd"])
	r.note("four layers of 256 MiB and more, copies of Debian's /usr; they are built first, and exported then")
	return nil
}

// exportLane exports what the lane before it built in the same turn.
func exportLane(l *lab, c contender, b build) *lane {
	var archive string
	return &lane{
		name: c.name() + ", export", daemon: c.daemonTime, cold: true,
		command: func(i int) (*exec.Cmd, error) {
			archive = l.newDir("archive") + ".tar"
			w := b.nonce("export", i)
			w.archive, w.level = archive, 6
			if peer, ok := c.(*buildah); ok {
				return peer.export(w), nil
			}
			return c.build(w), nil
		},
		after: func(int) error { return os.Remove(archive) },
	}
}

// unchangedMonorepo builds a hundred images of one CUE module. The peers have
// no such thing: they get a loop over Dockerfiles that say the same.
func unchangedMonorepo(l *lab, r *row) error {
	const images = 100
	dir := l.newDir("monorepo")
	if err := monorepo(dir, l.busybox, images); err != nil {
		return err
	}
	command := func(output ...string) func(int) (*exec.Cmd, error) {
		return func(int) (*exec.Cmd, error) {
			cmd := l.strata.command(append([]string{"build", "--progress", "plain", "./..."}, output...)...)
			cmd.Dir = dir
			return cmd, nil
		}
	}
	r.add(&lane{name: "strata, CUE, to the image store", command: command()})
	r.add(&lane{name: "strata, CUE, no export", command: command("-o", "type=cacheonly")})
	for _, c := range l.contenders()[1:] {
		r.add(&lane{name: c.name() + ", a loop over Dockerfiles", daemon: c.daemonTime, command: func(int) (*exec.Cmd, error) {
			return loop(c, dir, images)
		}})
	}
	r.note("the peers build %d Dockerfiles that say the same, one after the other", images)
	return nil
}

// loop is a shell script that runs the builds of all services in a row.
func loop(c contender, dir string, images int) (*exec.Cmd, error) {
	script := "set -e\n"
	for i := range images {
		service := filepath.Join(dir, fmt.Sprintf("svc%03d", i))
		cmd := c.build(build{file: filepath.Join(service, "Dockerfile"), context: service})
		script += "'" + strings.Join(cmd.Args, "' '") + "'\n"
	}
	return exec.Command("sh", "-c", script), nil
}

// solverAlone runs the solver's own benchmark, whose operations do nothing.
func solverAlone(l *lab, r *row) error {
	out, err := exec.CommandContext(l.ctx, "go", "test", "./solver", "-run", "^$", "-benchtime", "5x",
		"-count", fmt.Sprint(l.runs), "-bench", "^BenchmarkSolve$/^(cold|cached)$").CombinedOutput()
	if err != nil {
		return fmt.Errorf("go test ./solver: %w\n%s", err, tail(string(out), 12))
	}
	for _, size := range []int{10000, 1000, 40000} {
		for _, kind := range []string{"cold", "cached"} {
			wall := perVertex(string(out), fmt.Sprintf("BenchmarkSolve/%s/%d-", kind, size), "ns/vertex")
			cpu := perVertex(string(out), fmt.Sprintf("BenchmarkSolve/%s/%d-", kind, size), "cpu-ns/vertex")
			if len(wall) == 0 {
				return fmt.Errorf("BenchmarkSolve/%s/%d printed no ns/vertex:\n%s", kind, size, out)
			}
			r.add(&lane{name: fmt.Sprintf("%s, %d, a vertex", kind, size), times: wall, cpu: cpu})
		}
	}
	r.note("the solver's own benchmark with operations that do nothing, a vertex")
	return nil
}

// perVertex picks a figure out of a benchmark's output.
func perVertex(out, benchmark, unit string) []time.Duration {
	var values []time.Duration
	for line := range strings.Lines(out) {
		if !strings.HasPrefix(line, benchmark) {
			continue
		}
		fields := strings.Fields(line)
		for i := 1; i < len(fields); i++ {
			var ns float64
			if _, err := fmt.Sscan(fields[i-1], &ns); err == nil && fields[i] == unit {
				values = append(values, time.Duration(ns))
			}
		}
	}
	return values
}
