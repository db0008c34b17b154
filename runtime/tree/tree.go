// Package tree copies, compares and merges directory trees, plain ones and
// layers in overlayfs upper-directory format.
package tree

import (
	"context"
	"errors"
	"time"

	"github.com/strata-build/strata/runtime/rootfs"
)

var errLanding = errors.New("tree: being written")

// OverrideXattr holds the intended owner, mode and device of an inode where
// the kernel does not let us set them (only one user id is mapped).
const OverrideXattr = "user.strata.stat"

// Override is the decoded value of OverrideXattr: "uid:gid:mode" or
// "uid:gid:mode:major:minor", the mode in octal with its type bits.
type Override struct {
	UID, GID     uint32
	Mode         uint32
	Major, Minor uint32 // of device nodes
}

// String encodes the override.
func (o Override) String() string { return "" }

// ParseOverride decodes an override.
func ParseOverride(s string) (Override, error) { return Override{}, errLanding }

// Format says how a layer directory is written.
type Format struct {
	// UserXattr keeps overlay's own marks in user.overlay.* (rootless)
	// instead of trusted.overlay.*.
	UserXattr bool
	// SingleID is set when only one user id is mapped: owners and devices
	// are recorded as overrides.
	SingleID bool
}

// OpaqueXattr is the name of the mark of an opaque directory.
func (f Format) OpaqueXattr() string { return "" }

// Copy copies the plain tree src into the empty directory dst, whole: hard
// links, extended attributes, devices, holes of sparse files, owners, times.
func Copy(ctx context.Context, dst, src *rootfs.Root) error { return errLanding }

// CompareRequest names the two trees of Compare.
type CompareRequest struct {
	Lower, Upper *rootfs.Root
	// Dst is the directory that receives the difference.
	Dst string
	Format
	// Baseline, when set, is the change time of a file that was made in the
	// same file system after Upper was copied from Lower and before anybody
	// changed it: what has an older change time is known to be unchanged.
	Baseline time.Time
}

// Compare writes what turns Lower into Upper to Dst, as a layer directory.
func Compare(ctx context.Context, req CompareRequest) error { return errLanding }

// ApplyLayerDir applies the layer directory layer onto the plain tree dst.
func ApplyLayerDir(ctx context.Context, layer string, dst *rootfs.Root, f Format) error {
	return errLanding
}

// FlattenRequest names the layers of Flatten.
type FlattenRequest struct {
	// Layers are the layer directories, bottom first.
	Layers []string
	// Dst is an empty directory.
	Dst *rootfs.Root
	Format
	// Export leaves out what only Strata understands: overrides are applied
	// as far as the kernel lets us, and removed.
	Export bool
}

// Flatten writes the merged view of layers to a directory, without mounting.
func Flatten(ctx context.Context, req FlattenRequest) error { return errLanding }
