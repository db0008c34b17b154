package inventory

import (
	"bytes"
	"compress/gzip"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/internal/testenv"
	"github.com/strata-build/strata/internal/testimage"
	"github.com/strata-build/strata/runtime/rootfs"
)

func TestMain(m *testing.M) {
	ReadMain()
	os.Exit(m.Run())
}

const bookworm = `PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"
ID=debian
VERSION_ID="12"
VERSION_CODENAME=bookworm
`

const dpkgStatus = `Package: libssl3
Status: install ok installed
Architecture: amd64
Source: openssl
Version: 3.0.11-1
Description: a library

Package: gcc-12-base
Status: install ok installed
Architecture: amd64
Source: gcc-12 (12.2.0-14)
Version: 12.2.0-14+b1

Package: removed
Status: deinstall ok config-files
Architecture: amd64
Version: 1
`

const apkInstalled = `C:Q1abc=
P:musl-utils
V:1.2.4_git20230717-r4
A:x86_64
L:MIT AND BSD-2-Clause AND GPL-2.0-or-later
o:musl
m:Somebody <somebody@example.org>

C:Q1abd=
P:busybox
V:1.36.1-r15
A:x86_64
L:GPL-2.0-only
o:busybox
`

// tree makes a directory with files; a name that ends in a slash is a
// directory, and text that begins with "->" a symlink.
func tree(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		err := error(nil)
		if target, ok := strings.CutPrefix(text, "->"); ok {
			err = os.Symlink(target, full)
		} else {
			err = os.WriteFile(full, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func open(t testing.TB, dir string) *rootfs.Root {
	t.Helper()
	root, err := rootfs.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

// mustRead reads in this process and in one apart, which must agree.
func mustRead(t *testing.T, dir string) Inventory {
	t.Helper()
	inv, err := ReadApart(t.Context(), open(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	here, err := Read(t.Context(), open(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	if a, b := fmt.Sprintf("%#v", inv), fmt.Sprintf("%#v", here); a != b {
		t.Errorf("the process apart says\n%s\nbut here it is\n%s", a, b)
	}
	return inv
}

// lines are packages as text: kind, name, version, and by what they are looked
// up in advisories.
func lines(inv Inventory) []string {
	var out []string
	for _, p := range inv.Packages {
		a := p.Advisory
		out = append(out, fmt.Sprintf("%s %s %s %s|%s|%s", p.Kind, p.Name, p.Version, a.Ecosystem, strings.Join(a.Names, ","), a.Version))
	}
	return out
}

func wantLines(t *testing.T, inv Inventory, want ...string) {
	t.Helper()
	if got := lines(inv); !slices.Equal(got, want) {
		t.Errorf("packages are\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
	for _, p := range inv.Problems {
		t.Errorf("problem with %s: %s", p.Path, p.Reason)
	}
}

func unpacked(t testing.TB, name string) string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestDpkg(t *testing.T) {
	inv := mustRead(t, tree(t, map[string]string{"etc/os-release": "->../usr/lib/os-release", "usr/lib/os-release": bookworm, "var/lib/dpkg/status": dpkgStatus}))
	wantLines(t, inv,
		"deb gcc-12-base 12.2.0-14+b1 Debian:12|gcc-12|12.2.0-14",
		"deb libssl3 3.0.11-1 Debian:12|openssl|3.0.11-1")
	if got, want := inv.Packages[1].PURL, "pkg:deb/debian/libssl3@3.0.11-1?arch=amd64&distro=bookworm&source=openssl"; got != want {
		t.Errorf("package URL is %s, want %s", got, want)
	}
	if inv.OS.Name != "Debian GNU/Linux 12 (bookworm)" {
		t.Errorf("the distribution is %+v", inv.OS)
	}
}

func TestApk(t *testing.T) {
	inv := mustRead(t, tree(t, map[string]string{
		"etc/os-release": "ID=alpine\nVERSION_ID=3.19.1\nPRETTY_NAME=\"Alpine Linux v3.19\"\n", "lib/apk/db/installed": apkInstalled,
	}))
	wantLines(t, inv,
		"apk busybox 1.36.1-r15 Alpine:v3.19|busybox|1.36.1-r15",
		"apk musl-utils 1.2.4_git20230717-r4 Alpine:v3.19|musl|1.2.4_git20230717-r4")
}

// TestRPM reads what a real rpm wrote (testdata/README.md).
func TestRPM(t *testing.T) {
	inv := mustRead(t, tree(t, map[string]string{
		"etc/os-release":                     "ID=\"rocky\"\nVERSION_ID=\"9.2\"\n",
		"usr/lib/sysimage/rpm/rpmdb.sqlite":  unpacked(t, "testdata/rpmdb.sqlite.gz"),
		"var/lib/rpm":                        "->../../usr/lib/sysimage/rpm",
		"usr/lib/sysimage/rpm/.rpm.lock":     "",
		"usr/lib/sysimage/rpm/rpmdb.sqlite-": "",
	}))
	wantLines(t, inv,
		"rpm strata-fixture 2:1.2.3-4.el9 Rocky Linux:9|strata-fixture|2:1.2.3-4.el9",
		"rpm strata-fixture-libs 2:1.2.3-4.el9 Rocky Linux:9|strata-fixture-libs,strata-fixture|2:1.2.3-4.el9")
	if got := inv.Packages[0].Location; got != "var/lib/rpm/rpmdb.sqlite" {
		t.Errorf("it was found in %s", got)
	}
}

// TestRPMNewDatabase has the same packages in the format of SUSE.
func TestRPMNewDatabase(t *testing.T) {
	sqlite := filepath.Join(tree(t, map[string]string{"db": unpacked(t, "testdata/rpmdb.sqlite.gz")}), "db")
	inv := mustRead(t, tree(t, map[string]string{
		"etc/os-release":          "ID=opensuse-leap\nVERSION_ID=15.6\n",
		"var/lib/rpm/Packages.db": newDatabase(packageHeaders(t, sqlite)),
	}))
	wantLines(t, inv,
		"rpm strata-fixture 2:1.2.3-4.el9 openSUSE:Leap 15.6|strata-fixture|2:1.2.3-4.el9",
		"rpm strata-fixture-libs 2:1.2.3-4.el9 openSUSE:Leap 15.6|strata-fixture-libs,strata-fixture|2:1.2.3-4.el9")
}

// packageHeaders reads rpm's headers out of an SQLite database.
func packageHeaders(t *testing.T, file string) (headers [][]byte) {
	t.Helper()
	db, err := sql.Open("sqlite", file)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query("SELECT blob FROM Packages")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var header []byte
		if err := rows.Scan(&header); err != nil {
			t.Fatal(err)
		}
		headers = append(headers, header)
	}
	return headers
}

// newDatabase writes rpm's "new" format: a header, one page of slots, and the
// blobs, which begin at multiples of 16 bytes.
func newDatabase(headers [][]byte) string {
	const page, block = 4096, 16
	words := func(data []byte, text string, values ...uint32) []byte {
		data = append(data, text...)
		for _, v := range values {
			data = binary.LittleEndian.AppendUint32(data, v)
		}
		return data
	}
	slots := words(nil, "RpmP", 0, 1, 1, 0, 0, 0, 0)
	var blobs []byte
	for i, header := range headers {
		slots = words(slots, "Slot", uint32(i+1), uint32(page+len(blobs))/block, uint32(len(header)/block+2))
		blobs = append(words(blobs, "BlbS", uint32(i+1), 0, uint32(len(header))), header...)
		blobs = append(blobs, make([]byte, block-len(blobs)%block)...)
	}
	for len(slots) < page {
		slots = words(slots, "Slot", 0, 0, 0)
	}
	return string(slots) + string(blobs)
}

func TestRPMByRealTools(t *testing.T) {
	testenv.Root(t)
	dir := t.TempDir()
	spec := "Name: made-here\nVersion: 7\nRelease: 1.el9\nSummary: s\nLicense: MIT\nBuildArch: noarch\n%description\nd\n%files\n"
	if err := os.WriteFile(filepath.Join(dir, "s.spec"), []byte(spec), 0o644); err != nil {
		t.Fatal(err)
	}
	rpm := testenv.Tool(t, "rpm")
	run(t, dir, testenv.Tool(t, "rpmbuild"), "--define", "_topdir "+dir, "-bb", "s.spec")
	root := filepath.Join(dir, "root")
	run(t, dir, rpm, "--root", root, "--dbpath", "/var/lib/rpm", "--nodeps", "-i", "RPMS/noarch/made-here-7-1.el9.noarch.rpm")
	wantLines(t, mustRead(t, root), "rpm made-here 7-1.el9 |made-here|7-1.el9")
}

func run(t *testing.T, dir string, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", cmd, err, &out, &stderr)
	}
	return out.String()
}

func TestLanguages(t *testing.T) {
	dir := tree(t, map[string]string{
		"app/node_modules/@scope/left-pad/package.json":           `{"name": "@scope/left-pad", "version": "1.3.0", "license": "WTFPL"}`,
		"usr/lib/python3/site-packages/PyYAML.dist-info/METADATA": "Metadata-Version: 2.1\nName: Py_YAML\nVersion: 6.0.1\n\nText\n",
		"srv/package.json": `{"private": true}`,
	})
	inv := mustRead(t, dir)
	wantLines(t, inv, "npm @scope/left-pad 1.3.0 npm|@scope/left-pad|1.3.0", "pypi Py_YAML 6.0.1 PyPI|py-yaml|6.0.1")
	if got, want := inv.Packages[0].PURL, "pkg:npm/%40scope/left-pad@1.3.0"; got != want {
		t.Errorf("package URL is %s, want %s", got, want)
	}
}

func TestGoProgram(t *testing.T) {
	dir := t.TempDir()
	run(t, ".", "go", "build", "-o", filepath.Join(dir, "usr/bin/program"), "./testdata/program")
	wantedGo := strings.TrimPrefix(runtime.Version(), "go")
	version := strings.TrimSpace(run(t, ".", "go", "list", "-m", "-f", "{{.Version}}", "github.com/opencontainers/go-digest"))
	version = strings.TrimPrefix(version, "v")
	inv := mustRead(t, dir)
	wantLines(t, inv,
		fmt.Sprintf("golang github.com/opencontainers/go-digest %s Go|github.com/opencontainers/go-digest|%s", version, version),
		"golang github.com/strata-build/strata  Go|github.com/strata-build/strata|",
		fmt.Sprintf("golang stdlib %s Go|stdlib|%s", wantedGo, wantedGo))
	if got, want := inv.Packages[2].PURL, "pkg:golang/stdlib@"+wantedGo; got != want {
		t.Errorf("package URL is %s, want %s", got, want)
	}
}

// TestLinksStayInside gives every place that is looked at a way out.
func TestLinksStayInside(t *testing.T) {
	host := tree(t, map[string]string{
		"status": dpkgStatus, "os-release": bookworm, "var/lib/dpkg/status": dpkgStatus,
		"module/package.json": `{"name": "of-the-host", "version": "1"}`,
	})
	for name, files := range map[string]map[string]string{
		"database": {"var/lib/dpkg/status": "->" + host + "/status"},
		"upwards":  {"var/lib/dpkg/status": "->" + strings.Repeat("../", 20) + host + "/status"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ReadApart(t.Context(), open(t, tree(t, files)))
			if err == nil || !strings.Contains(err.Error(), "/var/lib/dpkg/status: it is a symlink to") {
				t.Errorf("the error is %v", err)
			}
		})
	}
	for name, files := range map[string]map[string]string{
		"directory":  {"var": "->" + host + "/var"},
		"os-release": {"etc/os-release": "->" + host + "/os-release", "x": ""},
		"module":     {"srv/module": "->" + host + "/module", "srv/package.json": "->" + host + "/module/package.json"},
	} {
		t.Run(name, func(t *testing.T) {
			inv := mustRead(t, tree(t, files))
			wantLines(t, inv)
			if inv.OS.ID != "" {
				t.Errorf("it read the host's os-release: %+v", inv.OS)
			}
		})
	}
}

// TestLinkInside follows what an image may do.
func TestLinkInside(t *testing.T) {
	inv := mustRead(t, tree(t, map[string]string{"var/lib/dpkg/status": "->/data/status", "data/status": dpkgStatus}))
	if len(inv.Packages) != 2 || inv.Packages[0].Advisory.Ecosystem != "" {
		t.Errorf("packages are %v", lines(inv))
	}
}

func TestNoFileBlocks(t *testing.T) {
	dir := tree(t, map[string]string{"var/lib/dpkg/x": "", "etc/os-release": bookworm, "b/x": ""})
	for _, name := range []string{"var/lib/dpkg/status", "b/package.json"} {
		if err := unix.Mkfifo(filepath.Join(dir, name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	_, err := ReadApart(t.Context(), open(t, dir))
	if err == nil || !strings.Contains(err.Error(), "read package database /var/lib/dpkg/status: not a regular file") {
		t.Errorf("the error is %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "var/lib/dpkg/status")); err != nil {
		t.Fatal(err)
	}
	wantLines(t, mustRead(t, dir))
}

func TestDeviceIsNotRead(t *testing.T) {
	testenv.Root(t)
	dir := tree(t, map[string]string{"lib/apk/db/x": ""})
	if err := unix.Mknod(filepath.Join(dir, "lib/apk/db/installed"), unix.S_IFCHR|0o644, int(unix.Mkdev(1, 5))); err != nil {
		t.Fatal(err)
	}
	_, err := ReadApart(t.Context(), open(t, dir))
	if !strings.Contains(fmt.Sprint(err), "not a regular file") {
		t.Errorf("the error is %v", err)
	}
	if _, err := Read(t.Context(), open(t, dir)); !errors.Is(err, rootfs.ErrNotRegular) {
		t.Errorf("the error is %v", err)
	}
}

func TestBrokenFileIsAProblem(t *testing.T) {
	inv := mustRead(t, tree(t, map[string]string{"a/package.json": "{", "b/package.json": `{"name": "b", "version": "1"}`}))
	if len(inv.Packages) != 1 || len(inv.Problems) != 1 || inv.Problems[0].Path != "a/package.json" {
		t.Errorf("it is %+v", inv)
	}
}

// TestTextIsPrintable has a name that would write lines of its own into a
// document, and move a terminal's cursor.
func TestTextIsPrintable(t *testing.T) {
	inv := mustRead(t, tree(t, map[string]string{
		"a/package.json": `{"name": "evil\nPackageName: good\u001b[2J", "version": "1\r2"}`, "b\x1b\xff/package.json": "{",
	}))
	for _, line := range append(lines(inv), inv.Packages[0].PURL, inv.Problems[0].Path) {
		if strings.ContainsAny(line, "\n\r\x1b") || !utf8.ValidString(line) {
			t.Errorf("not printable: %q", line)
		}
	}
}

// TestCrashIsAnError gives the parser of Berkeley's databases a page whose
// entry points behind its end: it panics in a goroutine of its own.
func TestCrashIsAnError(t *testing.T) {
	const page = 512
	db := make([]byte, 2*page)
	binary.LittleEndian.PutUint32(db[12:], 0x00061561) // magic
	binary.LittleEndian.PutUint32(db[20:], page)
	db[25] = 8                                // a hash's metadata
	binary.LittleEndian.PutUint32(db[32:], 1) // last page
	entry := db[page:]
	binary.LittleEndian.PutUint16(entry[20:], 2) // entries
	entry[25] = 13                               // a hash's page
	copy(entry[26:], []byte{0xff, 0xff, 0xff, 0xff})
	root := open(t, tree(t, map[string]string{"var/lib/rpm/Packages": string(db)}))
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	_, err := ReadApart(t.Context(), root)
	want := "read package database /var/lib/rpm/Packages: the parser ended with exit status 2: panic: runtime error: index out of range"
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("the error is %v", err)
	}
	left, err := os.ReadDir(tmp)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// TestMemoryIsBounded has a package of 4 GB.
func TestMemoryIsBounded(t *testing.T) {
	db := []byte(newDatabase([][]byte{make([]byte, 32)}))
	length := db[4096+12:]
	binary.LittleEndian.PutUint32(length, 0xffffffff)
	_, err := ReadApart(t.Context(), open(t, tree(t, map[string]string{"var/lib/rpm/Packages.db": string(db)})))
	if err == nil || !strings.Contains(err.Error(), "memory") {
		t.Errorf("the error is %v", err)
	}
}

func TestDepthIsBounded(t *testing.T) {
	inv := mustRead(t, tree(t, map[string]string{strings.Repeat("d/", maxDepth+1) + "package.json": `{"name": "deep", "version": "1"}`}))
	if len(inv.Packages) != 0 || len(inv.Problems) != 1 || !strings.Contains(inv.Problems[0].Reason, "nest more than 200 deep") {
		t.Errorf("it is %+v", inv)
	}
}

// TestDebian compares with dpkg's own list.
func TestDebian(t *testing.T) {
	layers, err := testimage.Debian(t).Layers()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	r, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	tar := exec.Command(testenv.Tool(t, "tar"), "-x", "-C", dir, "--numeric-owner")
	tar.Stdin = r
	if out, err := tar.CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	want := run(t, dir, testenv.Tool(t, "dpkg-query"), "--admindir", filepath.Join(dir, "var/lib/dpkg"),
		"-W", "-f", "${Package} ${Version} Debian:12|${source:Package}|${source:Version}\n")
	var got strings.Builder
	for _, p := range mustRead(t, dir).Packages {
		if p.Kind == Deb {
			version := p.Advisory.Version
			fmt.Fprintf(&got, "%s %s %s|%s|%s\n", p.Name, p.Version, p.Advisory.Ecosystem, p.Advisory.Names[0], version)
		}
	}
	if got.String() != want {
		t.Errorf("packages are\n%s\ndpkg says\n%s", got.String(), want)
	}
}
