package exporter

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"time"

	"github.com/distribution/reference"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// annotationName is where containerd, and docker with it, keeps a full name.
const annotationName = "io.containerd.image.name"

// layout writes an OCI layout, as a tar file or as a directory.
func (j *job) layout(ctx context.Context, out Output, a *assembled, names []string) error {
	if out.Directory {
		return j.layoutDir(ctx, out.Dest, a, names)
	}
	return j.writeTo(ctx, out.Dest, func(w io.Writer) error { return j.layoutTar(ctx, w, a, names, nil) })
}

// entries are what index.json says of an image: one descriptor for each name.
func (j *job) entries(a *assembled, names []string) []ocispec.Descriptor {
	plain := ocispec.Descriptor{MediaType: a.desc.MediaType, Digest: a.desc.Digest, Size: a.desc.Size, Platform: a.desc.Platform}
	plain.Annotations = union(a.desc.Annotations, map[string]string{ocispec.AnnotationCreated: j.epoch.Format(time.RFC3339)})
	if len(names) == 0 {
		return []ocispec.Descriptor{plain}
	}
	var list []ocispec.Descriptor
	for _, name := range names {
		desc := plain
		desc.Annotations = union(plain.Annotations, map[string]string{annotationName: name, ocispec.AnnotationRefName: tagOf(name)})
		list = append(list, desc)
	}
	return list
}

// tagOf is a full name's tag.
func tagOf(name string) string {
	if ref, err := reference.Parse(name); err == nil {
		if tagged, ok := ref.(reference.Tagged); ok {
			return tagged.Tag()
		}
	}
	return name
}

func indexJSON(manifests []ocispec.Descriptor) ([]byte, error) {
	data, err := json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: manifests,
	})
	if err != nil {
		return nil, fmt.Errorf("write index.json: %w", err)
	}
	return data, nil
}

func layoutJSON() []byte {
	return []byte(`{"imageLayoutVersion":"` + ocispec.ImageLayoutVersion + `"}`)
}

func blobName(desc ocispec.Descriptor) string {
	return path.Join(ocispec.ImageBlobsDir, desc.Digest.Algorithm().String(), desc.Digest.Encoded())
}

// layoutFiles are what a layout consists of.
type layoutFiles struct {
	entries []ocispec.Descriptor // of index.json
	blobs   []ocispec.Descriptor // each once
	more    map[string][]byte    // further files beside them
}

func (l *layoutFiles) add(desc ocispec.Descriptor) {
	if !slices.ContainsFunc(l.blobs, func(have ocispec.Descriptor) bool { return have.Digest == desc.Digest }) {
		l.blobs = append(l.blobs, desc)
	}
}

// layoutTar writes the layout of one image as a tar stream.
func (j *job) layoutTar(ctx context.Context, w io.Writer, a *assembled, names []string, more map[string][]byte) error {
	return j.writeLayout(ctx, w, layoutFiles{entries: j.entries(a, names), blobs: a.blobs(), more: more})
}

// writeLayout writes a layout as a tar stream. Small documents come first: a
// reader knows early what it will get.
func (j *job) writeLayout(ctx context.Context, w io.Writer, l layoutFiles) error {
	index, err := indexJSON(l.entries)
	if err != nil {
		return err
	}
	files := map[string][]byte{ocispec.ImageLayoutFile: layoutJSON(), ocispec.ImageIndexFile: index}
	maps.Copy(files, l.more)
	t := &tarFile{w: w}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := t.add(name, int64(len(files[name])), bytes.NewReader(files[name])); err != nil {
			return err
		}
	}
	for _, dir := range []string{ocispec.ImageBlobsDir + "/", ocispec.ImageBlobsDir + "/sha256/"} {
		if err := t.header(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}); err != nil {
			return err
		}
	}
	sort.Slice(l.blobs, func(x, y int) bool { return l.blobs[x].Digest < l.blobs[y].Digest })
	for _, desc := range l.blobs {
		if err := j.addBlob(ctx, t, desc); err != nil {
			return fmt.Errorf("write blob %s: %w", desc.Digest, err)
		}
	}
	return t.finish()
}

func (j *job) addBlob(ctx context.Context, t *tarFile, desc ocispec.Descriptor) error {
	f, err := j.openBlob(desc)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := ctx.Err(); err != nil {
		return err
	}
	return t.add(blobName(desc), desc.Size, f)
}

