package rootfs

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// DirEntry is one name of a directory listing.
type DirEntry struct {
	Name string
	// Type is the S_IFMT bits; 0 where the file system does not tell.
	Type uint32
}

// dirBuffers hold one getdents64 result each.
var dirBuffers = sync.Pool{New: func() any { b := make([]byte, 64<<10); return &b }}

// ReadDir lists the directory, sorted by name.
func (d *Dir) ReadDir() ([]DirEntry, error) {
	// The position belongs to the open file, which an earlier listing moved.
	if _, err := unix.Seek(d.fd, 0, unix.SEEK_SET); err != nil {
		return nil, d.fail("list", "", err)
	}
	entries, err := d.readAll()
	if err != nil {
		return nil, d.fail("list", "", err)
	}
	slices.SortFunc(entries, func(a, b DirEntry) int { return strings.Compare(a.Name, b.Name) })
	return entries, nil
}

func (d *Dir) readAll() ([]DirEntry, error) {
	buf := dirBuffers.Get().(*[]byte)
	defer dirBuffers.Put(buf)
	var entries []DirEntry
	for {
		n, err := unix.Getdents(d.fd, *buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return entries, err
		}
		entries = appendEntries(entries, (*buf)[:n])
	}
}

// appendEntries decodes struct linux_dirent64: inode (8 bytes), offset (8),
// record length (2), type (1), name with its final NUL.
func appendEntries(entries []DirEntry, buf []byte) []DirEntry {
	const header = 19
	for len(buf) >= header {
		length := int(binary.NativeEndian.Uint16(buf[16:]))
		if length < header || length > len(buf) {
			return entries
		}
		record := buf[:length]
		buf = buf[length:]
		name := record[header:]
		if i := bytes.IndexByte(name, 0); i >= 0 {
			name = name[:i]
		}
		if s := string(name); s != "." && s != ".." {
			entries = append(entries, DirEntry{Name: s, Type: uint32(record[18]) << 12})
		}
	}
	return entries
}
