package executor

import (
	"slices"
	"testing"
	"time"
)

// benchmark also reports the median and the tenth percentile: on a busy machine
// the mean tells how busy it is.
func benchmark(b *testing.B, change func(*Spec), args ...string) {
	e := newExecutor(b)
	dir := base(b)
	var times []time.Duration
	for b.Loop() {
		b.StopTimer()
		im := newImage(b, dir)
		s := &Spec{Root: im.root, Command: Command{Args: args, Env: []string{"PATH=/bin"}}}
		change(s)
		b.StartTimer()
		began := time.Now()
		if status, err := e.Run(b.Context(), s); err != nil || status.ExitCode != 0 {
			b.Fatal(status, err)
		}
		times = append(times, time.Since(began))
		b.StopTimer()
		im.root.Close()
		b.StartTimer()
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2])/1e6, "median-ms")
	b.ReportMetric(float64(times[len(times)/10])/1e6, "p10-ms")
}

func BenchmarkTrue(b *testing.B) {
	benchmark(b, func(s *Spec) { s.Network.Mode = NetworkHost }, "true")
}

func BenchmarkTrueNewNetwork(b *testing.B) { benchmark(b, func(*Spec) {}, "true") }

func BenchmarkShell(b *testing.B) {
	benchmark(b, func(s *Spec) { s.Network.Mode = NetworkHost }, "/bin/sh", "-c", "echo x > /f")
}

func BenchmarkPrivileged(b *testing.B) {
	benchmark(b, func(s *Spec) { s.Network.Mode, s.Security.Privileged = NetworkHost, true }, "true")
}
