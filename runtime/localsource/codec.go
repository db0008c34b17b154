package localsource

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"

	"github.com/strata-build/strata/runtime/fileop"
)

// Stat caches and manifests are files of this form: a magic line, the checksum
// (CRC-32C) of what follows, and the payload of variable-length integers and
// length-prefixed strings.

var errDamaged = errors.New("the file is damaged")

// seal puts the magic line and the checksum before a payload.
func seal(magic string, payload []byte) []byte {
	sum := crc32.Checksum(payload, crc32.MakeTable(crc32.Castagnoli))
	b := binary.BigEndian.AppendUint32([]byte(magic), sum)
	return append(b, payload...)
}

// open checks magic line and checksum, and returns the payload.
func open(magic string, data []byte) (string, error) {
	if len(data) < len(magic)+4 || string(data[:len(magic)]) != magic {
		return "", errDamaged
	}
	data = data[len(magic):]
	if crc32.Checksum(data[4:], crc32.MakeTable(crc32.Castagnoli)) != binary.BigEndian.Uint32(data) {
		return "", errDamaged
	}
	return string(data[4:]), nil
}

// writeFile replaces a file at once.
func writeFile(name string, data []byte) error {
	dir := filepath.Dir(name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".tmp-")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		if err = os.Rename(f.Name(), name); err == nil {
			return nil
		}
	}
	return errors.Join(err, os.Remove(f.Name()))
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendXattrs(b []byte, xattrs []fileop.Xattr) []byte {
	b = binary.AppendUvarint(b, uint64(len(xattrs)))
	for _, x := range xattrs {
		b = appendString(appendString(b, x.Name), x.Value)
	}
	return b
}

// decoder reads a payload. Strings share its memory. After the first error
// everything it returns is zero.
type decoder struct {
	rest string
	err  error
}

func (d *decoder) fail() {
	if d.err == nil {
		d.err = errDamaged
	}
	d.rest = ""
}

func (d *decoder) uvarint() uint64 {
	var v uint64
	for i := 0; i < len(d.rest) && i < binary.MaxVarintLen64; i++ {
		c := d.rest[i]
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			d.rest = d.rest[i+1:]
			return v
		}
	}
	d.fail()
	return 0
}

func (d *decoder) varint() int64 {
	u := d.uvarint()
	v := int64(u >> 1)
	if u&1 != 0 {
		v = ^v
	}
	return v
}

func (d *decoder) bytes(n uint64) string {
	if n > uint64(len(d.rest)) {
		d.fail()
		return ""
	}
	s := d.rest[:n]
	d.rest = d.rest[n:]
	return s
}

func (d *decoder) string() string { return d.bytes(d.uvarint()) }

func (d *decoder) sum() (sum [32]byte) {
	copy(sum[:], d.bytes(32))
	return sum
}

func (d *decoder) xattrs() []fileop.Xattr {
	var out []fileop.Xattr
	for n := d.uvarint(); n > 0 && d.err == nil; n-- {
		out = append(out, fileop.Xattr{Name: d.string(), Value: d.string()})
	}
	return out
}

// magicManifest begins a saved manifest.
const magicManifest = "strata-manifest-1\n"

// encode writes entries; a path begins with the length of what it shares with
// the one before.
func (m *Manifest) encode() []byte {
	b := binary.AppendUvarint(nil, uint64(len(m.entries)))
	last := ""
	for i := range m.entries {
		e := &m.entries[i]
		shared := sharedPrefix(last, e.Path)
		last = e.Path
		b = appendString(binary.AppendUvarint(b, uint64(shared)), e.Path[shared:])
		b = binary.AppendUvarint(b, uint64(e.Mode))
		b = binary.AppendVarint(b, e.Size)
		b = binary.AppendVarint(b, e.Mtime)
		b = binary.AppendUvarint(b, e.Rdev)
		b = appendString(b, e.Link)
		if e.IsRegular() {
			b = append(b, e.Sum[:]...)
		}
		b = appendXattrs(b, e.Xattrs)
	}
	return seal(magicManifest, b)
}

func sharedPrefix(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

func decodeManifest(data []byte) (*Manifest, error) {
	payload, err := open(magicManifest, data)
	if err != nil {
		return nil, err
	}
	d := &decoder{rest: payload}
	n := d.uvarint()
	const smallest = 8 // bytes of an entry: a damaged count must not take all memory
	if n > uint64(len(payload)/smallest) {
		return nil, errDamaged
	}
	entries := make([]Entry, 0, n)
	last := ""
	for ; n > 0 && d.err == nil; n-- {
		e := d.entry(last)
		last = e.Path
		entries = append(entries, e)
	}
	if d.err != nil || d.rest != "" {
		return nil, errDamaged
	}
	return newManifest("", entries, Stats{}), nil
}

func (d *decoder) entry(last string) Entry {
	shared := d.uvarint()
	if shared > uint64(len(last)) {
		d.fail()
		return Entry{}
	}
	e := Entry{Path: strings.Clone(last[:shared] + d.string())}
	e.Mode = uint32(d.uvarint())
	e.Size, e.Mtime, e.Rdev = d.varint(), d.varint(), d.uvarint()
	e.Link = d.string()
	if e.IsRegular() {
		e.Sum = d.sum()
	}
	e.Xattrs = d.xattrs()
	return e
}
