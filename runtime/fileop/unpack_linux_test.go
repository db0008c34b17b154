package fileop_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/internal/testenv"
	"github.com/strata-build/strata/runtime/fileop"
)

// hdr is a tar entry; the text of a regular file stands in Linkname.
func hdr(name string, kind byte, mode int64, text string) *tar.Header {
	return &tar.Header{Name: name, Typeflag: kind, Mode: mode, Linkname: text, ModTime: past}
}

func tarball(t testing.TB, headers ...*tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		h := *h
		text := ""
		if h.Typeflag == tar.TypeReg {
			text, h.Linkname = h.Linkname, ""
			h.Size = int64(len(text))
		}
		must(t, w.WriteHeader(&h))
		_, err := io.WriteString(w, text)
		must(t, err)
	}
	must(t, w.Close())
	return b.Bytes()
}

func plainArchive(t testing.TB) []byte {
	return tarball(t,
		hdr("./", tar.TypeDir, 0o700, ""), hdr("d/", tar.TypeDir, 0o750, ""), hdr("d/f", tar.TypeReg, 0o4711, "text"),
		hdr("implied/deep/g", tar.TypeReg, 0o600, "more"), hdr("l", tar.TypeSymlink, 0o777, "d/f"),
		hdr("h", tar.TypeLink, 0o640, "d/f"), hdr(".wh.w", tar.TypeReg, 0o644, ""), hdr("d/../up", tar.TypeReg, 0o644, "u"))
}

func compressed(t testing.TB, open func(io.Writer) (io.WriteCloser, error), data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := open(&b)
	must(t, err)
	_, err = w.Write(data)
	must(t, errors.Join(err, w.Close()))
	return b.Bytes()
}

// bzipped is an archive with the file "f" that holds "bzip2\n": Go has no
// compressor for it.
const bzipped = "QlpoOTFBWSZTWSHB1OAAAHR7hMkQAERAAH+AAADxIN4QAACACCAAVDSmnonqNNDIDTT9UElTymmgGgBo" +
	"E/t7XdCCMAEjEiSyrgYUJIGUmHmzUgtXSl2CjeK1WPD82vFINi5wmeTMWFvWqXg/GCIgH4u5IpwoSBDg" +
	"6nAA"

