package container

import (
	"cmp"
	"context"
	"fmt"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"

	"github.com/strata-build/strata/internal/bounded"
	"github.com/strata-build/strata/runtime/executor"
)

// Health is a command that tells whether a container does its work.
type Health struct {
	// Test is docker's: ["CMD", args…] or ["CMD-SHELL", command].
	Test []string
	// Interval is between two checks, Timeout how long one may take, and
	// StartPeriod how long failures do not count while StartInterval is
	// between the checks. Retries is how many failures in a row make the
	// container unhealthy.
	Interval, Timeout, StartPeriod, StartInterval time.Duration
	Retries                                       int
}

// docker's defaults.
const (
	defaultInterval      = 30 * time.Second
	defaultTimeout       = 30 * time.Second
	defaultStartInterval = 5 * time.Second
	defaultRetries       = 3
)

// HealthStatus is what the checks say.
type HealthStatus string

// The results of checks, by docker's names.
const (
	Starting  HealthStatus = "starting"
	Healthy   HealthStatus = "healthy"
	Unhealthy HealthStatus = "unhealthy"
)

// HealthState is the result of the checks so far.
type HealthState struct {
	Status        HealthStatus
	FailingStreak int
	// Log has the last checks.
	Log []HealthCheck
}

// HealthCheck is one check.
type HealthCheck struct {
	Start, End time.Time
	ExitCode   int
	Output     string
}

const (
	maxHealthLog    = 5
	maxHealthOutput = 4096
)

// combineHealth is the image's check with what the command line changes.
func combineHealth(img *dockerspec.HealthcheckConfig, req *Request) *Health {
	if req.NoHealth {
		return nil
	}
	h := Health{}
	if img != nil {
		h = Health{
			Test: img.Test, Interval: img.Interval, Timeout: img.Timeout,
			StartPeriod: img.StartPeriod, StartInterval: img.StartInterval, Retries: img.Retries,
		}
	}
	if over := req.Health; over != nil {
		if len(over.Test) > 0 {
			h.Test = over.Test
		}
		h.Interval = cmp.Or(over.Interval, h.Interval)
		h.Timeout = cmp.Or(over.Timeout, h.Timeout)
		h.StartPeriod = cmp.Or(over.StartPeriod, h.StartPeriod)
		h.StartInterval = cmp.Or(over.StartInterval, h.StartInterval)
		h.Retries = cmp.Or(over.Retries, h.Retries)
	}
	if len(h.Test) == 0 || h.Test[0] == "NONE" {
		return nil
	}
	h.Interval = cmp.Or(h.Interval, defaultInterval)
	h.Timeout = cmp.Or(h.Timeout, defaultTimeout)
	h.StartInterval = cmp.Or(h.StartInterval, defaultStartInterval)
	h.Retries = cmp.Or(h.Retries, defaultRetries)
	return &h
}

// args is the command line of a check.
func (h *Health) args() []string {
	if h.Test[0] == "CMD-SHELL" {
		return append([]string{"/bin/sh", "-c"}, h.Test[1:]...)
	}
	return h.Test[1:]
}

// note adds a check to the state.
func (h *HealthState) note(check HealthCheck, config *Health, starting bool) {
	h.Log = append(h.Log, check)
	if len(h.Log) > maxHealthLog {
		h.Log = h.Log[len(h.Log)-maxHealthLog:]
	}
	switch {
	case check.ExitCode == 0:
		h.Status, h.FailingStreak = Healthy, 0
	case starting && h.Status == Starting:
	default:
		if h.FailingStreak++; h.FailingStreak >= config.Retries {
			h.Status = Unhealthy
		}
	}
}

// watch checks the container's health until ctx ends.
func (l *life) watch(ctx context.Context, target executor.Target, cmd executor.Command) {
	h := l.rec.Config.Health
	began := time.Now()
	for {
		starting := time.Since(began) < h.StartPeriod
		wait := h.Interval
		if starting {
			wait = min(wait, h.StartInterval)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		check := l.check(ctx, target, cmd)
		if ctx.Err() != nil {
			return
		}
		// A state that cannot be written shows in the next command that
		// reads it; the container goes on.
		_, _ = l.m.set.update(ctx, l.rec.ID, func(rec *Record) error {
			if rec.State.Health == nil {
				rec.State.Health = &HealthState{Status: Starting}
			}
			rec.State.Health.note(check, h, starting)
			return nil
		})
	}
}

// check runs the check once.
func (l *life) check(ctx context.Context, target executor.Target, cmd executor.Command) HealthCheck {
	h := l.rec.Config.Health
	ctx, cancel := context.WithTimeout(ctx, h.Timeout)
	defer cancel()
	out := &bounded.Head{Max: maxHealthOutput}
	cmd.Args, cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Terminal = h.args(), nil, out, out, nil
	check := HealthCheck{Start: time.Now().UTC(), ExitCode: 1}
	p, err := l.exec.Exec(ctx, target, &cmd)
	if err == nil {
		var status executor.Status
		status, err = p.Wait()
		check.ExitCode = status.ExitCode
	}
	check.End, check.Output = time.Now().UTC(), out.String()
	switch {
	case ctx.Err() != nil:
		check.ExitCode = -1
		check.Output = fmt.Sprintf("the check took longer than %s", h.Timeout)
	case err != nil:
		check.ExitCode, check.Output = 1, err.Error()
	}
	return check
}
