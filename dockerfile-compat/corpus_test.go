package dockerfilecompat

import (
	"bytes"
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/schema"
)

// TestCorpus converts the Dockerfiles that public Go modules hold, as files
// and in the text of their tests. Each that BuildKit accepts has to convert,
// and nearly all stages have to be native.
func TestCorpus(t *testing.T) {
	corpus := moduleDockerfiles(t)
	if len(corpus) < 200 {
		t.Fatalf("only %d Dockerfiles in the module cache: `go mod download` fetches them", len(corpus))
	}
	tally := convertAll(t, corpus)
	tally.report(t, len(corpus))
}

// report logs the figures, and wants nearly all stages to be native.
func (s *tally) report(t *testing.T, n int) {
	t.Logf("%d Dockerfiles, %d accepted by BuildKit, %d of %d stages native, %d comparisons, %s",
		n, s.accepted, s.native, s.stages, s.compared, s.took)
	for _, reason := range slices.Sorted(maps.Keys(s.reasons)) {
		t.Logf("kept %3d: %s", s.reasons[reason], reason)
	}
	if s.native*100 < s.stages*97 {
		t.Errorf("%d of %d stages are native, fewer than 97 %%", s.native, s.stages)
	}
}

// tally counts what became of Dockerfiles.
type tally struct {
	mu               sync.Mutex
	accepted, stages int
	native, compared int
	reasons          map[string]int
	took             time.Duration
}

// convertAll converts Dockerfiles by name, two at a time.
func convertAll(t *testing.T, corpus map[string]string) *tally { return convertWith(t, corpus, nil) }

// convertWith converts Dockerfiles with the flags that some of them have.
func convertWith(t *testing.T, corpus map[string]string, flags map[string]func(*Request)) *tally {
	dir := t.TempDir()
	sum := &tally{reasons: map[string]int{}}
	start := time.Now()
	var eg errgroup.Group
	eg.SetLimit(2)
	for name, text := range corpus {
		eg.Go(func() error {
			req := Request{Filename: "Dockerfile", Text: []byte(text), Context: dir, Options: testOptions()}
			if set := flags[name]; set != nil {
				set(&req)
			}
			sum.convert(t, name, req)
			return nil
		})
	}
	if err := eg.Wait(); err != nil {
		t.Fatal(err)
	}
	sum.took = time.Since(start)
	return sum
}

func (s *tally) convert(t *testing.T, name string, req Request) {
	if _, err := Compile(context.Background(), req); err != nil {
		t.Logf("not accepted: %s: %v", name, err)
		return
	}
	res, err := Convert(context.Background(), ConvertRequest{Request: req, Name: "app"})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accepted++
	if err != nil {
		t.Errorf("%s: %v\nargs %q, platforms %v\n%s", name, err, req.Options.Args, req.Platforms, req.Text)
		return
	}
	if formatted, err := schema.Format(res.CUE); err != nil || !bytes.Equal(formatted, res.CUE) {
		t.Errorf("%s: `strata fmt` changes the CUE: %v\n%s", name, err, res.CUE)
	}
	s.compared += res.Compared
	for _, st := range res.Stages {
		if st.Left {
			continue
		}
		s.stages++
		if st.Native {
			s.native++
			continue
		}
		s.reasons[st.Reason]++
	}
}

// moduleDockerfiles are the Dockerfiles in the module cache, by where they
// are: files that are called so, and strings in Go tests that begin with FROM.
func moduleDockerfiles(t testing.TB) map[string]string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOMODCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	root := strings.TrimSpace(string(out))
	corpus := map[string]string{}
	if err := collect(root, root, corpus); err != nil {
		t.Fatal(err)
	}
	return distinct(corpus)
}

// collect adds the Dockerfiles below dir, by their paths below root.
func collect(root, dir string, corpus map[string]string) error {
	return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case d.IsDir() && name == filepath.Join(root, "cache"):
			return fs.SkipDir
		case !d.Type().IsRegular():
			return nil
		}
		rel := strings.TrimPrefix(name, root+"/")
		switch {
		case isDockerfile(d.Name()):
			text, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			corpus[rel] = string(text)
		case strings.HasPrefix(rel, "github.com/moby/buildkit@") && strings.HasSuffix(name, "_test.go"):
			return quotedDockerfiles(name, rel, corpus)
		}
		return nil
	})
}

// distinct leaves one of several equal texts: the cache may hold more than one
// version of a module.
func distinct(corpus map[string]string) map[string]string {
	seen, out := map[string]bool{}, map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(corpus)) {
		if text := corpus[name]; !seen[text] {
			seen[text], out[name] = true, text
		}
	}
	return out
}

