package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// writeFile writes an input, with its directories, and returns its path.
func writeFile(dir, name, text string) (string, error) {
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	return path, os.WriteFile(path, []byte(text), 0o644)
}

// project writes a Dockerfile with an empty context beside it.
func (l *lab) project(dockerfile string) (build, error) {
	dir := l.newDir("input")
	context := filepath.Join(dir, "context")
	if err := os.MkdirAll(context, 0o755); err != nil {
		return build{}, err
	}
	file, err := writeFile(dir, "Dockerfile", dockerfile)
	return build{file: file, context: context}, err
}

// nonce is the build argument that makes sample i of a row run anew.
func (b build) nonce(row string, i int) build {
	b.args = append([]string{fmt.Sprintf("NONCE=%s%d", row, i)}, b.args...)
	return b
}

// steps is a Dockerfile of n small RUN steps in a row.
func steps(base string, n int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "FROM %s\nARG NONCE\n", base)
	for i := range n {
		fmt.Fprintf(&b, "RUN echo %d $NONCE >/step%d\n", i, i)
	}
	return b.String()
}

// sleepers is a Dockerfile of n stages that do not depend on each other, and a
// last one that takes a file from each.
func sleepers(base string, n int, seconds float64) string {
	var b, last strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "FROM %s AS s%d\nARG NONCE\nRUN sleep %v; echo $NONCE >/f%d\n", base, i, seconds, i)
		fmt.Fprintf(&last, "COPY --from=s%d /f%d /\n", i, i)
	}
	return b.String() + "FROM scratch\n" + last.String()
}

// manyFiles fills a context with n files of a few kilobytes in directories of
// a hundred, as sources are.
func manyFiles(dir string, n int) error {
	line := "the quick brown fox jumps over the lazy dog, again and again\n"
	for i := range n {
		sub := filepath.Join(dir, fmt.Sprintf("pkg%03d", i/100))
		if i%100 == 0 {
			if err := os.MkdirAll(sub, 0o755); err != nil {
				return err
			}
		}
		text := fmt.Sprintf("file %d\n%s", i, strings.Repeat(line, 40+i%80))
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("file%05d.txt", i)), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// monorepo writes a CUE module of n images on one base, each with a step and a
// file of its own, and the same as Dockerfiles beside them.
func monorepo(dir, base string, n int) error {
	files := map[string]string{
		"cue.mod/module.cue": "module: \"example.com/mono\"\nlanguage: version: \"v0.15.0\"\n",
		"base/base.cue": fmt.Sprintf("package base\n\nimages: base: {\n\tfrom: %q\n\tsteps: [\"echo base >/base\"]\n}\n",
			base),
	}
	for i := range n {
		name := fmt.Sprintf("svc%03d", i)
		files[name+"/build.cue"] = fmt.Sprintf(`package %s

import "example.com/mono/base"

images: %s: {
	from: base.images.base
	env: SERVICE: %q
	steps: [
		"echo %s >/name",
		{copy: "main.txt", to: "/app/"},
	]
	cmd: ["cat", "/app/main.txt"]
}
`, name, name, name, name)
		files[name+"/main.txt"] = "this is " + name + "\n"
		files[name+"/Dockerfile"] = fmt.Sprintf(
			"FROM %s\nRUN echo base >/base\nENV SERVICE=%s\nRUN echo %s >/name\nCOPY main.txt /app/\nCMD [\"cat\", \"/app/main.txt\"]\n",
			base, name, name)
	}
	for name, text := range files {
		if _, err := writeFile(dir, name, text); err != nil {
			return err
		}
	}
	return nil
}
