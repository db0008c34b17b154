// Package engine is the local engine: it opens a store, assembles the runtime
// on it, and takes one build from LLB definitions to outputs.
//
//	definitions ─▶ solver ─▶ layers ─▶ blobs ─▶ exporter ─▶ outputs
//	                  │ worker  ▲          ▲
//	                  └─────────┘          │ layers that will be exported are
//	                                       │ packed while later steps still run
//
// Nothing here is a daemon: any number of engines, in any number of processes,
// share a store.
package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/runtime/cgroup"
	"github.com/strata-build/strata/runtime/executor"
	"github.com/strata-build/strata/runtime/exporter"
	"github.com/strata-build/strata/runtime/image"
	"github.com/strata-build/strata/runtime/layer"
	"github.com/strata-build/strata/runtime/network"
	"github.com/strata-build/strata/runtime/registry"
	"github.com/strata-build/strata/runtime/snapshot"
	"github.com/strata-build/strata/runtime/store"
)

// Options say where the store is and what surrounds it. The environment is
// read by cmd alone.
type Options struct {
	// Root is the store's directory.
	Root string
	// Driver chooses the snapshotter: "overlay", "copy", or "" for whichever
	// works.
	Driver string
	// Rootless is set inside a user namespace, SingleID where it maps one id.
	Rootless, SingleID bool
	// Registry configures registries, credentials and mirrors.
	Registry registry.Options
	// Env has the variables that git may see.
	Env []string
	// DockerHost is the daemon that --load and type=docker without a
	// destination talk to.
	DockerHost string
	// Stdout receives outputs with the destination "-".
	Stdout io.Writer
	// SharedProc lets steps see the /proc around Strata where the kernel
	// refuses a new one.
	SharedProc bool
	// DeviceDirs are where CDI devices are described.
	DeviceDirs []string
	// Transport replaces the network of http sources, for tests.
	Transport http.RoundTripper
}

// Engine is an open store with the runtime around it.
type Engine struct {
	opt Options

	Store     *store.Store
	Snapshots snapshot.Snapshotter
	Layers    *layer.Store
	Images    *image.Store
	Registry  *registry.Client
	Exporter  *exporter.Exporter

	execOnce sync.Once
	exec     *executor.Executor
	execErr  error

	netOnce sync.Once
	net     *network.Provider
	netErr  error

	background sync.WaitGroup
	syncErr    error
}

// Open opens the store. Executor and network are made when a step first needs
// them: a build with nothing to do pays for neither.
func Open(ctx context.Context, opt Options) (*Engine, error) {
	st, err := store.New(store.Options{Root: opt.Root, Verified: []string{image.Bucket, BucketContainers, BucketVolumes}})
	if err != nil {
		return nil, err
	}
	e := &Engine{opt: opt, Store: st}
	if st.SyncDue(syncDelay) {
		e.background.Go(func() { e.syncErr = st.Sync(ctx) })
	}
	if err := e.assemble(); err != nil {
		return nil, errors.Join(err, st.Close())
	}
	return e, nil
}

// syncDelay is how long after a build its results are made safe from a power
// loss, by the next command: Linux writes dirty pages back within 30 s, so that
// there is then little left to wait for.
const syncDelay = 40 * time.Second

func (e *Engine) assemble() (err error) {
	e.Snapshots, err = snapshot.Open(e.Store, snapshot.Options{Driver: e.opt.Driver, UserXattr: e.opt.Rootless})
	if err != nil {
		return err
	}
	if e.Registry, err = registry.New(e.opt.Registry); err != nil {
		return err
	}
	e.Layers = layer.NewStore(e.Store, e.Snapshots, layer.Options{Epoch: time.Unix(0, 0), SingleID: e.opt.SingleID})
	e.Images = image.New(image.Options{
		Store: e.Store, Layers: e.Layers, Registry: e.Registry, Platform: e.Platform(),
	})
	e.Exporter = exporter.New(exporter.Options{
		Store: e.Store, Layers: e.Layers, Images: e.Images,
		Stdout: e.opt.Stdout, DockerHost: e.opt.DockerHost,
	})
	return nil
}

// Platform is the platform of this machine.
func (e *Engine) Platform() ocispec.Platform { return platforms.Normalize(platforms.DefaultSpec()) }

// Executor returns the executor.
func (e *Engine) Executor() (*executor.Executor, error) {
	e.execOnce.Do(func() { e.exec, e.execErr = executor.New(executor.Options{SharedProc: e.opt.SharedProc}) })
	return e.exec, e.execErr
}

// Network returns the maker of networks.
func (e *Engine) Network() (*network.Provider, error) {
	e.netOnce.Do(func() {
		routes, err := os.Open("/proc/net/ipv6_route")
		v6 := false
		if err == nil { // a kernel without IPv6 has no such file
			v6 = network.HasIPv6(routes)
			routes.Close()
		}
		e.net, e.netErr = network.New(network.Options{IPv6: v6})
	})
	return e.net, e.netErr
}

// Cgroups returns the control groups of this process, or nil where there are
// none.
func (e *Engine) Cgroups() (*cgroup.Hierarchy, error) {
	h, err := cgroup.Detect()
	if err != nil || h.Mode() == cgroup.Unavailable {
		return nil, err
	}
	return h, nil
}

// directory makes a directory of the store for one kind of thing.
func (e *Engine) directory(name string) (string, error) {
	dir, err := e.Store.Dir(name)
	if err != nil {
		return "", fmt.Errorf("open store: %w", err)
	}
	return dir, nil
}

// caches returns the directory of cache mounts.
func (e *Engine) caches() (string, error) { return e.directory("caches") }

// Containers returns the directory with a directory for each container.
func (e *Engine) Containers() (string, error) { return e.directory("containers") }

// Volumes returns the directory with a directory for each volume.
func (e *Engine) Volumes() (string, error) { return e.directory("volumes") }

// binfmt is where the kernel lists the emulators of foreign programs.
const binfmt = "/proc/sys/fs/binfmt_misc"

// Close ends what belongs to this process.
func (e *Engine) Close() error {
	e.background.Wait()
	errs := []error{e.syncErr}
	if e.exec != nil {
		errs = append(errs, e.exec.Close())
	}
	if e.net != nil {
		errs = append(errs, e.net.Close())
	}
	return errors.Join(append(errs, e.Store.Close())...)
}
