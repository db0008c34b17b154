package exporter

import (
	"github.com/strata-build/strata/runtime/layer"
)

// Type is the kind of an output.
type Type string

// The kinds of outputs.
const (
	// OCI is an OCI layout as a tar file, or with tar=false as a directory.
	OCI Type = "oci"
	// Docker is an archive for `docker load`; without a destination it is
	// loaded into a daemon.
	Docker Type = "docker"
	// Tar is the root file system as a tar file.
	Tar Type = "tar"
	// Local is the root file system as a directory.
	Local Type = "local"
	// ImageStore is Strata's own image store (type=image).
	ImageStore Type = "image"
	// RegistryPush pushes, and keeps nothing (type=registry).
	RegistryPush Type = "registry"
	// CacheOnly writes nothing.
	CacheOnly Type = "cacheonly"
)

// Output is one -o option.
type Output struct {
	Type Type
	// Dest is a path, or "-" for standard output.
	Dest string
	// Names replace the image's names.
	Names []string
	// Push pushes an image of the store.
	Push bool
	// PushByDigest pushes without a tag.
	PushByDigest bool
	// Compression of the layers.
	Compression layer.Compression
	// DockerTypes takes docker's media types instead of OCI's.
	DockerTypes bool
	// Directory writes an OCI layout as a directory (tar=false).
	Directory bool
	// PlatformSplit puts each platform into its own directory (tar, local);
	// nil means: if there are several.
	PlatformSplit *bool
	// Delete removes from a local destination what the result does not hold.
	Delete bool
	// Annotations to add, by platform ("" means all).
	Annotations map[string]Annotations
}

// ParseOutput reads one -o option by docker's rules: "type=oci,dest=x.tar", a
// lone path for type=local, "-" for a tar stream on standard output.
func ParseOutput(s string) (Output, error) { return Output{}, errUnimplemented }
