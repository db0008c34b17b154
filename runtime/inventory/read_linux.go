package inventory

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"runtime/debug"
	"strings"

	config "github.com/google/osv-scalibr/binary/proto/config_go_proto"
	"github.com/google/osv-scalibr/extractor"
	"github.com/google/osv-scalibr/extractor/filesystem"
	"github.com/google/osv-scalibr/extractor/filesystem/language/golang/gobinary"
	"github.com/google/osv-scalibr/extractor/filesystem/language/javascript/packagejson"
	"github.com/google/osv-scalibr/extractor/filesystem/language/python/wheelegg"
	"github.com/google/osv-scalibr/extractor/filesystem/os/apk"
	"github.com/google/osv-scalibr/extractor/filesystem/os/dpkg"
	"github.com/google/osv-scalibr/extractor/filesystem/os/osrelease"
	"github.com/google/osv-scalibr/extractor/filesystem/os/rpm"
	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/rootfs"
)

// databases are where package managers keep what is installed. These paths
// are looked up as a process in the image would, through symlinks inside it;
// all other files are found by walking, which follows none.
var databases = []string{
	"var/lib/dpkg/status",
	"lib/apk/db/installed",
	"usr/lib/apk/db/installed",
	"var/lib/rpm/rpmdb.sqlite", "var/lib/rpm/Packages.db", "var/lib/rpm/Packages",
	"usr/lib/sysimage/rpm/rpmdb.sqlite", "usr/lib/sysimage/rpm/Packages.db", "usr/lib/sysimage/rpm/Packages",
	"usr/share/rpm/rpmdb.sqlite", "usr/share/rpm/Packages.db", "usr/share/rpm/Packages",
}

// Bounds for what an image may ask of the reader.
const (
	// maxDatabase bounds a file that is read or copied as a whole; the largest
	// of real distributions have 150 MB.
	maxDatabase = 1 << 30
	// maxDepth bounds nested directories, of which each holds a descriptor.
	maxDepth = 200
	// databaseSeconds bounds a database whose pages lead in circles.
	databaseSeconds = 120
)

// source is one of the library's readers.
type source struct {
	kind Kind
	filesystem.Extractor
}

func sources() ([]source, error) {
	limits := &config.PluginConfig{PluginSpecific: []*config.PluginSpecificConfig{
		{Config: &config.PluginSpecificConfig_Rpm{Rpm: &config.RpmConfig{TimeoutSeconds: databaseSeconds}}},
		{Config: &config.PluginSpecificConfig_Dpkg{Dpkg: &config.DpkgConfig{MaxFileSizeBytes: maxDatabase}}},
	}}
	var all []source
	for _, s := range []struct {
		kind Kind
		make func(*config.PluginConfig) (filesystem.Extractor, error)
	}{
		{Deb, dpkg.New}, {Apk, apk.New}, {RPM, rpm.New}, {Go, gobinary.New}, {NPM, packagejson.New}, {Python, wheelegg.New},
	} {
		e, err := s.make(limits)
		if err != nil {
			return nil, fmt.Errorf("set up reader of %s packages: %w", s.kind, err)
		}
		all = append(all, source{s.kind, e})
	}
	return all, nil
}

// Read returns what is installed in a tree. It parses in this process: for an
// image that somebody else made, see [ReadApart].
func Read(ctx context.Context, root *rootfs.Root) (Inventory, error) {
	return read(ctx, root, func(string) {})
}

// read tells what it is about to do.
func read(ctx context.Context, root *rootfs.Root, doing func(what string)) (Inventory, error) {
	all, err := sources()
	if err != nil {
		return Inventory{}, err
	}
	r := &reader{ctx: ctx, root: root, sources: all, doing: doing, seen: map[string]bool{}}
	if err := r.readOS(); err != nil {
		return Inventory{}, err
	}
	for _, name := range databases {
		if err := r.database(name); err != nil {
			return Inventory{}, fmt.Errorf("read package database /%s: %w", name, err)
		}
	}
	doing("look for packages")
	dir, err := root.Dir()
	if err != nil {
		return Inventory{}, err
	}
	if err := r.walk(dir, "", 0); err != nil {
		return Inventory{}, err
	}
	r.found.tidy()
	return r.found, nil
}

type reader struct {
	ctx     context.Context
	root    *rootfs.Root
	sources []source
	doing   func(what string)
	seen    map[string]bool // canonical paths of databases that were read
	found   Inventory
}

func (r *reader) readOS() error {
	values, err := osrelease.GetOSRelease(osFiles{r.root})
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, osrelease.ErrNotADistro) {
		return nil // an image FROM scratch has none
	}
	if err != nil {
		return fmt.Errorf("read os-release: %w", err)
	}
	value := func(key string) string { return strings.Trim(values[key], `'"`) }
	r.found.OS = OS{
		ID: value("ID"), Version: value("VERSION_ID"), Codename: value("VERSION_CODENAME"), Name: value("PRETTY_NAME"),
	}
	return nil
}

