// Package exporter makes images of build results, and writes them where the
// user wants them.
//
//	layers + config ──assemble──▶ config, manifest, index (blobs) ──▶ outputs
//
// Assembling is a pure function of layers, config and epoch, and follows
// BuildKit's image writer to the byte: the same inputs give the same digest on
// every machine, and the digest that BuildKit gives for the same layers.
//
// An output is a file, a directory, the image store, a registry or a docker
// daemon. Files and directories are made beside their destination and renamed:
// an interrupted export leaves nothing.
package exporter

import (
	"context"
	"errors"
	"io"
	"time"

	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/runtime/image"
	"github.com/strata-build/strata/runtime/layer"
	"github.com/strata-build/strata/runtime/registry"
	"github.com/strata-build/strata/runtime/snapshot"
	"github.com/strata-build/strata/runtime/store"
)

// Options says what an Exporter works on.
type Options struct {
	Store     *store.Store
	Layers    *layer.Store
	Snapshots snapshot.Snapshotter
	Images    *image.Store
	// Stdout receives outputs with the destination "-".
	Stdout io.Writer
	// DockerHost is the daemon that type=docker without a destination loads
	// into; "" means unix:///var/run/docker.sock.
	DockerHost string
}

// Exporter writes images.
type Exporter struct {
	opts Options
}

// New returns an exporter.
func New(opts Options) *Exporter { return &Exporter{opts: opts} }

// Image is what a build made.
type Image struct {
	// Names as the user gave them; an output's own name= replaces them.
	Names     []string
	Platforms []PlatformImage
	// Annotations of the build; those of an output are added.
	Annotations Annotations
	// Epoch is SOURCE_DATE_EPOCH; the zero value is 1970.
	Epoch time.Time
}

// PlatformImage is the image of one platform.
type PlatformImage struct {
	Platform ocispec.Platform
	// Config is the image config that the front end made, without rootfs.
	// Empty means a default config.
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

// Annotations by the place they go to.
type Annotations struct {
	Manifest, Index, ManifestDescriptor, IndexDescriptor map[string]string
}

// Result says what was made.
type Result struct {
	// Desc is the manifest or index.
	Desc ocispec.Descriptor
	// ConfigDigest is the config's digest if there is only one platform.
	ConfigDigest digest.Digest
	// Names are the full names the image was written under.
	Names []string
}

var errUnimplemented = errors.New("not yet written")

// Progress tells what an export is about; it may be nil.
type Progress interface {
	// Status reports one item of the export: a layer, a file, a push.
	Status(id string, current, total int64, done bool)
}

// Export writes the image to all outputs. The layers' blobs are made once,
// whatever the number of outputs. The result is that of the first output that
// makes an image, or the zero value.
func (e *Exporter) Export(ctx context.Context, img Image, outputs []Output, p Progress) (Result, error) {
	return Result{}, errUnimplemented
}

// Push is how cmd gets at the progress type of pushes.
type Push = registry.Update

// IDFile is the content of --iidfile.
func (r Result) IDFile() string { return "" }

// Metadata is the content of --metadata-file.
func (r Result) Metadata() ([]byte, error) { return nil, errUnimplemented }
