package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/internal/testenv"
	"github.com/strata-build/strata/runtime/rootfs"
	"github.com/strata-build/strata/runtime/tree"
	"github.com/strata-build/strata/runtime/tree/treetest"
)

// TestApply: what entries mean, by the listing of the directory.
func TestApply(t *testing.T) {
	const sym, link = tar.TypeSymlink, tar.TypeLink
	for name, c := range map[string]struct {
		entries []entry
		want    string
	}{
		"files":               {[]entry{{name: "d/"}, {name: "d/f", data: "x"}}, "d/ d/f=x"},
		"root is ignored":     {[]entry{{name: "./", mode: 0o700}, {name: "/", mode: 0o700}, {name: "./f"}}, "f="},
		"dots and slashes":    {[]entry{{name: "./d//"}, {name: "d/./../d/f"}}, "d/ d/f="},
		"absolute":            {[]entry{{name: "/d/"}, {name: "/d/f"}}, "d/ d/f="},
		"'..' stops":          {[]entry{{name: "../../d/"}, {name: "../d/../../../d/f"}, {name: ".."}, {name: "../.."}}, "d/ d/f="},
		"last wins":           {[]entry{{name: "f", data: "1"}, {name: "f", data: "2"}}, "f=2"},
		"file over link":      {[]entry{{name: "f", kind: sym, link: "g"}, {name: "g", data: "1"}, {name: "f", data: "2"}}, "f=2 g=1"},
		"dir over file":       {[]entry{{name: "f", data: "1"}, {name: "f/"}, {name: "f/g"}}, "f/ f/g="},
		"file over dir":       {[]entry{{name: "d/"}, {name: "d/a/"}, {name: "d/a/f"}, {name: "d", data: "x"}}, "d=x"},
		"and again a dir":     {[]entry{{name: "d/"}, {name: "d/a/"}, {name: "d", data: "x"}, {name: "d/"}, {name: "d/a/"}}, "d/ d/a/"},
		"dir over link":       {[]entry{{name: "r/"}, {name: "d", kind: sym, link: "r"}, {name: "d/"}, {name: "d/f"}}, "d/ d/f= r/"},
		"link kept as it is":  {[]entry{{name: "s", kind: sym, link: "/../../etc/./passwd"}}, "s->/../../etc/./passwd"},
		"through a link":      {[]entry{{name: "r/"}, {name: "s", kind: sym, link: "r"}, {name: "s/f"}, {name: "s/d/"}, {name: "r/d/g"}}, "r/ r/d/ r/d/g= r/f= s->r"},
		"absolute link":       {[]entry{{name: "a/"}, {name: "a/r/"}, {name: "a/s", kind: sym, link: "/a/r"}, {name: "a/s/f"}}, "a/ a/r/ a/r/f= a/s->/a/r"},
		"link upwards":        {[]entry{{name: "a/"}, {name: "a/s", kind: sym, link: "../../../a"}, {name: "a/s/f"}}, "a/ a/f= a/s->../../../a"},
		"link of links":       {[]entry{{name: "r/"}, {name: "s", kind: sym, link: "t/"}, {name: "t", kind: sym, link: "./r"}, {name: "s/f"}}, "r/ r/f= s->t/ t->./r"},
		"hard link":           {[]entry{{name: "a", data: "x"}, {name: "b", kind: link, link: "a"}}, "a=x b=x"},
		"hard link, rooted":   {[]entry{{name: "d/"}, {name: "d/a", data: "x"}, {name: "b", kind: link, link: "/../d/a"}}, "b=x d/ d/a=x"},
		"hard link of a link": {[]entry{{name: "s", kind: sym, link: "../../canary"}, {name: "h", kind: link, link: "s"}}, "h->../../canary s->../../canary"},
		"hard link via link":  {[]entry{{name: "r/"}, {name: "r/a", data: "x"}, {name: "s", kind: sym, link: "/r"}, {name: "b", kind: link, link: "s/a"}}, "b=x r/ r/a=x s->/r"},
		"hard link replaced":  {[]entry{{name: "a", data: "x"}, {name: "b", kind: link, link: "a"}, {name: "a", data: "y"}}, "a=y b=x"},
		"whiteout":            {[]entry{{name: "d/"}, {name: "d/.wh.f"}, {name: ".wh.g"}}, "d/ d/f! g!"},
		"whiteout, odd type":  {[]entry{{name: ".wh.g", kind: sym, link: "x"}, {name: ".wh.d/"}}, "d! g!"},
		"whiteout twice":      {[]entry{{name: ".wh.g"}, {name: ".wh.g"}}, "g!"},
		"whiteout, then file": {[]entry{{name: ".wh.f"}, {name: "f", data: "x"}}, "f=x"},
		"file, then whiteout": {[]entry{{name: "f", data: "x"}, {name: ".wh.f"}}, "f=x"},
		"whiteout, then dir":  {[]entry{{name: ".wh.d"}, {name: "d/"}, {name: "d/f"}}, "d/opaque d/f="},
		"dir, then whiteout":  {[]entry{{name: "d/"}, {name: "d/f"}, {name: ".wh.d"}}, "d/opaque d/f="},
		"opaque":              {[]entry{{name: "d/"}, {name: "d/a"}, {name: "d/.wh..wh..opq"}, {name: "d/b"}}, "d/opaque d/a= d/b="},
		"hidden whiteout":     {[]entry{{name: "d/"}, {name: "d/.wh..wh..opq"}, {name: "d/e/"}, {name: "d/e/.wh.f"}, {name: "d/.wh.g"}}, "d/opaque d/e/"},
		"aufs":                {[]entry{{name: ".wh..wh.plnk/"}, {name: ".wh..wh.plnk/12.34"}, {name: ".wh..wh.aufs"}, {name: "d/"}, {name: "d/.wh..wh.orph/"}}, "d/"},
		"global header":       {[]entry{{kind: tar.TypeXGlobalHeader, pax: map[string]string{"comment": "x"}, hdr: bare}, {name: "f"}}, "f="},
		"overlay attributes":  {[]entry{{name: "d/", pax: map[string]string{"SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.user.overlay.opaque": "y", "SCHILY.xattr.trusted.overlay.redirect": "/etc"}}}, "d/"},
		"whiteout device":     {[]entry{{name: "f", kind: tar.TypeChar}, {name: "d/"}, {name: "d", kind: tar.TypeChar}}, "d/opaque f!"},
		"no entries":          {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := newDir(t)
			result, err := Apply(t.Context(), bytes.NewReader(makeTar(t, c.entries...)), dir, ApplyOptions{Format: format()})
			must(t, err)
			if got := listing(t, dir); got != c.want || result.NeedsLower {
				t.Errorf("got  %s (%+v)\nwant %s", got, result, c.want)
			}
		})
	}
}

