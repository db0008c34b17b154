package localsource

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/fileop"
)

// magicCache begins a stat cache.
const magicCache = "strata-stat-1\n"

// stamp is what tells that a file was not changed.
type stamp struct {
	ino          uint64
	size         int64
	mtime, ctime int64 // nanoseconds
	mode         uint32
}

func stampOf(st *unix.Stat_t) stamp {
	return stamp{st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano(), st.Mode}
}

// racy tells a file whose times prove nothing, because they are not older than
// the scan by more than the clock's resolution: it can have been changed after
// it was hashed, and have the same times. A kernel stamps files with a clock
// that ticks every few milliseconds; a file system without fractions of a
// second ticks even slower.
func (s stamp) racy(started time.Time) bool {
	tick := 50 * time.Millisecond
	if s.mtime%1e9 == 0 && s.ctime%1e9 == 0 {
		tick = 2 * time.Second
	}
	return max(s.mtime, s.ctime) >= started.Add(-tick).UnixNano()
}

// record is a file of the cache.
type record struct {
	name   string
	stat   stamp
	sum    [sha256.Size]byte
	xattrs []fileop.Xattr
}

// statCache is the cache of one scanned directory: for each directory below
// it, the encoded records of its files, sorted by name.
type statCache struct {
	file string // "" when there is no cache
	abs  string
	dirs map[string]string
}

// openStatCache reads the cache of the directory abs. One that is missing or
// damaged, or cannot be read, is empty: that only costs time.
func openStatCache(dir, abs string) *statCache {
	c := &statCache{abs: abs}
	if dir == "" {
		return c
	}
	sum := sha256.Sum256([]byte(abs))
	c.file = filepath.Join(dir, hex.EncodeToString(sum[:16]))
	data, err := os.ReadFile(c.file)
	if err != nil {
		return c
	}
	if c.dirs, err = decodeCache(data, abs); err != nil {
		c.dirs = nil
	}
	return c
}

// decodeCache finds the directories of a cache; their records are decoded when
// they are needed.
func decodeCache(data []byte, abs string) (map[string]string, error) {
	payload, err := open(magicCache, data)
	if err != nil {
		return nil, err
	}
	d := &decoder{rest: payload}
	if d.string() != abs {
		return nil, errDamaged
	}
	dirs := map[string]string{}
	for d.rest != "" && d.err == nil {
		name := d.string()
		dirs[name] = d.string()
	}
	return dirs, d.err
}

// records returns what is known of a directory's files.
func (c *statCache) records(dir string) []record {
	d := &decoder{rest: c.dirs[dir]}
	var out []record
	for d.rest != "" {
		r := record{name: d.string(), sum: d.sum()}
		r.stat = stamp{d.uvarint(), d.varint(), d.varint(), d.varint(), uint32(d.uvarint())}
		r.xattrs = d.xattrs()
		out = append(out, r)
	}
	if d.err != nil {
		return nil
	}
	return out
}

func appendRecord(b []byte, r *record) []byte {
	b = append(appendString(b, r.name), r.sum[:]...)
	b = binary.AppendUvarint(b, r.stat.ino)
	b = binary.AppendVarint(b, r.stat.size)
	b = binary.AppendVarint(b, r.stat.mtime)
	b = binary.AppendVarint(b, r.stat.ctime)
	b = binary.AppendUvarint(b, uint64(r.stat.mode))
	return appendXattrs(b, r.xattrs)
}

// save writes the cache, when the scan learned something new.
func (c *statCache) save(w *walk) error {
	if c.file == "" {
		return nil
	}
	if !w.top.learned(w.started) {
		return nil
	}
	s := saver{started: w.started, old: c.dirs, seen: map[string]*dirNode{}}
	s.b = appendString(nil, c.abs)
	s.dir(w.top)
	s.unvisited()
	return writeFile(c.file, seal(magicCache, s.b))
}

// saver writes a cache.
type saver struct {
	started time.Time
	old     map[string]string
	seen    map[string]*dirNode
	b       []byte
	block   []byte
}

// recordable tells a file that the cache shall remember.
func (f *file) recordable(started time.Time) bool {
	return !f.gone && f.entry.IsRegular() && f.entry.Type() == f.stat.mode&unix.S_IFMT && !f.stat.racy(started)
}

// learned tells whether the records of a directory, or of one below it, are
// not those of the cache.
func (d *dirNode) learned(started time.Time) bool {
	if d.gone {
		return false
	}
	records := len(d.kept)
	for _, f := range d.files {
		if !f.recordable(started) {
			continue
		}
		if f.fresh {
			return true
		}
		records++
	}
	return records != len(d.known) || slices.ContainsFunc(d.dirs, func(sub *dirNode) bool { return sub.learned(started) })
}

// dir writes the records of a directory and of those below it.
func (s *saver) dir(d *dirNode) {
	if d.gone {
		return
	}
	s.seen[d.entry.Path] = d
	records := d.kept
	for _, f := range d.files {
		if f.recordable(s.started) {
			records = append(records, record{f.name, f.stat, f.entry.Sum, f.entry.Xattrs})
		}
	}
	s.write(d.entry.Path, records)
	for _, sub := range d.dirs {
		s.dir(sub)
	}
}

func (s *saver) write(dir string, records []record) {
	if len(records) == 0 {
		return
	}
	slices.SortFunc(records, func(a, b record) int { return strings.Compare(a.name, b.name) })
	s.block = s.block[:0]
	for i := range records {
		s.block = appendRecord(s.block, &records[i])
	}
	s.b = appendString(appendString(s.b, dir), string(s.block))
}

// unvisited keeps what was known of directories that this scan ignored: that
// of another image may select them. Those that are gone are dropped.
func (s *saver) unvisited() {
	for dir, block := range s.old {
		if s.seen[dir] == nil && s.ignored(dir) {
			s.b = appendString(appendString(s.b, dir), block)
		}
	}
}

// ignored tells whether dir is below a directory that was seen and ignored.
func (s *saver) ignored(dir string) bool {
	for dir != "" {
		parent := path.Dir(dir)
		if parent == "." {
			parent = ""
		}
		if d := s.seen[parent]; d != nil {
			return slices.Contains(d.ignored, path.Base(dir))
		}
		dir = parent
	}
	return false
}
