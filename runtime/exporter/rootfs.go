package exporter

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/runtime/layer"
)

// tar writes the root file system, or those of several platforms, each below
// a directory of its name.
func (j *job) tar(ctx context.Context, out Output) error {
	split := j.split(out)
	if len(j.image.Platforms) > 1 && !split {
		return errors.New("platform-split=false: the platforms would overwrite each other in one tar file")
	}
	return j.writeBuffered(ctx, out.Dest, func(w io.Writer) error {
		if !split {
			return j.flatten(ctx, w, j.image.Platforms[0])
		}
		tw := tar.NewWriter(w)
		for _, p := range j.image.Platforms {
			if err := j.flattenBelow(ctx, tw, p); err != nil {
				return err
			}
		}
		return tw.Close()
	})
}

func (j *job) split(out Output) bool {
	if out.PlatformSplit != nil {
		return *out.PlatformSplit
	}
	return len(j.image.Platforms) > 1
}

// platformDir is the directory of a platform, as BuildKit names it.
func platformDir(p ocispec.Platform) string {
	return strings.NewReplacer("/", "_", `\`, "_", ":", "_").Replace(platforms.Format(platforms.Normalize(p)))
}

// flatten writes the merged layers as one tar stream.
func (j *job) flatten(ctx context.Context, w io.Writer, p PlatformImage) error {
	var dirs []string
	store := j.at(j.epoch)
	for _, id := range p.Layers {
		dir, err := store.Layer(id)
		if err != nil {
			return fmt.Errorf("read layer %s: %w", id, err)
		}
		dirs = append(dirs, dir)
	}
	return layer.FlattenTar(ctx, w, dirs, layer.WriteOptions{Epoch: j.epoch, Format: store.Format()})
}

// flattenBelow writes a platform below its directory.
func (j *job) flattenBelow(ctx context.Context, tw *tar.Writer, p PlatformImage) error {
	dir := platformDir(p.Platform)
	err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, ModTime: j.epoch})
	if err != nil {
		return fmt.Errorf("write tar: %w", err)
	}
	return j.entriesOf(ctx, p, func(h *tar.Header, r io.Reader) error {
		if strings.Trim(h.Name, "./") == "" {
			return nil
		}
		h.Name = dir + "/" + strings.TrimPrefix(h.Name, "./")
		if h.Typeflag == tar.TypeLink {
			h.Linkname = dir + "/" + strings.TrimPrefix(h.Linkname, "./")
		}
		if err := tw.WriteHeader(h); err != nil {
			return fmt.Errorf("write tar: %w", err)
		}
		_, err := io.Copy(tw, r)
		return err
	})
}

// entriesOf calls f for each file of a platform's root file system.
func (j *job) entriesOf(ctx context.Context, p PlatformImage, f func(*tar.Header, io.Reader) error) error {
	r, w := io.Pipe()
	go func() { w.CloseWithError(j.flatten(ctx, w, p)) }()
	defer r.Close()
	tr := tar.NewReader(bufio.NewReaderSize(r, 256<<10))
	for {
		h, err := tr.Next()
		if err == io.EOF {
			// The writer may have failed after the end of the archive.
			_, err := io.Copy(io.Discard, r)
			return err
		}
		if err != nil {
			return err
		}
		if err := f(h, tr); err != nil {
			return err
		}
	}
}