func bare(h *tar.Header) { *h = tar.Header{Typeflag: h.Typeflag, PAXRecords: h.PAXRecords} }

// TestApplyRefuses: what makes no sense is an error that names the entry.
func TestApplyRefuses(t *testing.T) {
	const sym, link = tar.TypeSymlink, tar.TypeLink
	for name, c := range map[string]struct {
		entries []entry
		want    error
	}{
		"below a file":           {[]entry{{name: "f"}, {name: "f/g"}}, ErrBadEntry},
		"below a dangling loop":  {[]entry{{name: "a", kind: sym, link: "b"}, {name: "b", kind: sym, link: "a"}, {name: "a/f"}}, ErrBadEntry},
		"whiteout of nothing":    {[]entry{{name: "d/"}, {name: "d/.wh."}}, ErrBadEntry},
		"whiteout of '.'":        {[]entry{{name: "d/"}, {name: "d/.wh.."}}, ErrBadEntry},
		"whiteout of '..'":       {[]entry{{name: "d/"}, {name: "d/.wh..."}}, ErrBadEntry},
		"below a whiteout":       {[]entry{{name: ".wh.d/f"}}, ErrBadEntry},
		"link to a directory":    {[]entry{{name: "d/"}, {name: "l", kind: link, link: "d"}}, ErrBadEntry},
		"link to the root":       {[]entry{{name: "l", kind: link, link: "/"}}, ErrBadEntry},
		"link to a whiteout":     {[]entry{{name: ".wh.f"}, {name: "l", kind: link, link: "f"}}, unix.ENOENT},
		"uid -1":                 {[]entry{{name: "f", hdr: func(h *tar.Header) { h.Uid = 4294967295 }}}, ErrBadEntry},
		"gid too large":          {[]entry{{name: "f", hdr: func(h *tar.Header) { h.Gid = 1 << 40 }}}, ErrBadEntry},
		"device out of range":    {[]entry{{name: "f", kind: tar.TypeBlock, hdr: func(h *tar.Header) { h.Devmajor = 1 << 12 }}}, ErrBadEntry},
		"unknown type":           {[]entry{{name: "f", kind: 'Q'}}, ErrBadEntry},
		"name too long":          {[]entry{{name: strings.Repeat("x", 300)}}, unix.ENAMETOOLONG},
		"nested too deeply":      {deepEntries(2100), tree.ErrTooDeep},
		"long name, deep parent": {[]entry{{name: "a"}, {name: strings.Repeat("a/", 3000) + "f"}}, ErrBadEntry},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Apply(t.Context(), bytes.NewReader(makeTar(t, c.entries...)), newDir(t), ApplyOptions{Format: format()})
			if !errors.Is(err, c.want) || !strings.Contains(fmt.Sprint(err), "unpack \"") {
				t.Errorf("error is %.300v", err)
			}
		})
	}
}

