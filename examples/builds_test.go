package examples

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestIndex: every example has a README, and is in the index.
func TestIndex(t *testing.T) {
	index, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if !strings.Contains(string(index), "| ["+e.Name()+"]("+e.Name()+") | ") {
			t.Errorf("%s is not in README.md", e.Name())
		}
		if _, err := os.Stat(filepath.Join(e.Name(), "README.md")); err != nil {
			t.Error(err)
		}
	}
}

// TestMultistage builds a program with and without its compiler.
func TestMultistage(t *testing.T) {
	u := in(t, "multistage")
	base := u.debian()
	u.strata("build", "--progress", "plain", "--set", "base="+base, ".")
	for file, image := range map[string]string{"Dockerfile.single": "hello-single", "Dockerfile.index": "hello-multi", "Dockerfile": "hello-multi"} {
		tag := "hello:" + strings.ToLower(file)
		u.strata("build", "-f", file, "-t", tag, "--build-arg", "base="+base, ".")
		if cue, docker := u.id(image), u.id(tag); cue != docker {
			t.Errorf("the CUE's %s is image %s, that of %s %s", image, cue, file, docker)
		}
		if out := u.strata("run", "--rm", tag); out != "Hello from C!" {
			t.Errorf("the image of %s says %q", file, out)
		}
	}
	u.strata("pull", base)
	single, multi, alone := u.size("hello-single"), u.size("hello-multi"), u.size(base)
	t.Logf("single stage: %d bytes, two stages: %d, base: %d", single, multi, alone)
	if over := multi - alone; over <= 0 || over > 100_000 {
		t.Errorf("two stages add %d bytes to the base", over)
	}
	if over := single - alone; over < 30_000_000 {
		t.Errorf("one stage adds only %d bytes to the base, with a compiler", over)
	}
}

// TestEntrypoint runs the table of the README.
func TestEntrypoint(t *testing.T) {
	u := in(t, "entrypoint")
	base := u.busybox()
	u.strata("build", "--set", "base="+base, ".")
	rows := table(t, "entrypoint/README.md")
	if len(rows) != 9 {
		t.Fatalf("the table has %d rows", len(rows))
	}
	for _, row := range rows {
		image, plain, withArgs := row[0], row[3], row[4]
		t.Run(image, func(t *testing.T) {
			u := user{T: t, dir: u.dir}
			u.dockerfile(image+":dockerfile", base, "--target", image)
			if cue, docker := u.id(image), u.id(image+":dockerfile"); cue != docker {
				t.Errorf("the CUE is image %s, the Dockerfile %s", cue, docker)
			}
			u.says(plain, image)
			u.says(withArgs, image, "show", "a", "b")
		})
	}
}

// says runs an image, which must print a line, or have nothing to run.
func (u user) says(want string, args ...string) {
	u.Helper()
	got := u.try(append([]string{"run", "--rm"}, args...)...)
	if want == "error" {
		if got.code != 125 || !strings.Contains(got.stderr, "no command") {
			u.Errorf("%v ends with %v, want an error", args, got)
		}
		return
	}
	if got.code != 0 || got.stdout != want+"\n" {
		u.Errorf("%v says %v, want %s", args, got, want)
	}
}

// table reads the rows of the table in a Markdown file, as cells without their
// quotes.
func table(t *testing.T, file string) [][]string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var rows [][]string
	for line := range strings.Lines(string(data)) {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		var row []string
		for _, cell := range strings.Split(strings.Trim(line, "|\n"), "|") {
			row = append(row, strings.Trim(cell, " `"))
		}
		rows = append(rows, row)
	}
	return rows
}
