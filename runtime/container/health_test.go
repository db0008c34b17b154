package container

import (
	"slices"
	"testing"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
)

// A check's result moves the state as docker's does.
func TestHealthStates(t *testing.T) {
	const fail, ok = 1, 0
	for _, c := range []struct {
		name     string
		from     HealthState
		codes    []int
		starting bool
		want     HealthStatus
		streak   int
	}{
		{"first success", HealthState{Status: Starting}, []int{ok}, false, Healthy, 0},
		{"a failure is none yet", HealthState{Status: Starting}, []int{fail}, false, Starting, 1},
		{"retries", HealthState{Status: Starting}, []int{fail, fail, fail}, false, Unhealthy, 3},
		{"success in between", HealthState{Status: Starting}, []int{fail, fail, ok, fail, fail}, false, Healthy, 2},
		{"while it starts", HealthState{Status: Starting}, []int{fail, fail, fail, fail}, true, Starting, 0},
		{"success while it starts", HealthState{Status: Starting}, []int{fail, ok}, true, Healthy, 0},
		{"failures count after the first success", HealthState{Status: Healthy}, []int{fail, fail, fail}, true, Unhealthy, 3},
		{"recovers", HealthState{Status: Unhealthy, FailingStreak: 9}, []int{ok}, false, Healthy, 0},
		{"a check that timed out", HealthState{Status: Healthy}, []int{-1, -1, -1}, false, Unhealthy, 3},
	} {
		h := c.from
		for _, code := range c.codes {
			h.note(HealthCheck{ExitCode: code}, &Health{Retries: 3}, c.starting)
		}
		if h.Status != c.want || h.FailingStreak != c.streak || len(h.Log) != min(len(c.codes), maxHealthLog) {
			t.Errorf("%s: got %s, streak %d, %d in the log", c.name, h.Status, h.FailingStreak, len(h.Log))
		}
	}
}

func TestHealthLogIsBounded(t *testing.T) {
	h := HealthState{}
	for i := range 20 {
		h.note(HealthCheck{ExitCode: i}, &Health{Retries: 100}, false)
	}
	if len(h.Log) != maxHealthLog || h.Log[maxHealthLog-1].ExitCode != 19 {
		t.Errorf("got %+v", h.Log)
	}
}

func TestCombineHealth(t *testing.T) {
	img := &dockerspec.HealthcheckConfig{Test: []string{"CMD", "a"}, Interval: time.Minute, Retries: 7}
	h := combineHealth(img, &Request{Health: &Health{Interval: time.Second}})
	if h == nil || h.Interval != time.Second || h.Retries != 7 || h.Timeout != defaultTimeout || !slices.Equal(h.args(), []string{"a"}) {
		t.Errorf("got %+v", h)
	}
	h = combineHealth(img, &Request{Health: &Health{Test: []string{"CMD-SHELL", "b c"}}})
	if h == nil || !slices.Equal(h.args(), []string{"/bin/sh", "-c", "b c"}) || h.Interval != time.Minute {
		t.Errorf("got %+v", h)
	}
	for name, h := range map[string]*Health{
		"switched off": combineHealth(img, &Request{NoHealth: true}),
		"NONE":         combineHealth(&dockerspec.HealthcheckConfig{Test: []string{"NONE"}}, &Request{Health: &Health{}}),
		"no test":      combineHealth(nil, &Request{Health: &Health{Interval: time.Second}}),
	} {
		if h != nil {
			t.Errorf("%s: got %+v", name, h)
		}
	}
}
