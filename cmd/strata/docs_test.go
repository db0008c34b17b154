package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/strata-build/strata/internal/testenv"
)

// TestDocs runs what docs/images.md shows: the lines that begin with "$", and
// compares what they print. `cat FILE` of a file that is not there makes it.
func TestDocs(t *testing.T) {
	testenv.Root(t)
	page, err := os.ReadFile("../../docs/images.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	script := filepath.Join(dir, "docs.txtar")
	if err := os.WriteFile(script, []byte("docs\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Files: []string{script},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"docs": func(ts *testscript.TestScript, _ bool, _ []string) { runDocs(ts, string(page)) },
		},
		Setup: func(env *testscript.Env) error {
			root := t.TempDir()
			env.Setenv("STRATA_ROOT", root)
			env.Setenv("HOME", env.WorkDir)
			env.Defer(func() { unmountBelow(root, env.WorkDir) })
			return nil
		},
	})
}

// shown is a command of the page with what it prints.
type shown struct{ command, output string }

// shownCommands are the commands in the page's indented blocks.
func shownCommands(page string) []shown {
	var all []shown
	inside := false
	for line := range strings.Lines(page) {
		text, indented := strings.CutPrefix(line, "    ")
		command, isCommand := strings.CutPrefix(text, "$ ")
		switch {
		case indented && isCommand:
			inside = true
			all = append(all, shown{command: strings.TrimSpace(command)})
		case inside && (indented || strings.TrimSpace(line) == ""):
			all[len(all)-1].output += text
		default:
			inside = false
		}
	}
	for i := range all {
		all[i].output = strings.TrimRight(all[i].output, "\n") + "\n"
	}
	return all
}

// docsHome is the directory that the page shows.
const docsHome = "/home/ann"

var catFile = regexp.MustCompile(`^cat (\S+\.cue)$`)

func runDocs(ts *testscript.TestScript, page string) {
	work, commands := ts.Getenv("WORK"), shownCommands(page)
	if len(commands) < 10 {
		ts.Fatalf("the page shows only %d commands", len(commands))
	}
	for _, s := range commands {
		if m := catFile.FindStringSubmatch(s.command); m != nil {
			ts.Check(os.WriteFile(ts.MkAbs(m[1]), []byte(s.output), 0o600))
			continue
		}
		_ = ts.Exec("sh", "-c", s.command+" 2>&1") // the output tells
		got := strings.ReplaceAll(ts.ReadFile("stdout"), work, docsHome)
		if strings.TrimRight(got, "\n") != strings.TrimRight(s.output, "\n") {
			ts.Fatalf("$ %s\nprints\n%s\nand the page says\n%s", s.command, got, s.output)
		}
	}
}