func deepEntries(n int) []entry {
	var all []entry
	for i := range n {
		all = append(all, entry{name: strings.Repeat("d/", i+1)})
	}
	return all
}

// TestApplyNeedsLower: what a layer cannot know alone.
func TestApplyNeedsLower(t *testing.T) {
	lower := newDir(t)
	for _, p := range []string{"usr/lib", "etc", "gone"} {
		must(t, os.MkdirAll(filepath.Join(lower, p), 0o755))
	}
	must(t, os.WriteFile(filepath.Join(lower, "etc/conf"), []byte("lower"), 0o600))
	must(t, os.WriteFile(filepath.Join(lower, "gone/f"), []byte("lower"), 0o600))
	must(t, os.Chmod(filepath.Join(lower, "usr/lib"), 0o711))
	must(t, unix.Setxattr(filepath.Join(lower, "usr/lib"), "user.note", []byte("n"), 0))
	must(t, os.Symlink("usr/lib", filepath.Join(lower, "lib")))
	must(t, os.Symlink("../../../canary", filepath.Join(lower, "etc/out")))
	must(t, os.Chtimes(filepath.Join(lower, "usr/lib"), time.Unix(5, 6), time.Unix(5, 6)))
	const sym, link = tar.TypeSymlink, tar.TypeLink
	for name, c := range map[string]struct {
		entries []entry
		want    string
		err     error
	}{
		"implied parent":            {entries: []entry{{name: "usr/lib/f"}}, want: "usr/ usr/lib/ usr/lib/f="},
		"implied, nowhere":          {entries: []entry{{name: "new/dir/f"}}, want: "new/ new/dir/ new/dir/f="},
		"through a link below":      {entries: []entry{{name: "lib/f"}, {name: "lib/../lib/g"}}, want: "usr/ usr/lib/ usr/lib/f= usr/lib/g="},
		"through a link of the two": {entries: []entry{{name: "s", kind: sym, link: "lib"}, {name: "s/f"}}, want: "s->lib usr/ usr/lib/ usr/lib/f="},
		"link out stays inside":     {entries: []entry{{name: "etc/out/f"}}, want: "canary/ canary/f="},
		"whiteout":                  {entries: []entry{{name: "etc/.wh.conf"}}, want: "etc/ etc/conf!"},
		"hard link":                 {entries: []entry{{name: "l", kind: link, link: "etc/conf"}}, want: "etc/ etc/conf=lower l=lower"},
		"hard link through a link":  {entries: []entry{{name: "lib/x", data: "y"}, {name: "l", kind: link, link: "lib/x"}}, want: "l=y usr/ usr/lib/ usr/lib/x=y"},
		"hard link to nothing":      {entries: []entry{{name: "l", kind: link, link: "etc/none"}}, err: unix.ENOENT},
		"hard link to a hidden one": {entries: []entry{{name: ".wh.gone"}, {name: "l", kind: link, link: "gone/f"}}, err: unix.ENOENT},
		"hard link to a directory":  {entries: []entry{{name: "l", kind: link, link: "usr/lib"}}, err: ErrBadEntry},
		"below a file":              {entries: []entry{{name: "etc/conf/f"}}, err: ErrBadEntry},
		"link to a whiteout name":   {entries: []entry{{name: "s", kind: sym, link: ".wh.x"}, {name: "s/f"}}, err: ErrBadEntry},
		"opaque root":               {entries: []entry{{name: ".wh..wh..opq"}, {name: "etc/"}, {name: "etc/f"}}, want: "etc/opaque etc/f= gone! lib! usr!"},
		"behind an opaque mark":     {entries: []entry{{name: "usr/"}, {name: "usr/.wh..wh..opq"}, {name: "usr/lib/f"}}, want: "usr/opaque usr/lib/ usr/lib/f="},
		"behind a whiteout":         {entries: []entry{{name: ".wh.gone"}, {name: "gone/sub/f"}}, want: "gone/opaque gone/sub/ gone/sub/f="},
		"dir over a link below":     {entries: []entry{{name: "lib/"}, {name: "lib/sub/f"}}, want: "lib/ lib/sub/ lib/sub/f="},
	} {
		t.Run(name, func(t *testing.T) {
			data := makeTar(t, c.entries...)
			result, err := Apply(t.Context(), bytes.NewReader(data), newDir(t), ApplyOptions{Format: format()})
			if err != nil || !result.NeedsLower {
				t.Errorf("without the layers below: %+v, %v", result, err)
			}
			dir := newDir(t)
			_, err = Apply(t.Context(), bytes.NewReader(data), dir, ApplyOptions{Format: format(), Lower: open(t, lower)})
			if !errors.Is(err, c.err) {
				t.Fatalf("error is %v, want %v", err, c.err)
			}
			if got := listing(t, dir); got != c.want && c.err == nil {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if st, err := os.Lstat(filepath.Join(dir, "usr/lib")); err == nil && name != "behind an opaque mark" {
				checkCopiedUp(t, filepath.Join(dir, "usr/lib"), st)
			}
		})
	}
}

// checkCopiedUp: an implied parent looks as it does in the layers below.
func checkCopiedUp(t *testing.T, p string, st os.FileInfo) {
	t.Helper()
	value := make([]byte, 8)
	n, err := unix.Getxattr(p, "user.note", value)
	if st.Mode().Perm() != 0o711 || !st.ModTime().Equal(time.Unix(5, 6)) || err != nil || string(value[:n]) != "n" {
		t.Errorf("%s: %v %v %q %v", p, st.Mode(), st.ModTime(), value[:max(n, 0)], err)
	}
}

func TestApplyAttributes(t *testing.T) {
	testenv.Root(t)
	dir := newDir(t)
	capability := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	pax := map[string]string{
		"SCHILY.xattr.security.capability": capability, "SCHILY.xattr.user.x": "y", "SCHILY.xattr.trusted.x": "y",
		"SCHILY.xattr.security.selinux": "label", "SCHILY.xattr." + OverrideXattr: "5:5:100644",
	}
	when := func(h *tar.Header) { h.ModTime = time.Unix(1234567890, 987654321); h.Format = tar.FormatPAX }
	data := makeTar(t,
		entry{name: "d/", mode: 0o3775, uid: 7, hdr: when},
		entry{name: "d/f", mode: 0o6755, uid: 3000000, data: "x", pax: pax, hdr: when},
		entry{name: "d/l", kind: tar.TypeLink, link: "d/f", mode: 0o600, uid: 1},
		entry{name: "d/s", kind: tar.TypeSymlink, link: "t", uid: 9, hdr: when},
		entry{name: "d/p", kind: tar.TypeFifo, mode: 0o622, uid: 9, hdr: when},
		entry{name: "d/c", kind: tar.TypeChar, mode: 0o666, uid: 9, hdr: func(h *tar.Header) { when(h); h.Devmajor, h.Devminor = 1, 3 }},
	)
	_, err := Apply(t.Context(), bytes.NewReader(data), dir, ApplyOptions{})
	must(t, err)
	const at = " 1234567890.987654321"
	const file = "106755 3000000:3000000" + at + " 1 2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
	want := map[string]string{
		"d":   "43775 7:7" + at,
		"d/f": file + fmt.Sprintf(" security.capability=%q user.x=%q", capability, "y"),
		"d/l": `link to "d/f"`,
		"d/s": "120777 9:9" + at + ` -> "t"`,
		"d/p": "10622 9:9" + at,
		"d/c": "20666 9:9" + at + " 1,3",
	}
	if d := treetest.Diff(want, treetest.Describe(t, dir, treetest.DescribeOptions{})); d != "" {
		t.Error(d)
	}
}

// TestApplyBombs: little data never becomes much on the disk, nor takes long.
func TestApplyBombs(t *testing.T) {
	zeros := newDir(t)
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	must(t, w.WriteHeader(&tar.Header{Name: "z", Typeflag: tar.TypeReg, Mode: 0o600, Size: 100 << 20, Uid: os.Getuid(), Gid: os.Getgid()}))
	_, err := io.CopyN(w, zeroReader{}, 100<<20)
	must(t, err)
	must(t, w.Close())
	_, err = Apply(t.Context(), &buf, zeros, ApplyOptions{Format: format()})
	must(t, err)
	var st unix.Stat_t
	must(t, unix.Stat(filepath.Join(zeros, "z"), &st))
	if st.Size != 100<<20 || st.Blocks > 1000 {
		t.Errorf("100 MiB of zeros take %d blocks", st.Blocks)
	}
	_, err = Apply(t.Context(), bytes.NewReader(sparseTar(t, 1<<60)), newDir(t), ApplyOptions{Format: format()})
	if !errors.Is(err, ErrSparse) {
		t.Errorf("a sparse file of an exabyte: %v", err)
	}
	small := newDir(t)
	_, err = Apply(t.Context(), bytes.NewReader(sparseTar(t, 1<<20)), small, ApplyOptions{Format: format()})
	must(t, err)
	if got := listing(t, small); got != "s="+strings.Repeat("\x00", 1<<20) {
		t.Errorf("a sparse file is %.50q", got)
	}
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// sparseTar is a file in GNU's old sparse format that is one hole.
func sparseTar(t *testing.T, size int64) []byte {
	t.Helper()
	data := makeTar(t, entry{name: "s"})
	b := data[:blockSize]
	b[156] = 'S'
	copy(b[257:], "ustar  \x00")
	putBinary := func(field []byte, n int64) {
		field[0] = 0x80
		for i := range 8 {
			field[len(field)-1-i] = byte(n >> (8 * i))
		}
	}
	copy(b[345:], make([]byte, 155))
	putBinary(b[386:398], size) // one piece of no bytes, at the end
	putBinary(b[398:410], 0)
	putBinary(b[483:495], size)
	putChecksum(b)
	return data
}

// TestApplyBadStreams: a damaged stream is an error, whatever it is damaged by.
func TestApplyBadStreams(t *testing.T) {
	good := makeTar(t, entry{name: "f", data: strings.Repeat("x", 300000)}, entry{name: "g", data: "y"})
	var packed bytes.Buffer
	_, err := encode(t.Context(), &packed, mustNormal(t, Compression{}), func(w io.Writer) error { _, err := w.Write(good); return err })
	must(t, err)
	flipped := bytes.Clone(packed.Bytes())
	flipped[len(flipped)-6] ^= 1 // the checksum
	for name, data := range map[string][]byte{
		"cut within a file":   good[:200000],
		"cut within a header": good[:100],
		"no tar":              []byte(strings.Repeat("not a tar at all ", 100)),
		"cut gzip":            packed.Bytes()[:packed.Len()-20],
		"bad checksum":        flipped,
		"gzip header only":    packed.Bytes()[:10],
	} {
		if _, err := Apply(t.Context(), bytes.NewReader(data), newDir(t), ApplyOptions{Format: format()}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	broken := io.MultiReader(bytes.NewReader(good[:100000]), errorReader{})
	if _, err := Apply(t.Context(), broken, newDir(t), ApplyOptions{Format: format()}); !errors.Is(err, errBroken) {
		t.Errorf("a reader that fails: %v", err)
	}
}

var errBroken = errors.New("broken")

type errorReader struct{}

func (errorReader) Read([]byte) (int, error) { return 0, errBroken }

func mustNormal(t testing.TB, c Compression) Compression {
	t.Helper()
	c, err := c.normal()
	must(t, err)
	return c
}

// TestApplyReadsToTheEnd: what follows the archive counts for the digest.
func TestApplyReadsToTheEnd(t *testing.T) {
	r := bytes.NewReader(append(makeTar(t, entry{name: "f"}), make([]byte, 1<<20)...))
	_, err := Apply(t.Context(), r, newDir(t), ApplyOptions{Format: format()})
	must(t, err)
	if r.Len() > 0 {
		t.Errorf("%d bytes were not read", r.Len())
	}
}

func TestApplyCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Apply(ctx, bytes.NewReader(makeTar(t, entry{name: "f"})), newDir(t), ApplyOptions{Format: format()})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
}

// FuzzApply: whatever the tar, nothing outside of the directory changes, and
// what was unpacked can be packed again.
func FuzzApply(f *testing.F) {
	const sym, link = tar.TypeSymlink, tar.TypeLink
	for _, entries := range [][]entry{
		{{name: "../../canary", data: "dead"}, {name: "/canary", data: "dead"}},
		{{name: "s", kind: sym, link: "../.."}, {name: "s/canary", data: "dead"}, {name: "s/new"}},
		{{name: "s", kind: sym, link: "/"}, {name: "h", kind: link, link: "s/../../../canary"}},
		{{name: "h", kind: link, link: "../canary"}, {name: "h", data: "dead"}},
		{{name: "d/"}, {name: "d/.wh..wh..opq"}, {name: ".wh.x"}, {name: "x/"}, {name: "x/y", kind: tar.TypeFifo}},
		{{name: ".wh..."}, {name: "a/.wh..wh.plnk/x"}, {name: ".wh./../f"}},
	} {
		f.Add(makeTar(f, entries...))
	}
	lower := newDir(f)
	must(f, os.Symlink("../..", filepath.Join(lower, "s")))
	must(f, os.MkdirAll(filepath.Join(lower, "d/e"), 0o755))
	f.Fuzz(func(t *testing.T, data []byte) {
		outside := t.TempDir()
		dir := filepath.Join(outside, "a", "dir")
		must(t, os.MkdirAll(dir, 0o755))
		canary := filepath.Join(outside, "canary")
		must(t, os.WriteFile(canary, []byte("alive"), 0o600))
		below, err := rootfs.OpenDir(lower)
		must(t, err)
		defer below.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		_, applied := Apply(ctx, bytes.NewReader(data), dir, ApplyOptions{Lower: below, Format: format()})
		left, err := os.ReadDir(outside)
		must(t, err)
		inner, err := os.ReadDir(filepath.Dir(dir))
		must(t, err)
		if text, err := os.ReadFile(canary); len(left) != 2 || len(inner) != 1 || string(text) != "alive" || err != nil {
			t.Fatalf("something outside changed: %v %v %q %v", left, inner, text, err)
		}
		if applied == nil {
			must(t, WriteTar(t.Context(), io.Discard, dir, WriteOptions{Format: format()}))
		}
	})
}