// database reads a package manager's own file, where there is one. Once for
// the same file: distributions link the old place to the new one.
func (r *reader) database(name string) error {
	st, err := r.root.Stat(name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return r.noDatabase(name)
	}
	if err != nil {
		return err
	}
	canonical, err := r.root.Resolve(name)
	if err != nil || r.seen[canonical] {
		return err
	}
	r.seen[canonical] = true
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return rootfs.ErrNotRegular
	}
	if st.Size > maxDatabase {
		return fmt.Errorf("%w: it has %d bytes", rootfs.ErrTooLarge, st.Size)
	}
	f, err := r.root.OpenFile(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	r.doing("read package database /" + name)
	return r.parse(name, f)
}

// noDatabase accepts that there is none, but not a link that leads nowhere:
// packages may be installed, and would not be listed.
func (r *reader) noDatabase(name string) error {
	st, err := r.root.Lstat(name)
	if err == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
		target, err := r.root.Readlink(name)
		return errors.Join(fmt.Errorf("it is a symlink to %s, which the image does not have", target), err)
	}
	return nil
}

// walk goes through a directory, which it closes, without following symlinks.
func (r *reader) walk(dir *rootfs.Dir, at string, depth int) error {
	defer dir.Close()
	if err := r.ctx.Err(); err != nil {
		return err
	}
	entries, err := dir.ReadDir()
	if err != nil {
		r.problem(at, err)
		return nil
	}
	for _, entry := range entries {
		kind, err := typeOf(dir, entry)
		if err != nil {
			r.problem(path.Join(at, entry.Name), err)
			continue
		}
		switch kind {
		case unix.S_IFDIR:
			err = r.enter(dir, entry.Name, at, depth)
		case unix.S_IFREG:
			err = r.file(dir, entry.Name, at)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// typeOf asks the file where the listing does not tell.
func typeOf(dir *rootfs.Dir, entry rootfs.DirEntry) (uint32, error) {
	if entry.Type != 0 {
		return entry.Type, nil
	}
	st, err := dir.Lstat(entry.Name)
	return st.Mode & unix.S_IFMT, err
}

func (r *reader) enter(dir *rootfs.Dir, name, at string, depth int) error {
	below := path.Join(at, name)
	if depth == maxDepth {
		r.problem(below, fmt.Errorf("directories nest more than %d deep", maxDepth))
		return nil
	}
	child, err := dir.OpenDir(name)
	if err != nil {
		r.problem(below, err)
		return nil
	}
	return r.walk(child, below, depth+1)
}

// file reads a regular file that some source wants. Only the end of everything
// is an error.
func (r *reader) file(dir *rootfs.Dir, name, at string) error {
	full := path.Join(at, name)
	if r.seen["/"+full] || !r.wanted(full, func() (fs.FileInfo, error) {
		st, err := dir.Lstat(name)
		return infoOf(name, &st), err
	}) {
		return nil
	}
	f, err := dir.OpenFile(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		r.problem(full, err)
		return nil
	}
	defer f.Close()
	if err := r.parse(full, f); err != nil {
		r.problem(full, err)
	}
	return r.ctx.Err()
}

func (r *reader) wanted(name string, stat func() (fs.FileInfo, error)) bool {
	for _, s := range r.sources {
		if s.FileRequired(candidate{name, stat}) {
			return true
		}
	}
	return false
}

// parse lets each source that wants an open file have it.
func (r *reader) parse(name string, f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() { // swapped since it was looked at
		return rootfs.ErrNotRegular
	}
	if info.Size() == 0 {
		return nil
	}
	var errs []error
	for _, s := range r.sources {
		if !s.FileRequired(candidate{name, f.Stat}) {
			continue
		}
		packages, err := r.extract(s, &filesystem.ScanInput{FS: osFiles{r.root}, Path: name, Info: info, Reader: f})
		for _, p := range packages {
			if p != nil {
				r.found.Packages = append(r.found.Packages, fromLibrary(p, s.kind, r.found.OS))
			}
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// extract runs the library's parser, from the start of the file.
func (r *reader) extract(s source, in *filesystem.ScanInput) (packages []*extractor.Package, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the parser of %s packages panicked: %v\n%s", s.kind, p, debug.Stack())
		}
	}()
	if _, err := in.Reader.(*os.File).Seek(0, 0); err != nil {
		return nil, err
	}
	found, err := s.Extract(r.ctx, in)
	return found.Packages, err
}

func (r *reader) problem(name string, err error) {
	reason, _, _ := strings.Cut(err.Error(), "\n")
	r.found.Problems = append(r.found.Problems, Problem{Path: name, Reason: reason})
}