// openBlob opens a blob's file; it was verified when it was made.
func (j *job) openBlob(desc ocispec.Descriptor) (*os.File, error) {
	p, err := j.opts.Store.BlobPath(desc.Digest)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(p)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() != desc.Size {
		err = fmt.Errorf("it has %d bytes on disk, not %d: run `strata fsck`", info.Size(), desc.Size)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// tarFile writes plain files into a tar stream. Unlike archive/tar it hands
// files to the writer as they are, so that the kernel can copy them.
type tarFile struct{ w io.Writer }

const tarBlock = 512

func (t *tarFile) header(h *tar.Header) error {
	var buf bytes.Buffer
	if err := tar.NewWriter(&buf).WriteHeader(h); err != nil {
		return fmt.Errorf("write tar header of %s: %w", h.Name, err)
	}
	_, err := t.w.Write(buf.Bytes())
	return err
}

func (t *tarFile) add(name string, size int64, r io.Reader) error {
	if err := t.header(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o444, Size: size}); err != nil {
		return err
	}
	n, err := io.Copy(t.w, r)
	if err != nil {
		return err
	}
	if n != size {
		return fmt.Errorf("%s changed while it was written: %w", name, io.ErrUnexpectedEOF)
	}
	_, err = t.w.Write(make([]byte, (tarBlock-size%tarBlock)%tarBlock))
	return err
}

// finish writes the two empty blocks at the end.
func (t *tarFile) finish() error {
	_, err := t.w.Write(make([]byte, 2*tarBlock))
	return err
}

// layoutDir writes the layout as a directory. A layout that is there already
// keeps its images, but for those whose name is given anew: index.json, which
// alone says what a layout holds, is replaced last.
func (j *job) layoutDir(ctx context.Context, dest string, a *assembled, names []string) error {
	old, err := existingIndex(dest)
	if err != nil {
		return err
	}
	d := &layoutDir{dir: dest, fresh: old == nil}
	if d.fresh {
		d.dir = temporary(filepath.Dir(filepath.Clean(dest)))
	}
	if err := j.fillLayout(ctx, d, a, addEntries(old, j.entries(a, names))); err != nil {
		return errors.Join(err, d.undo())
	}
	if !d.fresh {
		return nil
	}
	if err := os.Rename(d.dir, dest); err != nil {
		return errors.Join(fmt.Errorf("write output: %w", err), d.undo())
	}
	return nil
}

// existingIndex reads the entries of a layout that is there; nil if there is
// nothing, or an empty directory.
func existingIndex(dest string) ([]ocispec.Descriptor, error) {
	data, err := os.ReadFile(filepath.Join(dest, ocispec.ImageIndexFile))
	if errors.Is(err, fs.ErrNotExist) {
		files, err := os.ReadDir(dest)
		if errors.Is(err, fs.ErrNotExist) || err == nil && len(files) == 0 {
			return nil, nil
		}
		return nil, errors.Join(fmt.Errorf("%s holds something that is no OCI layout", dest), err)
	}
	if err != nil {
		return nil, fmt.Errorf("read OCI layout: %w", err)
	}
	var index ocispec.Index
	if err := json.Unmarshal(data, &index); err != nil {
		return nil, fmt.Errorf("read %s: %w", filepath.Join(dest, ocispec.ImageIndexFile), err)
	}
	return append([]ocispec.Descriptor{}, index.Manifests...), nil
}

// addEntries replaces entries of the same name; of one without, that of the
// same digest.
func addEntries(old, added []ocispec.Descriptor) []ocispec.Descriptor {
	kept := slices.DeleteFunc(slices.Clone(old), func(have ocispec.Descriptor) bool {
		return slices.ContainsFunc(added, func(a ocispec.Descriptor) bool {
			name := a.Annotations[annotationName]
			return have.Annotations[annotationName] == name && (name != "" || have.Digest == a.Digest)
		})
	})
	return append(kept, added...)
}

// layoutDir is a layout directory being filled.
type layoutDir struct {
	dir   string
	fresh bool     // the whole directory is ours
	made  []string // files that were not there before
}

// undo takes back what was written.
func (d *layoutDir) undo() error {
	if d.fresh {
		return os.RemoveAll(d.dir)
	}
	var errs []error
	for _, file := range d.made {
		errs = append(errs, os.Remove(file))
	}
	return errors.Join(errs...)
}

func (j *job) fillLayout(ctx context.Context, d *layoutDir, a *assembled, entries []ocispec.Descriptor) error {
	if err := os.MkdirAll(filepath.Join(d.dir, ocispec.ImageBlobsDir, "sha256"), 0o755); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	for _, desc := range a.blobs() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := j.placeBlob(d, desc); err != nil {
			return fmt.Errorf("write blob %s: %w", desc.Digest, err)
		}
	}
	index, err := indexJSON(entries)
	if err != nil {
		return err
	}
	if err := d.replace(ocispec.ImageLayoutFile, layoutJSON()); err != nil {
		return err
	}
	return d.replace(ocispec.ImageIndexFile, index)
}

// placeBlob links a blob of the store into the layout, which costs nothing, or
// copies it where they are on different file systems.
func (j *job) placeBlob(d *layoutDir, desc ocispec.Descriptor) error {
	target := filepath.Join(d.dir, filepath.FromSlash(blobName(desc)))
	if info, err := os.Lstat(target); err == nil && info.Mode().IsRegular() && info.Size() == desc.Size {
		return nil
	}
	src, err := j.openBlob(desc)
	if err != nil {
		return err
	}
	defer src.Close()
	tmp := temporary(filepath.Dir(target))
	if os.Link(src.Name(), tmp) != nil {
		if err := copyFile(src, tmp); err != nil {
			return err
		}
	}
	if err := os.Rename(tmp, target); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	d.made = append(d.made, target)
	return nil
}

func copyFile(src *os.File, to string) error {
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, src)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(to))
	}
	return nil
}

// replace writes a small file by rename.
func (d *layoutDir) replace(name string, data []byte) error {
	tmp := temporary(d.dir)
	if err := os.WriteFile(tmp, data, 0o644); err != nil {
		return errors.Join(fmt.Errorf("write output: %w", err), os.Remove(tmp))
	}
	if err := os.Rename(tmp, filepath.Join(d.dir, name)); err != nil {
		return errors.Join(fmt.Errorf("write output: %w", err), os.Remove(tmp))
	}
	return nil
}
