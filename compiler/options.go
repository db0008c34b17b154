package compiler

import (
	"context"
	"time"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/schema"
)

// Options are what a build is given besides the Spec: the flags of the
// command line, and the implementations that cmd picked.
type Options struct {
	// Platforms are the platforms to build for, in place of those that the
	// images name. Where neither names one, an image is built for
	// BuildPlatform, and its config keeps the platform of its base.
	Platforms []ocispecs.Platform
	// BuildPlatform is where the steps of a stage with `platform: "build"`
	// run. The zero value is the platform of this process.
	BuildPlatform ocispecs.Platform

	// Args are the build arguments. As in a Dockerfile, those that an image
	// does not declare have no effect on it, except for the proxies,
	// SOURCE_DATE_EPOCH, BUILDKIT_CACHE_MOUNT_NS, BUILDKIT_SANDBOX_HOSTNAME
	// and BUILDKIT_GIT_ADVICE.
	Args map[string]string
	// Labels are added to the config of every target.
	Labels map[string]string
	// NamedContexts replace images and stages by name: a reference, an
	// image or a source takes the place of each reference or stage that is
	// called so.
	NamedContexts map[string]*schema.From

	// Meta resolves references of registry images. It is called
	// concurrently.
	Meta llb.ImageMetaResolver
	// ResolveMode says whether a reference is looked up in the registry
	// although the image is there locally.
	ResolveMode llb.ResolveMode
	// Layouts opens OCI layouts and archives; nil refuses them.
	Layouts Layouts
	// Dockerfiles compiles the `dockerfile` of an image; nil refuses it.
	Dockerfiles Dockerfiles
	// Ignore returns the patterns of a context directory's ignore file; nil
	// reads its .dockerignore.
	Ignore func(dir string) ([]string, error)
	// Source returns the text of a file that a Position names, for messages
	// that show the line; nil reads the file. A file that cannot be read is
	// shown by its name only.
	Source func(file string) []byte

	// NoCache runs every step again; NoCacheFilter runs the steps of the
	// images and stages of these names again.
	NoCache       bool
	NoCacheFilter []string

	// Network is the network of the steps that do not choose one.
	Network pb.NetMode
	// ExtraHosts are added to /etc/hosts in every run step.
	ExtraHosts []llb.HostIP
	// Hostname is the host name in run steps; "" is that of the build
	// argument BUILDKIT_SANDBOX_HOSTNAME, or the engine's default.
	Hostname string
	// ShmSize is the size of /dev/shm in bytes; 0 is the engine's default.
	ShmSize      int64
	Ulimits      []*pb.Ulimit
	CgroupParent string
	// Resources limit the run steps; they are never part of a key.
	Resources *pb.LinuxResources
	// Devices are given to every run step.
	Devices []*pb.CDIDevice

	// Epoch is the creation time of what the build makes. nil is the build
	// argument SOURCE_DATE_EPOCH, or none.
	Epoch *time.Time

	// LocalUnique is written to the attribute local.unique of each local
	// source. It is no part of any key here, but an engine that merges the
	// vertices of several clients tells their contexts apart by it: give it
	// a fresh one, or use WithLocalUnique on the definition.
	LocalUnique string
}

// Layouts resolves images in OCI layouts and archives on disk.
type Layouts interface {
	// Image returns the digest and the config of the image for platform in
	// the layout or archive at path. ref is a tag or a digest in it; ""
	// stands for the only image there.
	Image(ctx context.Context, path, ref string, platform ocispecs.Platform) (digest.Digest, []byte, error)
}

// Dockerfiles compiles Dockerfiles.
type Dockerfiles interface {
	// Dockerfile compiles what the request names for one platform.
	Dockerfile(ctx context.Context, req DockerfileRequest) (*DockerfileResult, error)
}

// DockerfileRequest asks for an image of a Dockerfile.
type DockerfileRequest struct {
	Dockerfile *schema.Dockerfile
	// Context is the absolute directory that is its main build context.
	Context string
	// Platform is the target platform; the zero value is Options.BuildPlatform,
	// where the config keeps the platform of its base.
	Platform ocispecs.Platform
	// Options are those of the compilation; Args hold those of the image
	// too.
	Options Options
}

// DockerfileResult is a compiled Dockerfile.
type DockerfileResult struct {
	Definition *pb.Definition
	// Config is the image config in JSON, and BaseConfig that of the
	// registry image below it, if any.
	Config     []byte
	BaseConfig []byte
	// Locals and Stores are the directories and layouts behind the names
	// in Definition.
	Locals map[string]Local
	Stores map[string]Store
}
