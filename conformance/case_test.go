package conformance

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
)

// epoch is the upper bound of the times that a build makes.
var epoch = time.Date(2023, 1, 1, 0, 0, 0, 0, time.UTC)

// fileTime is the time of a case's files. No two cases have the same: buildkitd
// takes a file of another build's context for this one's, if it has the same
// name, mode, size and time.
func (c *testCase) fileTime() time.Time {
	h := fnv.New32a()
	_, _ = h.Write([]byte(c.name))
	return time.Unix(1_400_000_000+int64(h.Sum32()%200_000_000), 0)
}

// testCase is one file of testdata.
type testCase struct {
	name, file string
	args, env  []string
	setup      string
	change     string
	platforms  int
	line       int
	message    string
	archive    *txtar.Archive

	replace *strings.Replacer // what stands for itself in texts
	dir     string            // holds the context and what lies beside it
}

// context is the directory that is built, and in which both programs run.
func (c *testCase) context() string { return filepath.Join(c.dir, "context") }

// read reads a case.
func read(file string) (*testCase, error) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		return nil, err
	}
	c := &testCase{
		name: strings.TrimSuffix(filepath.Base(file), ".txtar"), file: file,
		platforms: 1, archive: archive,
	}
	described := false
	for line := range strings.Lines(string(archive.Comment)) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "#") || line == "" {
			described = described || len(line) > 2
			continue
		}
		if err := c.header(line); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	if !described {
		return nil, fmt.Errorf("%s: no comment says what it shows", file)
	}
	return c, nil
}

func (c *testCase) header(line string) (err error) {
	key, value, _ := strings.Cut(line, ": ")
	switch key {
	case "args":
		c.args = append(c.args, strings.Fields(value)...)
	case "arg":
		c.args = append(c.args, value)
	case "env":
		c.env = append(c.env, value)
	case "setup":
		c.setup += value + "\n"
	case "change":
		c.change += value + "\n"
	case "platforms":
		c.platforms, err = strconv.Atoi(value)
	case "line":
		c.line, err = strconv.Atoi(value)
	case "error":
		c.message = value
	default:
		err = fmt.Errorf("header %q is not known", line)
	}
	return err
}

// prepare makes the files of the case in its directory.
func (c *testCase) prepare(t *testing.T) {
	t.Helper()
	for i := range c.args {
		c.args[i] = c.replace.Replace(c.args[i])
	}
	if err := c.write(); err != nil {
		t.Fatal(err)
	}
	c.script(t, c.setup)
}

// script runs lines of shell in the context.
func (c *testCase) script(t *testing.T, lines string) {
	t.Helper()
	cmd := exec.Command("sh", "-euc", "umask 022\n"+c.replace.Replace(lines))
	cmd.Dir = c.context()
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com",
		"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com",
		"GIT_AUTHOR_DATE=2020-01-01T00:00:00Z", "GIT_COMMITTER_DATE=2020-01-01T00:00:00Z")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s%v\n%s", lines, err, out)
	}
}

func (c *testCase) write() error {
	if err := os.Mkdir(c.context(), 0o755); err != nil {
		return err
	}
	for _, f := range c.archive.Files {
		name := filepath.Join(c.context(), f.Name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, []byte(c.replace.Replace(string(f.Data))), 0o644); err != nil {
			return err
		}
	}
	made := c.fileTime()
	return filepath.WalkDir(c.dir, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chtimes(name, made, made)
	})
}

// has tells whether the case brings a file.
func (c *testCase) has(name string) bool {
	for _, f := range c.archive.Files {
		if f.Name == name {
			return true
		}
	}
	return false
}

// pin rewrites the error of a case that must fail.
func (c *testCase) pin(line int, message string) error {
	var comment bytes.Buffer
	for l := range strings.Lines(string(c.archive.Comment)) {
		if !strings.HasPrefix(l, "error: ") && !strings.HasPrefix(l, "line: ") {
			comment.WriteString(l)
		}
	}
	fmt.Fprintf(&comment, "line: %d\nerror: %s\n", line, message)
	c.archive.Comment = comment.Bytes()
	return os.WriteFile(c.file, txtar.Format(c.archive), 0o644)
}