func TestUnpackDoesWhatBuildKitDoes(t *testing.T) {
	testenv.Root(t)
	plain := plainArchive(t)
	owned := hdr("o", tar.TypeReg, 0o644, "o")
	owned.Uid, owned.Gid = 12, 34
	attr := hdr("x", tar.TypeReg, 0o644, "x")
	attr.PAXRecords = map[string]string{"SCHILY.xattr.user.comment": "hi"}
	bz, err := base64.StdEncoding.DecodeString(bzipped)
	must(t, err)
	for name, c := range map[string]struct {
		file   []byte
		dst    []string
		to     string
		action []opt
		fails  bool
	}{
		"plain":           {file: plain, to: "/into/"},
		"plain, existing": {file: plain, to: "/into", dst: []string{"into/d/ 0777", "into/d/keep=1", "into/l/x=1", "into/up/ 0700"}},
		"gzip": {to: "/into/", file: compressed(t, func(w io.Writer) (io.WriteCloser, error) {
			return gzip.NewWriter(w), nil
		}, plain)},
		"zstd": {to: "/into/", file: compressed(t, func(w io.Writer) (io.WriteCloser, error) {
			return zstd.NewWriter(w)
		}, plain)},
		"bzip2":             {to: "/into/", file: bz},
		"not an archive":    {to: "/into/", file: []byte("just text")},
		"empty":             {to: "/into/", file: nil},
		"gzip of text":      {to: "/into/", file: compressed(t, func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil }, []byte("text"))},
		"gzip, broken":      {to: "/into/", file: []byte("\x1f\x8b\x08nonsense and more of it")},
		"cut":               {to: "/into/", file: plain[:len(plain)-3000], fails: true},
		"over a file":       {to: "/into", file: plain, dst: []string{"into=1"}, fails: true},
		"onto root":         {to: "/", file: plain},
		"onto link":         {to: "/l", file: plain, dst: []string{"l -> /real/deep"}},
		"chown":             {to: "/into/", file: tarball(t, owned, hdr("i/j", tar.TypeReg, 0o600, "")), action: opts(chown(5, 6))},
		"owners":            {to: "/into/", file: tarball(t, owned, hdr("i/j", tar.TypeReg, 0o600, ""))},
		"time, made":        {to: "/into/deep/", file: plain, action: opts(timestamp(1e18))},
		"mode is ignored":   {to: "/into/", file: plain, action: opts(mode(0o600))},
		"xattr":             {to: "/into/", file: tarball(t, attr)},
		"devices":           {to: "/into/", file: tarball(t, &tar.Header{Name: "c", Typeflag: tar.TypeChar, Mode: 0o620, Devmajor: 1, Devminor: 5, ModTime: past}, hdr("p", tar.TypeFifo, 0o604, ""), &tar.Header{Name: "b", Typeflag: tar.TypeBlock, Mode: 0o620, Devmajor: 7, Devminor: 300, ModTime: past})},
		"slash":             {to: "/into/", file: tarball(t, hdr("/", tar.TypeDir, 0o711, ""), hdr("/abs", tar.TypeReg, 0o644, "a"))},
		"dots":              {to: "/into/", file: tarball(t, hdr("../../up", tar.TypeReg, 0o644, "u"), hdr("a/../../b", tar.TypeReg, 0o644, "b"))},
		"replaced":          {to: "/into/", file: tarball(t, hdr("a", tar.TypeReg, 0o644, "1"), hdr("a", tar.TypeDir, 0o755, ""), hdr("a/b", tar.TypeReg, 0o644, "2"), hdr("a", tar.TypeSymlink, 0o777, "c"), hdr("a", tar.TypeReg, 0o600, "3"))},
		"through own link":  {to: "/into/", file: tarball(t, hdr("c", tar.TypeDir, 0o755, ""), hdr("a", tar.TypeSymlink, 0o777, "c"), hdr("a/b", tar.TypeReg, 0o644, "2"))},
		"through out link":  {to: "/into/", file: tarball(t, hdr("a", tar.TypeSymlink, 0o777, "../../../../tmp"), hdr("tmp/", tar.TypeDir, 0o755, ""), hdr("a/b", tar.TypeReg, 0o644, "2"))},
		"through old link":  {to: "/into/", file: tarball(t, hdr("a/b", tar.TypeReg, 0o644, "2")), dst: []string{"into/a -> /x", "into/x/", "x/"}},
		"through dangling":  {to: "/into/", file: tarball(t, hdr("a", tar.TypeSymlink, 0o777, "/none"), hdr("a/b", tar.TypeReg, 0o644, "2")), fails: true},
		"deep dangling":     {to: "/into/", file: tarball(t, hdr("a", tar.TypeSymlink, 0o777, "none"), hdr("a/b/c/d", tar.TypeReg, 0o644, "2")), fails: true},
		"deep through link": {to: "/into/", file: tarball(t, hdr("a", tar.TypeSymlink, 0o777, "c"), hdr("c/", tar.TypeDir, 0o755, ""), hdr("a/b/c/d", tar.TypeReg, 0o644, "2"))},
		"dir over link":     {to: "/into/", file: tarball(t, hdr("a/", tar.TypeDir, 0o711, ""), hdr("a/b", tar.TypeReg, 0o644, "2")), dst: []string{"into/a -> x", "into/x/"}},
		"hard link out":     {to: "/into/", file: tarball(t, hdr("h", tar.TypeLink, 0o644, "../../secret")), dst: []string{"secret=s", "into/"}, fails: true},
		"hard link to link": {to: "/into/", file: tarball(t, hdr("l", tar.TypeSymlink, 0o777, "nowhere"), hdr("h", tar.TypeLink, 0o644, "l"))},
		"hard link missing": {to: "/into/", file: tarball(t, hdr("h", tar.TypeLink, 0o644, "nope")), fails: true},
		"file as root":      {to: "/into/", file: tarball(t, hdr(".", tar.TypeReg, 0o644, "x")), fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			src := t.TempDir()
			must(t, os.WriteFile(filepath.Join(src, "a.tar"), c.file, 0o640))
			must(t, setTime(filepath.Join(src, "a.tar"), past))
			a := action("/a.tar", c.to, append(c.action, create, unpack)...)
			want, got := newTree(t, c.dst...), newTree(t, c.dst...)
			wantErr, gotErr := oracleCopy(src, want, a), copyDirs(t, src, got, a)
			if name == "file as root" { // BuildKit empties the destination first; ours refuses before
				wantErr = gotErr
			}
			if (wantErr != nil) != c.fails || (gotErr != nil) != c.fails {
				t.Fatalf("BuildKit: %v, ours: %v", wantErr, gotErr)
			}
			now := time.Now().Add(-time.Hour)
			if diff := sameTree(list(t, want, now), list(t, got, now)); diff != "" && !c.fails {
				t.Errorf("differs from BuildKit:\n%s", diff)
			}
		})
	}
}

