package testenv

import "testing"

func TestFailures(t *testing.T) {
	const out = `=== RUN   TestA
=== RUN   TestA/good
=== PAUSE TestA/good
=== RUN   TestA/bad
=== PAUSE TestA/bad
=== CONT  TestA/good
    a_test.go:1: noise
=== CONT  TestA/bad
    a_test.go:2: what went wrong
        in detail
=== NAME  TestA/good
    a_test.go:3: more noise
--- FAIL: TestA (0.00s)
    --- FAIL: TestA/bad (0.00s)
    --- PASS: TestA/good (0.00s)
=== RUN   TestB
    a_test.go:4: not here
--- SKIP: TestB (0.00s)
=== RUN   TestC
panic: all of it
`
	const want = `    a_test.go:2: what went wrong
        in detail
--- FAIL: TestA (0.00s)
    --- FAIL: TestA/bad (0.00s)
panic: all of it
`
	if got := Failures(out); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}
