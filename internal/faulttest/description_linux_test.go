package faulttest

import (
	"regexp"
	"strings"
	"testing"
)

// TestOddDescriptions plans and builds descriptions that cannot be built:
// each ends with an error at the user's own line, and nothing crashes.
func TestOddDescriptions(t *testing.T) {
	m := newMachine(t)
	position := regexp.MustCompile(`odd\.cue:\d+:\d+`)
	for _, c := range []struct{ name, source, says string }{
		{"an image from itself", `images: app: {from: images.app, steps: ["true"]}`, ""},
		{"two images from each other", `images: {
	a: {from: images.b, steps: ["true"]}
	b: {from: images.a, steps: ["true"]}
}`, ""},
		{"a value that is itself", `x: {a: x}
images: app: {from: x}`, ""},
		{"a string of itself", `x: "\(y)b"
y: "\(x)a"
images: app: {from: "scratch", steps: [x]}`, ""},
		{"a missing file", `images: app: {from: "scratch", steps: [{copy: "none.txt", to: "/"}]}`, "none.txt"},
		{"a missing context", `images: app: {from: "scratch", context: "none", steps: [{copy: "a", to: "/"}]}`, "none"},
		{"a missing Dockerfile", `images: app: {dockerfile: "None"}`, "None"},
		{"a missing package", `import "example.com/none"
images: app: none.image`, "none"},
		{"a missing reference", `images: app: {from: stages.none}`, "stages"},
		{"no CUE", "images: app: {{{\n", ""},
		{"not UTF-8", "images: app: {from: \"\xff\xfe\"}", ""},
		{"a number", `images: 5`, "images"},
		{"null steps", `images: app: {from: "scratch", steps: null}`, "steps"},
		{"a step with two verbs", `images: app: {from: "scratch", steps: [{run: "true", copy: "a"}]}`, ""},
		{"a step with no verb", `images: app: {from: "scratch", steps: [{}]}`, ""},
		{"a negative mode", `images: app: {from: "scratch", steps: [{mkdir: "/a", chmod: -1}]}`, "chmod"},
		{"an unknown field", `images: app: {from: "scratch", entrypiont: ["a"]}`, "entrypoint"},
		{"a name with a NUL", `images: app: {from: "scratch", steps: [{mkdir: "/a\u0000b"}]}`, ""},
		{"no concrete value", `images: app: {from: string}`, "from"},
		{"deep nesting", "images: app: " + strings.Repeat("{from: ", 300) + `5` + strings.Repeat("}", 300), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := *m
			m.t = t
			m.write("odd.cue", c.source)
			m.sane(m.run("plan", "./odd.cue").output)
			got := m.run("build", "--progress", "plain", "-o", "type=cacheonly", "./odd.cue")
			m.sane(got.output)
			if got.code != 1 && got.code != 2 {
				t.Errorf("exit code %d, want 1 or 2", got.code)
			}
			if !position.MatchString(got.output) {
				t.Errorf("the error has no position")
			}
			if !strings.Contains(got.output, c.says) {
				t.Errorf("the error does not name %q", c.says)
			}
			if t.Failed() {
				t.Logf("strata build wrote:\n%s", got.output)
			}
		})
	}
}
