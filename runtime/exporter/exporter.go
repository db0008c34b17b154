// Package exporter makes images of build results, and writes them where the
// user wants them.
//
//	layers + config ──assemble──▶ config, manifest, index (blobs) ──▶ outputs
//
// Assembling is a pure function of layers, config and epoch, and follows
// BuildKit's image writer to the byte: the same inputs give the same digest on
// every machine, and for the same layers the digest that BuildKit gives. The
// one difference is an image without layers, whose lists are empty here and
// null there, which the specification does not allow.
//
// An output is a file, a directory, the image store, a registry or a docker
// daemon. Layers' blobs are made once, whatever the number of outputs. Files
// and new directories are made beside their destination and renamed: an
// interrupted export leaves nothing.
package exporter

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/runtime/image"
	"github.com/strata-build/strata/runtime/layer"
	"github.com/strata-build/strata/runtime/store"
	"github.com/strata-build/strata/runtime/tree"
)

// Options says what an Exporter works on.
type Options struct {
	Store  *store.Store
	Layers *layer.Store
	Images *image.Store
	// Stdout receives outputs with the destination "-"; nil where there is
	// none, or a terminal.
	Stdout io.Writer
	// DockerHost is the daemon that type=docker without a destination loads
	// into, as DOCKER_HOST gives it; "" means unix:///var/run/docker.sock.
	DockerHost string
}

// layers is what the exporter asks of the layer store.
type layers interface {
	// Blob returns a layer's blob, making it where there is none.
	Blob(ctx context.Context, id string, c layer.Compression) (layer.Info, error)
	// Layer returns a layer's directory, Format how it is to be read.
	Layer(id string) (dir string, err error)
	Format() tree.Format
}

// Exporter writes images.
type Exporter struct {
	opts Options
	// at returns the layer store that cuts times at an epoch.
	at func(epoch time.Time) layers
}

// New returns an exporter.
func New(opts Options) *Exporter {
	return &Exporter{opts: opts, at: func(epoch time.Time) layers { return opts.Layers.WithEpoch(epoch) }}
}

// Image is what a build made.
type Image struct {
	// Names as the user gave them; an output's own name= replaces them.
	Names     []string
	Platforms []PlatformImage
	// Annotations for all platforms; those of an output are added.
	Annotations Annotations
	// Index makes an index of a single platform, too.
	Index bool
	// Epoch is SOURCE_DATE_EPOCH; the zero value means 1970.
	Epoch time.Time
}

// PlatformImage is the image of one platform.
type PlatformImage struct {
	Platform ocispec.Platform
	// Config is the image config that the front end made; its rootfs is
	// ignored. Empty means a default config.
	Config []byte
	// BaseConfig is the config of the base image, whose history keeps its
	// times. May be empty.
	BaseConfig []byte
	// Layers are layer ids, bottom first.
	Layers []string
	// Descriptions say what made each layer, for the history of layers that
	// the config does not speak of; aligned with Layers, may be shorter.
	Descriptions []string
}

// Progress is told what an export is about, one thing at a time.
// solver.Progress implements it.
type Progress interface {
	// Status reports on one item: a layer, a file, a push.
	Status(id string, current, total int64, done bool)
}

// Result says what was made.
type Result struct {
	// Desc is the manifest or index; zero if no output makes an image.
	Desc ocispec.Descriptor
	// ConfigDigest is the config's digest if there is only one platform.
	ConfigDigest digest.Digest
	// Names are the full names that the image was written under.
	Names []string
}

// job is one export.
type job struct {
	*Exporter
	image Image
	epoch time.Time
	p     Progress
}

// Export writes the image to all outputs, in order. The result is that of the
// first output that makes an image.
func (e *Exporter) Export(ctx context.Context, img Image, outputs []Output, p Progress) (Result, error) {
	if len(img.Platforms) == 0 {
		return Result{}, fmt.Errorf("export: there is no image")
	}
	if err := distinct(outputs); err != nil {
		return Result{}, err
	}
	var result Result
	shown := &serial{p: p}
	for _, out := range outputs {
		j := &job{Exporter: e, image: img, epoch: epochOf(img, out), p: shown}
		made, err := j.export(ctx, out)
		if err != nil {
			return result, fmt.Errorf("export %s: %w", out, err)
		}
		if result.Desc.Digest == "" {
			result = made
		}
	}
	return result, nil
}

// epochOf is the latest time that anything in the image may have.
func epochOf(img Image, out Output) time.Time {
	if out.Epoch != nil {
		return out.Epoch.UTC()
	}
	return Epoch(img.Epoch)
}

// Epoch is the epoch that an image is exported with: SOURCE_DATE_EPOCH, or
// 1970 where that is zero. Whoever makes layers' blobs in advance takes it too.
func Epoch(sourceDate time.Time) time.Time {
	if sourceDate.IsZero() {
		return time.Unix(0, 0).UTC()
	}
	return sourceDate.UTC()
}

// serial passes on progress from several goroutines, one at a time.
type serial struct {
	mu sync.Mutex
	p  Progress
}

// Status implements Progress.
func (s *serial) Status(id string, current, total int64, done bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.p != nil {
		s.p.Status(id, current, total, done)
	}
}

func (j *job) export(ctx context.Context, out Output) (Result, error) {
	switch out.Type {
	case CacheOnly:
		return Result{}, nil
	case Tar:
		return Result{}, j.tar(ctx, out)
	case Local:
		return Result{}, j.local(ctx, out)
	}
	names, err := fullNames(j.image.Names, out.Names)
	if err != nil {
		return Result{}, err
	}
	a, err := j.assemble(ctx, out)
	if err != nil {
		return Result{}, err
	}
	result := Result{Desc: a.desc, ConfigDigest: a.configDigest(), Names: names}
	switch out.Type {
	case OCI:
		return result, j.layout(ctx, out, a, names)
	case Docker:
		return result, j.docker(ctx, out, a, names)
	case ImageStore:
		return result, j.imageStore(ctx, out, a, names)
	case RegistryPush:
		return result, j.push(ctx, out, a, names)
	}
	return result, fmt.Errorf("unknown output type %q", out.Type)
}

// imageStore gives the image its names in Strata's own store.
func (j *job) imageStore(ctx context.Context, out Output, a *assembled, names []string) error {
	keep := names
	if len(keep) == 0 {
		keep = []string{""}
	}
	for _, name := range keep {
		if _, err := j.opts.Images.Put(ctx, name, a.desc); err != nil {
			return err
		}
	}
	if out.Push {
		return j.push(ctx, out, a, names)
	}
	return nil
}
