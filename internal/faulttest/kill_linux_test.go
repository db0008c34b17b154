package faulttest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// everything is a build with all that a kill could break in two: two stages
// side by side, a context, a cache, and two outputs. The round enters a
// private stage alone, so that each round has steps to run, and the image is
// the same.
const everything = `
_base:  string @tag(base)
_round: string @tag(round)

images: app: {
	from: _base
	stages: {
		left: {
			from: _base
			steps: [
				"mkdir /out; echo \(_round) > /out/round",
				{run: "seq 20000 > /out/left; echo x >> /c/log", cache: ["/c"]},
			]
		}
		right: {
			from: _base
			steps: [
				{copy: "src", to: "/src"},
				"echo \(_round); cat /src/*/* | sort > /right",
			]
		}
	}
	steps: [
		{copy: "/out/left", to: "/left", from: stages.left},
		{copy: "/right", to: "/right", from: stages.right},
		{copy: "src", to: "/app"},
		"sha256sum /left /right > /sums; rm /app/0/0; ln -s /left /link",
	]
	cmd: ["cat", "/sums"]
}
`

// writeContext writes the files of the context.
func writeContext(m *machine) {
	for i := range 200 {
		m.write(fmt.Sprintf("src/%d/%d", i%10, i), fmt.Sprintf("file %d\n", i*7919))
	}
}

// TestKilledBuilds kills builds at random moments, always on one store. What
// they leave must not stand in the way of the next build, nor get into its
// image.
func TestKilledBuilds(t *testing.T) {
	const kills, kindsOfRounds, checkEach, pruneEach = 100, 3, 5, 20
	m := newMachine(t)
	base := "base=" + busybox(t)
	m.write("app.cue", everything)
	writeContext(m)
	outputs := []string{"-o", "type=image", "-o", "type=oci,dest=app.tar"}
	build := func(round int, more ...string) []string {
		args := append([]string{"--set", base, "--set", fmt.Sprintf("round=%d", round)}, outputs...)
		return append(append(args, more...), "./app.cue")
	}

	want := m.fresh().digest(build(-1)...)
	began := time.Now()
	if got := m.fresh().digest(build(-2)...); got != want {
		t.Fatalf("two empty stores give %s and %s: the test cannot compare", want, got)
	}
	usual := time.Since(began)

	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d, a build takes %v", seed, usual)
	random := rand.New(rand.NewPCG(seed, seed))
	killed := 0
	for round := 0; killed < kills; round++ {
		if round == 5*kills {
			t.Fatalf("only %d of %d builds lived long enough to be killed", killed, round)
		}
		var more []string
		if round%kindsOfRounds == 0 {
			more = []string{"--no-cache"} // what is there already is made again, and lands on what is there
		}
		if m.kill(time.Duration(random.Int64N(int64(usual))), append([]string{"build", "-q"}, build(round, more...)...)...) {
			killed++
		}
		if round%checkEach == checkEach-1 {
			if got := m.digest(build(round)...); got != want {
				t.Fatalf("after %d kills the image is %s, want %s", killed, got, want)
			}
		}
		if round%pruneEach == pruneEach-1 {
			m.succeed("prune", "--all")
		}
	}
	m.nothingRuns()
	m.nothingMounted()
	m.nothingHalfDone()
	m.succeed("prune", "--all")
	if left, err := os.ReadDir(filepath.Join(m.store, "ingest")); err != nil || len(left) != 0 {
		t.Errorf("downloads are left after prune --all: %v (%v)", left, err)
	}
	if got := m.digest(build(0)...); got != want {
		t.Fatalf("at the end the image is %s, want %s", got, want)
	}
	if got := m.digest(build(0, "--no-cache")...); got != want {
		t.Fatalf("at the end, made again, the image is %s, want %s", got, want)
	}
}

// kill starts the program and kills it after a while. It returns false when
// the program was done before.
func (m *machine) kill(after time.Duration, args ...string) bool {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), after) // whose end is a SIGKILL
	defer cancel()
	err := m.command(ctx, args...).Run()
	if err != nil && ctx.Err() == nil {
		m.t.Fatalf("a build that was not killed yet: %v", err)
	}
	return err != nil
}
