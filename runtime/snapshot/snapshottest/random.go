package snapshottest

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

var epoch = time.Unix(1_000_000_000, 0)

// testRandom builds stacks of layers with random changes.
func testRandom(s *suite) {
	for seed := range uint64(6) {
		m := &mutator{s: s, r: rand.New(rand.NewPCG(seed, 0))}
		var ids []string
		for step := range 6 {
			o := s.prepare(ids...)
			m.mutate(o.root, 25)
			want := s.describe(o.root)
			id := fmt.Sprintf("s%d-%d", seed, step)
			s.commit(id, o)
			ids = append(ids, id)
			s.same(fmt.Sprintf("seed %d, after step %d", seed, step), s.describe(s.view(ids...).root), want)
			if s.t.Failed() {
				return
			}
		}
	}
}

// mutator changes trees at random. Operations that do not apply fail and
// change nothing.
type mutator struct {
	s     *suite
	r     *rand.Rand
	count int
}

func (m *mutator) mutate(root string, n int) {
	for range n {
		m.one(root)
	}
}

func (m *mutator) one(root string) {
	m.count++
	content := []byte(strconv.Itoa(m.count))
	dir := m.pick(root, fs.ModeDir)
	file := m.pick(root, 0)
	fresh := filepath.Join(dir, "n"+strconv.Itoa(m.r.IntN(8)))
	switch m.r.IntN(14) {
	case 0, 1, 2:
		_ = os.WriteFile(fresh, content, 0o644)
	case 3, 4:
		_ = os.Mkdir(fresh, 0o755)
	case 5:
		_ = os.Remove(file)
	case 6:
		m.removeDir(root, dir)
	case 7: // a directory in the place of another: opaque in the layer
		m.removeDir(root, dir)
		_ = os.Mkdir(dir, 0o700)
	case 8:
		_ = os.Symlink(string(content), fresh)
	case 9:
		_ = os.Link(file, fresh)
	case 10:
		_ = os.Rename(file, fresh)
	case 11:
		_ = os.Chmod(m.pick(root, fs.ModeDir), fs.FileMode(0o700+m.r.IntN(64)))
	case 12:
		_ = unix.Lsetxattr(file, "user.n"+strconv.Itoa(m.r.IntN(3)), content, 0)
	case 13:
		f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND|unix.O_NOFOLLOW, 0)
		if err == nil {
			_, _ = f.Write(content)
			_ = f.Close()
		}
	}
}

func (m *mutator) removeDir(root, dir string) {
	if dir != root+"/." {
		_ = os.RemoveAll(dir)
	}
}

// pick returns a random directory, or a random other file.
func (m *mutator) pick(root string, kind fs.FileMode) string {
	list := []string{}
	err := filepath.WalkDir(root+"/.", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type()&fs.ModeDir == kind {
			list = append(list, path)
		}
		return err
	})
	m.s.must(err)
	if len(list) == 0 {
		return root + "/missing"
	}
	return list[m.r.IntN(len(list))]
}
