package cli

import (
	"bytes"
	"errors"
	"testing"
)

// TestReportIsHarmless: a name in an error does not steer the terminal.
func TestReportIsHarmless(t *testing.T) {
	var b bytes.Buffer
	a := &App{Stderr: &b}
	a.Report(errors.New("open /x\x1b[2J\r\u009by: größe\n\tnext"))
	if got, want := b.String(), "strata: open /x\ufffd[2J\ufffd\ufffdy: größe\n\tnext\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
