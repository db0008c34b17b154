package imagecmd

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	digest "github.com/opencontainers/go-digest"
	"golang.org/x/term"

	"github.com/strata-build/strata/cmd/strata/output"
)

// transfer shows the layers of a pull or a push, which come and go in
// parallel: on a terminal as lines that move, elsewhere one line for each layer
// when it is done.
type transfer struct {
	w        io.Writer
	terminal bool
	quiet    bool // show nothing

	mu    sync.Mutex
	order []digest.Digest
	items map[digest.Digest]*transferItem
	drawn int // lines on the terminal
	last  time.Time
}

type transferItem struct {
	state         string
	offset, total int64
	done          bool
}

// drawInterval is how often a terminal is drawn anew.
const drawInterval = 100 * time.Millisecond

func (a *app) newTransfer() *transfer {
	t := &transfer{w: a.Stderr, items: map[digest.Digest]*transferItem{}}
	if f, ok := a.Stderr.(*os.File); ok {
		t.terminal = term.IsTerminal(int(f.Fd()))
	}
	return t
}

// update tells how far an item is. Items that are done stay so.
func (t *transfer) update(d digest.Digest, next transferItem) {
	if t.quiet {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	item := t.items[d]
	if item == nil {
		item = &transferItem{}
		t.items[d] = item
		t.order = append(t.order, d)
	}
	if item.done {
		return
	}
	*item = next
	switch {
	case t.terminal && (next.done || time.Since(t.last) > drawInterval):
		t.draw()
	case !t.terminal && next.done:
		fmt.Fprintf(t.w, "%s: %s\n", shortID(d), next.state)
	}
}

// draw writes all lines over those of the last time.
func (t *transfer) draw() {
	t.last = time.Now()
	var b strings.Builder
	if t.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", t.drawn)
	}
	for _, d := range t.order {
		fmt.Fprintf(&b, "\x1b[2K%s: %s\n", shortID(d), t.items[d].text())
	}
	t.drawn = len(t.order)
	_, _ = io.WriteString(t.w, b.String()) // nobody is left to tell
}

func (i transferItem) text() string {
	if i.done || i.total <= 0 {
		return i.state
	}
	return fmt.Sprintf("%s  %s/%s", i.state, output.Size(i.offset), output.Size(i.total))
}

// has reports whether an item was shown.
func (t *transfer) has(d digest.Digest) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.items[d] != nil
}
