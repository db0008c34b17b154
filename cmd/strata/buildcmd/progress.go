package buildcmd

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/util/progress/progressui"

	"github.com/strata-build/strata/cmd/strata/cli"
)

// quietTime is how long nothing is drawn, so that a build with nothing to do
// prints its one line only.
const quietTime = 100 * time.Millisecond

// display draws the progress of a build.
type display struct {
	ui       progressui.Display
	explicit bool // the user asked for this form: it is drawn in any case
	silent   bool

	finished sync.WaitGroup
	verdict  chan bool
	drawn    bool
}

// newDisplay checks the mode.
func (a *app) newDisplay(mode string) (*display, error) {
	modes := []string{"auto", "plain", "tty", "rawjson", "quiet"}
	if !slices.Contains(modes, mode) {
		return nil, cli.Misuse("--progress %s is not known: it takes %s", mode, strings.Join(modes, ", "))
	}
	out := a.Stderr
	if mode == "rawjson" {
		out = a.Stdout
	}
	ui, err := progressui.NewDisplay(out, progressui.DisplayMode(mode))
	if err != nil {
		return nil, cli.Misuse("--progress %s: %v", mode, err)
	}
	d := &display{ui: ui, explicit: mode != "auto", silent: mode == "quiet", verdict: make(chan bool, 1)}
	return d, nil
}

// start takes the progress from ch, which the build closes.
func (d *display) start(ch <-chan *client.SolveStatus) {
	d.finished.Go(func() { d.follow(ch) })
}

// wait ends the display. It returns whether the output of failed steps was
// drawn.
func (d *display) wait(well bool) bool {
	d.verdict <- well
	d.finished.Wait()
	return d.drawn && !d.silent
}

// follow holds back what comes in the quiet time, and for as long as all that
// comes is cached; then it draws.
func (d *display) follow(ch <-chan *client.SolveStatus) {
	var held []*client.SolveStatus
	timer := time.NewTimer(quietTime)
	defer timer.Stop()
	over, busy := false, false
	for open := true; open; {
		select {
		case s, ok := <-ch:
			if open = ok; ok {
				held = append(held, s)
				busy = busy || working(s)
			}
		case <-timer.C:
			over = true
		}
		if over && busy && open {
			d.draw(held, ch)
			return
		}
	}
	if well := <-d.verdict; d.explicit || !well {
		d.draw(held, nil)
	}
}

// draw shows what was held back, and then what comes.
func (d *display) draw(held []*client.SolveStatus, rest <-chan *client.SolveStatus) {
	d.drawn = true
	all := make(chan *client.SolveStatus)
	go func() {
		defer close(all)
		for _, s := range held {
			all <- s
		}
		if rest == nil {
			return
		}
		for s := range rest {
			all <- s
		}
	}()
	// The display ends with its channel: a cancelled build closes it too.
	_, _ = d.ui.UpdateFrom(context.Background(), all)
}

// working tells whether a status speaks of work, not of what was found.
func working(s *client.SolveStatus) bool {
	return slices.ContainsFunc(s.Vertexes, func(v *client.Vertex) bool { return v.Started != nil && !v.Cached })
}