func TestUnpackXz(t *testing.T) {
	testenv.Root(t)
	data := compressed(t, func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) }, plainArchive(t))
	src, dst := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(src, "a.tar.xz"), data, 0o640))
	must(t, copyDirs(t, src, dst, action("/*.xz", "/into/", create, unpack, wildcard)))
	if got, err := os.ReadFile(filepath.Join(dst, "into/d/f")); string(got) != "text" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestUnpackFollowsALinkToTheArchive(t *testing.T) {
	testenv.Root(t)
	src := newTree(t, "l -> a")
	must(t, os.WriteFile(filepath.Join(src, "a"), tarball(t, hdr("f", tar.TypeReg, 0o644, "1")), 0o644))
	a := action("/l", "/into/", create, unpack)
	dst := t.TempDir()
	must(t, copyDirs(t, src, dst, a))
	if _, err := os.Stat(filepath.Join(dst, "into/f")); err != nil {
		t.Error(err)
	}
	before, err := digestOf(t, src, a)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(src, "a"), tarball(t, hdr("f", tar.TypeReg, 0o644, "2")), 0o644))
	after, err := digestOf(t, src, a)
	must(t, err)
	if before == after {
		t.Error("the digest does not see the archive behind the link")
	}
}

// An archive cannot claim what only Strata or overlayfs may say of a file.
func TestUnpackDropsPrivateXattrs(t *testing.T) {
	testenv.Root(t)
	h := hdr("f", tar.TypeReg, 0o644, "x")
	h.PAXRecords = map[string]string{
		"SCHILY.xattr.user.strata.stat": "0:0:104755", "SCHILY.xattr.trusted.overlay.opaque": "y",
		"SCHILY.xattr.user.overlay.redirect": "/etc", "SCHILY.xattr.user.keep": "1",
	}
	src, dst := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(src, "a"), tarball(t, h), 0o644))
	must(t, copyDirs(t, src, dst, action("/a", "/into/", create, unpack)))
	if got := xattrsOf(filepath.Join(dst, "into/f")); got != `user.keep="1"` {
		t.Error(got)
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(plainArchive(f))
	f.Add(tarball(f, hdr("../x", tar.TypeReg, 0o644, "1"), hdr("/abs", tar.TypeSymlink, 0o777, "/etc"), hdr("abs/y", tar.TypeReg, 0o644, "2")))
	f.Add(tarball(f, hdr("a", tar.TypeLink, 0o644, "../../../etc/passwd"), hdr("..", tar.TypeDir, 0o755, "")))
	f.Add(tarball(f, &tar.Header{Name: "neg", Typeflag: tar.TypeReg, Uid: -1, Gid: 1 << 40, ModTime: time.Unix(-1<<40, 0), Format: tar.FormatPAX}))
	f.Add([]byte(strings.Repeat("\x00", 1024)))
	f.Fuzz(func(t *testing.T, data []byte) {
		outer := t.TempDir()
		must(t, os.WriteFile(filepath.Join(outer, "canary"), []byte("c"), 0o600))
		src, dst := filepath.Join(outer, "src"), filepath.Join(outer, "dst")
		must(t, errors.Join(os.Mkdir(src, 0o755), os.Mkdir(dst, 0o755)))
		must(t, os.WriteFile(filepath.Join(src, "a"), data, 0o644))
		from := fileop.RootTree(openRoot(t, src), fileop.RootOptions{})
		_ = fileop.Copy(ctx, openRoot(t, dst), from, action("/a", "/into/", create, unpack), fileop.Options{SingleID: true})
		entries, err := os.ReadDir(outer)
		must(t, err)
		var st unix.Stat_t
		must(t, unix.Lstat(filepath.Join(outer, "canary"), &st))
		if len(entries) != 3 || st.Mode != unix.S_IFREG|0o600 || st.Nlink != 1 || st.Size != 1 {
			t.Errorf("the archive reached outside: %v, %+v", entries, st)
		}
	})
}
