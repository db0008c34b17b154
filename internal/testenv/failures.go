package testenv

import (
	"regexp"
	"strings"
)

var (
	section = regexp.MustCompile(`^=== (?:RUN|PAUSE|CONT|NAME)\s+(\S+)\n?$`)
	verdict = regexp.MustCompile(`^\s*--- (PASS|FAIL|SKIP): (\S+)`)
)

// Failures returns what a test program that ran with -test.v printed, without
// the output of the tests that passed or were skipped. What belongs to no
// verdict, as after a panic, stays.
func Failures(out string) string {
	verdicts := map[string]string{}
	for line := range strings.Lines(out) {
		if m := verdict.FindStringSubmatch(line); m != nil {
			verdicts[m[2]] = m[1]
		}
	}
	var b strings.Builder
	test := ""
	for line := range strings.Lines(out) {
		if m := section.FindStringSubmatch(line); m != nil {
			test = m[1]
			continue
		}
		if m := verdict.FindStringSubmatch(line); m != nil {
			test = m[2]
		}
		if v := verdicts[test]; v == "" || v == "FAIL" {
			b.WriteString(line)
		}
	}
	return b.String()
}
