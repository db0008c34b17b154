package osv

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/strata-build/strata/runtime/inventory"
)

// maxAdvisory bounds a document; the largest have a few megabytes.
const maxAdvisory = 64 << 20

// database has the advisories about wanted packages, by ecosystem without
// release, and name.
type database struct {
	count int // of all documents
	by    map[key][]entry
}

// entry is an advisory with the index of its affected package.
type entry struct {
	advisory *advisory
	at       int
}

type key struct{ ecosystem, name string }

// keyOf leaves out the release: "Debian:12" is looked up under "Debian".
func keyOf(ecosystem, name string) key {
	base, _, _ := strings.Cut(ecosystem, ":")
	if base == "PyPI" {
		name = inventory.NormalPython(name)
	}
	return key{base, name}
}

// wanted are the packages that advisories are kept for.
type wanted map[key]bool

func (w wanted) has(ecosystem, name string) bool { return w[keyOf(ecosystem, name)] }

// load reads all *.json and *.zip files below dir. Symlinks to files are
// followed: the folder is the user's own.
func load(ctx context.Context, dir string, want wanted) (*database, error) {
	l := &loading{want: want, db: &database{by: map[key][]entry{}}, dir: dir, fsys: os.DirFS(dir)}
	l.jobs, l.ctx = errgroup.WithContext(ctx)
	l.jobs.SetLimit(runtime.GOMAXPROCS(0))
	walked := fs.WalkDir(l.fsys, ".", l.visit)
	if err := l.jobs.Wait(); err != nil { // why the walk ended, if it did
		return nil, err
	}
	if walked != nil {
		return nil, l.unread(walked)
	}
	if l.db.count == 0 {
		return nil, fmt.Errorf("%s holds no OSV advisories: they are files named *.json, or *.zip with such files", dir)
	}
	return l.db, nil
}

type loading struct {
	ctx  context.Context
	jobs *errgroup.Group
	want wanted
	dir  string
	fsys fs.FS

	mu sync.Mutex
	db *database
}

// unread names the folder as the user did.
func (l *loading) unread(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return fmt.Errorf("read database %s: %w", path.Join(l.dir, at.Path), at.Err)
	}
	return fmt.Errorf("read database %s: %w", l.dir, err)
}

func (l *loading) visit(name string, d fs.DirEntry, err error) error {
	if err = errors.Join(err, l.ctx.Err()); err != nil {
		return err
	}
	read := map[string]func(string) error{".json": l.file, ".zip": l.archive}[path.Ext(name)]
	if d.IsDir() || read == nil {
		return nil
	}
	if info, err := fs.Stat(l.fsys, name); err != nil || !info.Mode().IsRegular() {
		return err
	}
	l.jobs.Go(func() error {
		if err := read(name); err != nil {
			return l.unread(&fs.PathError{Op: "read", Path: name, Err: err})
		}
		return nil
	})
	return nil
}

func (l *loading) file(name string) error {
	f, err := l.fsys.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return l.document(f)
}

// archive reads a zip file, as osv.dev publishes one for each ecosystem.
func (l *loading) archive(name string) error {
	f, err := l.fsys.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	z, err := zip.NewReader(f.(io.ReaderAt), info.Size())
	if err != nil {
		return err
	}
	for _, member := range z.File {
		if path.Ext(member.Name) != ".json" || l.ctx.Err() != nil {
			continue
		}
		if err := l.member(member); err != nil {
			return fmt.Errorf("%s: %w", member.Name, err)
		}
	}
	return l.ctx.Err()
}

func (l *loading) member(m *zip.File) error {
	r, err := m.Open()
	if err != nil {
		return err
	}
	return errors.Join(l.document(r), r.Close())
}

func (l *loading) document(r io.Reader) error {
	data, err := io.ReadAll(io.LimitReader(r, maxAdvisory+1))
	if err != nil {
		return err
	}
	if len(data) > maxAdvisory {
		return fmt.Errorf("not an OSV advisory: it has more than %d bytes", maxAdvisory)
	}
	a, err := parse(data, l.want)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.db.count++
	l.db.add(a, l.want)
	return nil
}

func (db *database) add(a *advisory, want wanted) {
	if a == nil {
		return
	}
	for i, affected := range a.Affected {
		if k := keyOf(affected.Package.Ecosystem, affected.Package.Name); want[k] {
			db.by[k] = append(db.by[k], entry{a, i})
		}
	}
}
