// Package testimage makes the base images that tests build on, out of what
// Debian's packages bring: busybox-static, and a Debian tree by debootstrap.
// They are served by a registry in the test process, on loopback.
package testimage

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/strata-build/strata/internal/testenv"
)

// Registry starts a registry on loopback and returns its host:port.
func Registry(t testing.TB) string {
	t.Helper()
	s := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// Push pushes an image to a registry of Registry's and returns its full name.
func Push(t testing.TB, host, repository string, img v1.Image) string {
	t.Helper()
	ref, err := name.ParseReference(host + "/" + repository)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img); err != nil {
		t.Fatal(err)
	}
	return ref.Name()
}

// applets are the programs of busybox that tests use.
var applets = strings.Fields(`
	[ adduser addgroup ash awk basename cat chgrp chmod chown chroot cmp cp cut date dd df diff dirname du
	echo egrep env expr false find fgrep grep gunzip gzip head hexdump hostname httpd id ifconfig install ip
	kill killall ln ls md5sum mkdir mkfifo mknod mktemp mount mv nc nproc nslookup od ping printenv printf ps pwd
	readlink realpath rm rmdir route sed seq setsid sh sha256sum sleep sort stat stty su sync tail tar tee test
	time timeout top touch tr true truncate umount uname uniq unlink usleep wc wget whoami xargs xz yes zcat`)

// Busybox is an image of a static busybox with its usual applets, root and
// nobody in /etc/passwd, and a /tmp for everybody.
func Busybox(t testing.TB) v1.Image {
	t.Helper()
	program, err := os.ReadFile(testenv.Tool(t, "busybox"))
	if err != nil {
		t.Fatal(err)
	}
	img, err := busybox(program)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func busybox(program []byte) (v1.Image, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	entries := []struct {
		tar.Header
		data []byte
	}{}
	add := func(h tar.Header, data []byte) {
		h.Size = int64(len(data))
		entries = append(entries, struct {
			tar.Header
			data []byte
		}{h, data})
	}
	dir := func(name string, mode int64) { add(tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode}, nil) }
	file := func(name string, mode int64, data string) {
		add(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode}, []byte(data))
	}
	dir("bin/", 0o755)
	file("bin/busybox", 0o755, string(program))
	for _, applet := range applets {
		add(tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + applet, Linkname: "busybox", Mode: 0o777}, nil)
	}
	dir("etc/", 0o755)
	file("etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/var/www:/bin/false\nnobody:x:65534:65534:nobody:/:/bin/false\n")
	file("etc/group", 0o644, "root:x:0:\nwww-data:x:33:\nnogroup:x:65534:\n")
	dir("root/", 0o700)
	dir("tmp/", 0o1777)
	dir("usr/", 0o755)
	dir("usr/bin/", 0o755)
	add(tar.Header{Typeflag: tar.TypeSymlink, Name: "usr/bin/env", Linkname: "/bin/busybox", Mode: 0o777}, nil)
	for _, e := range entries {
		if err := w.WriteHeader(&e.Header); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return FromTar(buf.Bytes(), v1.Config{
		Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		Cmd: []string{"sh"},
	})
}

// FromTar makes an image of one layer.
func FromTar(layerTar []byte, config v1.Config) (v1.Image, error) {
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(layerTar)), nil
	})
	if err != nil {
		return nil, err
	}
	return withLayer(layer, config)
}

func withLayer(layer v1.Layer, config v1.Config) (v1.Image, error) {
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture, cfg.Config = "linux", "amd64", config
	return mutate.ConfigFile(img, cfg)
}

var debianOnce sync.Mutex

// Debian is an image of Debian bookworm, made by debootstrap through this
// machine's own apt settings. The tree is made once a machine: it takes a
// minute.
func Debian(t testing.TB) v1.Image {
	t.Helper()
	testenv.Root(t)
	debootstrap := testenv.Tool(t, "debootstrap")
	debianOnce.Lock()
	defer debianOnce.Unlock()
	archive := filepath.Join(os.TempDir(), fmt.Sprintf("strata-test-debian-%d.tar", debianVersion))
	if _, err := os.Stat(archive); err != nil {
		if err := bootstrap(debootstrap, archive); err != nil {
			t.Fatal(err)
		}
	}
	layer, err := tarball.LayerFromFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	img, err := withLayer(layer, v1.Config{
		Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		Cmd: []string{"bash"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// debianVersion changes the name of the kept tree when what it holds changes.
const debianVersion = 1

// bootstrap makes the tree and packs it. apt's sources, keys, and proxies
// come from the machine.
func bootstrap(debootstrap, archive string) error {
	dir, err := os.MkdirTemp("", "strata-debootstrap-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	mirror := "http://deb.debian.org/debian"
	script := `set -e
		"$1" --variant=minbase --include=ca-certificates bookworm "$2" "$3" >"$2.log" 2>&1 || { tail -20 "$2.log" >&2; exit 1; }
		rm -f "$2.log"
		rm -rf "$2"/var/cache/apt/archives/*.deb "$2"/var/lib/apt/lists/* "$2"/var/log/*.log "$2"/dev/* "$2"/etc/resolv.conf "$2"/etc/hostname
		cp /etc/apt/sources.list.d/debian.sources "$2/etc/apt/sources.list.d/" 2>/dev/null && rm -f "$2/etc/apt/sources.list" || cp /etc/apt/sources.list "$2/etc/apt/"
		for f in /etc/apt/apt.conf /etc/apt/apt.conf.d/*proxy*; do
			[ -e "$f" ] && cp "$f" "$2/etc/apt/apt.conf.d/" || true
		done
		tar -C "$2" --numeric-owner --xattrs -cf "$4.tmp" . && mv "$4.tmp" "$4"`
	out, err := exec.Command("sh", "-c", script, "sh", debootstrap, dir, mirror, archive).CombinedOutput()
	if err != nil {
		return fmt.Errorf("debootstrap: %w\n%s", err, out)
	}
	return nil
}
