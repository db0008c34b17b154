package container

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestParseSignal(t *testing.T) {
	for text, want := range map[string]unix.Signal{
		"TERM": unix.SIGTERM, "SIGTERM": unix.SIGTERM, "term": unix.SIGTERM, "sigKill": unix.SIGKILL, "9": unix.SIGKILL, "1": unix.SIGHUP,
		"64": 64, "WINCH": unix.SIGWINCH, "RTMIN": 34, "RTMIN+3": 37, "SIGRTMIN+3": 37, "RTMAX": 64, "RTMAX-14": 50,
	} {
		if got, err := ParseSignal(text); err != nil || got != want {
			t.Errorf("%s: got %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "0", "65", "-9", "NOSUCH", "SIG", "RTMIN-1", "RTMIN+31", "RTMAX+1", "RTMIN+x", "9 ", "TERM,KILL"} {
		if got, err := ParseSignal(text); err == nil {
			t.Errorf("%q was taken for %d", text, got)
		}
	}
}

func TestStopSignalOfAnImage(t *testing.T) {
	for text, want := range map[string]unix.Signal{"": unix.SIGTERM, "QUIT": unix.SIGQUIT, "nonsense": unix.SIGTERM, "SIGRTMIN+3": 37} {
		if got := (&Record{Config: Config{StopSignal: text}}).stopSignal(); got != want {
			t.Errorf("%q: got %d, want %d", text, got, want)
		}
	}
}

func TestStopTimeout(t *testing.T) {
	after := func(d time.Duration) *time.Duration { return &d }
	for _, c := range []struct {
		given *time.Duration
		want  time.Duration
	}{{nil, DefaultStopTimeout}, {after(0), 0}, {after(3 * time.Second), 3 * time.Second}, {after(-time.Second), Forever}} {
		if got := (&Config{StopTimeout: c.given}).stopTimeout(); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}
