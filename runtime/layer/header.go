package layer

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
)

// The layout of a tar header block (ustar).
const (
	blockSize   = 512
	nameSize    = 100
	prefixSize  = 155
	maxPAXBytes = 1 << 20 // what archive/tar reads at most
)

// Type flags of tar entries.
const (
	typeRegular   = '0'
	typeLink      = '1'
	typeSymlink   = '2'
	typeChar      = '3'
	typeBlock     = '4'
	typeDirectory = '5'
	typeFIFO      = '6'
	typePAX       = 'x'
)

// xattrRecord begins the PAX key of an extended attribute.
const xattrRecord = "SCHILY.xattr."

var errHeaderTooLarge = errors.New("names and extended attributes take more than 1 MiB")

// header is one tar entry.
type header struct {
	name, link   string
	typeflag     byte
	mode         int64
	uid, gid     int64
	size         int64
	mtime        int64 // seconds
	major, minor int64
	xattrs       map[string]string
}

// appendTo appends the entry's header blocks: a ustar header, with a PAX one
// before it where ustar has no room for something. The bytes are those of
// archive/tar with FormatPAX.
func (h *header) appendTo(buf []byte) ([]byte, error) {
	var records paxRecords
	records.text("path", h.name)
	prefix, _, split := splitName(h.name)
	needed := len(records) > 0 && !split
	records.text("linkpath", h.link)
	records.number("uid", h.uid, 7)
	records.number("gid", h.gid, 7)
	records.number("size", h.size, 11)
	records.number("mtime", h.mtime, 11)
	for attr, value := range h.xattrs {
		records.set(xattrRecord+attr, value)
	}
	if !needed && (len(records) == 0 || split && len(records) == 1) { // at most a path that ustar can split
		return h.appendBlock(buf, prefix), nil
	}
	buf, err := h.appendPAX(buf, records)
	return h.appendBlock(buf, ""), err
}

// paxRecords are the records that an entry needs besides its ustar header.
type paxRecords map[string]string

func (r *paxRecords) set(key, value string) {
	if *r == nil {
		*r = paxRecords{}
	}
	(*r)[key] = value
}

// text adds a name that does not fit into ustar's field.
func (r *paxRecords) text(key, value string) {
	if len(value) > nameSize || !ascii(value) {
		r.set(key, value)
	}
}

// number adds a number that does not fit into so many octal digits.
func (r *paxRecords) number(key string, value int64, digits int) {
	if value < 0 || value >= 1<<(3*digits) {
		r.set(key, strconv.FormatInt(value, 10))
	}
}

// splitName splits a name that is too long for ustar's name field where its
// prefix field helps.
func splitName(name string) (prefix, rest string, ok bool) {
	if len(name) <= nameSize || !ascii(name) {
		return "", "", false
	}
	end := len(name)
	if end > prefixSize+1 {
		end = prefixSize + 1
	} else if name[end-1] == '/' {
		end--
	}
	i := strings.LastIndexByte(name[:end], '/')
	rest = name[i+1:]
	if i <= 0 || len(rest) > nameSize || rest == "" {
		return "", "", false
	}
	return name[:i], rest, true
}

// appendPAX appends an extended header with the records, in order of their keys.
func (h *header) appendPAX(buf []byte, records paxRecords) ([]byte, error) {
	var data strings.Builder
	for _, key := range slices.Sorted(maps.Keys(records)) {
		if strings.ContainsAny(key, "=\x00") {
			return buf, fmt.Errorf("an extended attribute's name %q has no place in a tar", key)
		}
		data.WriteString(paxRecord(key, records[key]))
	}
	if data.Len() > maxPAXBytes {
		return buf, errHeaderTooLarge
	}
	dir, file := path.Split(h.name)
	name := toASCII(path.Join(dir, "PaxHeaders.0", file))
	if len(name) > nameSize {
		name = name[:nameSize]
	}
	x := header{name: strings.TrimRight(name, "/"), typeflag: typePAX, size: int64(data.Len())}
	buf = x.appendSpecial(buf)
	buf = append(buf, data.String()...)
	return pad(buf, int64(data.Len())), nil
}

// paxRecord is "LENGTH KEY=VALUE\n", where the length counts itself.
func paxRecord(key, value string) string {
	size := len(key) + len(value) + len(" =\n")
	size += len(strconv.Itoa(size))
	record := strconv.Itoa(size) + " " + key + "=" + value + "\n"
	if len(record) != size { // the length grew by a digit
		record = strconv.Itoa(len(record)) + " " + key + "=" + value + "\n"
	}
	return record
}

// appendBlock appends the ustar header. Numbers that do not fit are 0, and
// text that does not fit is cut: the PAX header has them.
func (h *header) appendBlock(buf []byte, prefix string) []byte {
	name := h.name
	if prefix != "" {
		name = name[len(prefix)+1:]
	}
	return h.block(buf, name, prefix, true)
}

// appendSpecial appends the header of an extended header, which archive/tar
// writes with less fields.
func (h *header) appendSpecial(buf []byte) []byte { return h.block(buf, h.name, "", false) }

func (h *header) block(buf []byte, name, prefix string, full bool) []byte {
	start := len(buf)
	buf = append(buf, make([]byte, blockSize)...)
	b := buf[start:]
	putText(b[0:100], name)
	putOctal(b[100:108], h.mode)
	putOctal(b[108:116], h.uid)
	putOctal(b[116:124], h.gid)
	putOctal(b[124:136], h.size)
	putOctal(b[136:148], h.mtime)
	b[156] = h.typeflag
	if full {
		putText(b[157:257], h.link)
		putOctal(b[329:337], h.major)
		putOctal(b[337:345], h.minor)
		putText(b[345:500], prefix)
	}
	copy(b[257:], "ustar\x0000")
	putChecksum(b)
	return buf
}

// putText writes text, cut at the end of the field but never behind a slash:
// readers would take the entry for a directory.
func putText(field []byte, text string) {
	text = toASCII(text)
	n := copy(field, text)
	if len(text) > n && field[n-1] == '/' {
		field[len(strings.TrimRight(text[:n], "/"))] = 0
	}
}

// putOctal writes digits and a final NUL; 0 for what does not fit.
func putOctal(field []byte, value int64) {
	digits := len(field) - 1
	if value < 0 || value >= 1<<(3*digits) {
		value = 0
	}
	field[digits] = 0
	for i := digits - 1; i >= 0; i-- {
		field[i] = '0' + byte(value&7)
		value >>= 3
	}
}

// putChecksum sums the block with the checksum itself taken as spaces.
func putChecksum(b []byte) {
	copy(b[148:156], "        ")
	sum := int64(0)
	for _, c := range b {
		sum += int64(c)
	}
	putOctal(b[148:155], sum)
	b[155] = ' '
}

// pad fills the last block of size bytes with zeros.
func pad(buf []byte, size int64) []byte { return append(buf, make([]byte, padding(size))...) }

func padding(size int64) int64 { return -size & (blockSize - 1) }

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 || s[i] == 0 {
			return false
		}
	}
	return true
}

// toASCII drops what is not ASCII.
func toASCII(s string) string {
	if ascii(s) {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := range len(s) {
		if s[i] < 0x80 && s[i] != 0 {
			b = append(b, s[i])
		}
	}
	return string(b)
}
