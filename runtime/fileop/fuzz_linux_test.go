package fileop_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/solver/pb"

	"github.com/strata-build/strata/internal/testenv"
)

// generator makes trees and actions out of few names, so that they meet.
type generator struct{ *rand.Rand }

func pick[T any](g generator, from ...T) T { return from[g.IntN(len(from))] }

func (g generator) name() string { return pick(g, "a", "b", "c", "d") }

func (g generator) path() string {
	p := g.name()
	for g.IntN(3) > 0 {
		p += "/" + g.name()
	}
	return p
}

// tree returns entries for newTree: no name is used below what is not a
// directory.
func (g generator) tree() []string {
	kinds := map[string]string{}
	var out []string
	for range g.IntN(14) {
		p := g.path()
		if kinds[p] != "" || !g.free(kinds, p) {
			continue
		}
		switch kind := pick(g, "file", "file", "dir", "link", "hard"); kind {
		case "file":
			kinds[p] = kind
			out = append(out, fmt.Sprintf("%s=%s%d %04o", p, p, g.IntN(3), pick(g, 0o644, 0o600, 0o4755)))
		case "dir":
			kinds[p] = kind
			out = append(out, fmt.Sprintf("%s/ %04o", p, pick(g, 0o755, 0o700, 0o1777)))
		case "link":
			kinds[p] = kind
			out = append(out, p+" -> "+pick(g, "", "/", "../", "../../")+g.path())
		case "hard":
			if first := g.file(kinds); first != "" {
				kinds[p] = "file"
				out = append(out, p+" == "+first)
			}
		}
	}
	return out
}

// free marks the parents of p as directories, if they can be.
func (g generator) free(kinds map[string]string, p string) bool {
	for d := path.Dir(p); d != "."; d = path.Dir(d) {
		if k := kinds[d]; k != "" && k != "dir" {
			return false
		}
	}
	for d := path.Dir(p); d != "."; d = path.Dir(d) {
		kinds[d] = "dir"
	}
	return true
}

func (g generator) file(kinds map[string]string) string {
	var files []string
	for p, kind := range kinds {
		if kind == "file" {
			files = append(files, p)
		}
	}
	if len(files) == 0 {
		return ""
	}
	slices.Sort(files)
	return pick(g, files...)
}

func (g generator) patterns() []string {
	var out []string
	for range g.IntN(4) {
		p := g.path()
		switch g.IntN(5) {
		case 0:
			p = strings.Replace(p, g.name(), "*", 1)
		case 1:
			p = "**/" + g.name()
		case 2:
			p = "!" + p
		case 3:
			p = path.Dir(p) + "/**"
		}
		out = append(out, p)
	}
	return out
}

func (g generator) action() *pb.FileActionCopy {
	flip := func() bool { return g.IntN(2) == 0 }
	a := action("/"+g.path(), "/"+g.path()+pick(g, "", "/", "/."))
	switch g.IntN(4) {
	case 0:
		a.Src = pick(g, "/", "/.", "/*", "/*/"+g.name(), "/"+g.name()+"/*", "/[ab]*")
	case 1:
		a.Dest = "/"
	}
	a.FollowSymlink, a.DirCopyContents, a.CreateDestPath = flip(), flip(), flip()
	a.AllowWildcard, a.AllowEmptyWildcard, a.AlwaysReplaceExistingDestPaths = flip(), flip(), flip()
	if flip() {
		a.IncludePatterns = g.patterns()
	}
	if flip() {
		a.ExcludePatterns = g.patterns()
	}
	if g.IntN(3) == 0 {
		a.Mode = pick[int32](g, 0o600, 0o755, 0o4711)
	}
	if g.IntN(3) == 0 {
		a.Timestamp = 1e9
	}
	return a
}

func FuzzCopyDoesWhatBuildKitDoes(f *testing.F) {
	testenv.Root(f) // the trees have directories without rights
	for seed := range uint64(60) {
		f.Add(binary.LittleEndian.AppendUint64(nil, seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		seed := make([]byte, 16)
		copy(seed, data)
		g := generator{rand.New(rand.NewPCG(binary.LittleEndian.Uint64(seed), binary.LittleEndian.Uint64(seed[8:])))}
		src, dst, a := g.tree(), g.tree(), g.action()
		compare(t, src, dst, a)
		if t.Failed() {
			t.Logf("src %q\ndst %q\n%v", src, dst, a)
		}
	})
}