func isDockerfile(name string) bool {
	lower := strings.ToLower(name)
	return (strings.Contains(lower, "dockerfile") || strings.Contains(lower, "containerfile")) && !strings.HasSuffix(lower, ".go") && !strings.HasSuffix(lower, ".md") &&
		!strings.HasSuffix(lower, ".dockerignore")
}

// quotedDockerfiles adds the strings of a Go file that are Dockerfiles.
func quotedDockerfiles(name, rel string, corpus map[string]string) error {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, nil, 0)
	if err != nil {
		return err
	}
	ast.Inspect(file, func(n ast.Node) bool {
		lit, ok := n.(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			return true
		}
		text, err := strconv.Unquote(lit.Value)
		if err == nil && strings.Contains("\n"+text, "\nFROM ") {
			corpus[rel+":"+strconv.Itoa(fset.Position(lit.Pos()).Line)] = text
		}
		return true
	})
	return nil
}

// TestOwn converts a Dockerfile for each instruction and each flag. All of
// them are ones that BuildKit accepts.
func TestOwn(t *testing.T) {
	corpus := archived(t, "testdata/own.txtar")
	tally := convertAll(t, corpus)
	if tally.accepted != len(corpus) || len(corpus) < 150 {
		t.Errorf("BuildKit accepts %d of %d Dockerfiles, want all of at least 150", tally.accepted, len(corpus))
	}
	tally.report(t, len(corpus))
}

// TestApps converts Dockerfiles as people have them, for all kinds of programs
// and with all kinds of habits. Nothing that their authors wrote may be lost:
// the comments are in the CUE.
func TestApps(t *testing.T) {
	corpus := archived(t, "testdata/apps.txtar")
	tally := convertAll(t, corpus)
	if tally.accepted != len(corpus) || len(corpus) < 60 {
		t.Errorf("BuildKit accepts %d of %d Dockerfiles, want all of at least 60", tally.accepted, len(corpus))
	}
	tally.report(t, len(corpus))
	for name, text := range corpus {
		req := Request{Filename: "Dockerfile", Text: []byte(text), Context: t.TempDir(), Options: testOptions()}
		res, err := Convert(context.Background(), ConvertRequest{Request: req, Name: "app"})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, comment := range commentsOf(t, text) {
			if !strings.Contains(string(res.CUE), comment) {
				t.Errorf("%s: the comment %q is lost:\n%s", name, comment, res.CUE)
			}
		}
	}
}

// archived are the Dockerfiles of an archive.
func archived(t *testing.T, file string) map[string]string {
	t.Helper()
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	corpus := map[string]string{}
	for _, f := range archive.Files {
		corpus[f.Name] = string(f.Data)
	}
	return corpus
}

// commentsOf are the comment lines of a Dockerfile, without those of global
// arguments, which may be used nowhere.
func commentsOf(t *testing.T, text string) []string {
	t.Helper()
	f, err := parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	all := f.header + "\n" + f.trailer
	for _, st := range f.stages {
		all += "\n" + st.comment + "\n" + st.end
		for _, in := range st.commands {
			all += "\n" + in.comment + "\n" + in.notes()
		}
	}
	return slices.DeleteFunc(strings.Split(all, "\n"), func(line string) bool { return line == "" })
}

// BenchmarkThousand converts a thousand Dockerfiles of Go modules, or as many
// as there are, and tells the time for a thousand, on the clock and of the
// processors.
func BenchmarkThousand(b *testing.B) {
	dir := b.TempDir()
	var list []Request
	for _, text := range moduleDockerfiles(b) {
		req := Request{Filename: "Dockerfile", Text: []byte(text), Context: dir, Options: testOptions()}
		if _, err := Compile(context.Background(), req); err == nil && len(list) < 1000 {
			list = append(list, req)
		}
	}
	n, before := 0, processorTime(b)
	for b.Loop() {
		var eg errgroup.Group
		eg.SetLimit(runtime.GOMAXPROCS(0))
		for _, req := range list {
			eg.Go(func() error {
				_, err := Convert(context.Background(), ConvertRequest{Request: req, Name: "app"})
				return err
			})
		}
		if err := eg.Wait(); err != nil {
			b.Fatal(err)
		}
		n += len(list)
	}
	b.ReportMetric(b.Elapsed().Seconds()*1000/float64(n), "s/1000")
	b.ReportMetric((processorTime(b)-before).Seconds()*1000/float64(n), "cpu-s/1000")
}

// processorTime is what this process has used so far.
func processorTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
