package imagecmd

import (
	"strings"
	"testing"
	"time"

	digest "github.com/opencontainers/go-digest"
)

// Elsewhere than on a terminal each item is told once, when it is done.
func TestTransferLines(t *testing.T) {
	var b strings.Builder
	tr := &transfer{w: &b, items: map[digest.Digest]*transferItem{}}
	one, two := digest.FromString("1"), digest.FromString("2")
	tr.update(one, transferItem{state: "Downloading", offset: 1, total: 10})
	tr.update(two, transferItem{state: "Already exists", done: true})
	tr.update(one, transferItem{state: "Pull complete", done: true})
	tr.update(one, transferItem{state: "Pull complete", done: true})
	if want := "d4735e3a265e: Already exists\n6b86b273ff34: Pull complete\n"; b.String() != want {
		t.Errorf("shown:\n%swant:\n%s", b.String(), want)
	}
	if !tr.has(one) || tr.has(digest.FromString("3")) {
		t.Error("it does not know what it has shown")
	}
}

// On a terminal all lines are drawn over those of the last time.
func TestTransferTerminal(t *testing.T) {
	var b strings.Builder
	tr := &transfer{w: &b, terminal: true, items: map[digest.Digest]*transferItem{}}
	one, two := digest.FromString("1"), digest.FromString("2")
	tr.update(one, transferItem{state: "Downloading", offset: 1000, total: 2_500_000})
	tr.update(two, transferItem{state: "Downloading", offset: 1, total: 2}) // too soon
	if want := "\x1b[2K6b86b273ff34: Downloading  1kB/2.5MB\n"; b.String() != want {
		t.Fatalf("drawn %q, want %q", b.String(), want)
	}
	b.Reset()
	tr.last = time.Time{}
	tr.update(two, transferItem{state: "Pull complete", done: true})
	want := "\x1b[1A\x1b[2K6b86b273ff34: Downloading  1kB/2.5MB\n\x1b[2Kd4735e3a265e: Pull complete\n"
	if b.String() != want {
		t.Errorf("drawn %q, want %q", b.String(), want)
	}
	quiet := &transfer{w: &b, quiet: true, items: map[digest.Digest]*transferItem{}}
	b.Reset()
	quiet.update(one, transferItem{state: "Pull complete", done: true})
	if b.Len() > 0 {
		t.Errorf("quiet says %q", b.String())
	}
}
