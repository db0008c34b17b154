package executor

import (
	"testing"
)

func TestHello(t *testing.T) {
	e := newExecutor(t)
	t.Log(sh(t, e, nil, "echo hello; id; ls -la / /dev; cat /proc/self/mountinfo; cat /proc/self/status; pwd; hostname; ls -la /proc/self/fd/; ifconfig"))
}

func BenchmarkTrue(b *testing.B) {
	e := newExecutor(b)
	dir := base(b)
	for b.Loop() {
		b.StopTimer()
		im := newImage(b, dir)
		b.StartTimer()
		r := run(b, e, func(s *Spec) { s.Root = im.root; s.Stdout, s.Stderr = nil, nil }, "true")
		if r.err != nil || r.ExitCode != 0 {
			b.Fatal(r)
		}
	}
}
