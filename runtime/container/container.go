// Package container runs images: a writable layer on top of the image's, a
// process in namespaces of its own, and the network and limits around it.
package container

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/runtime/engine"
	"github.com/strata-build/strata/runtime/executor"
	"github.com/strata-build/strata/runtime/image"
	"github.com/strata-build/strata/runtime/mount"
	"github.com/strata-build/strata/runtime/network"
	"github.com/strata-build/strata/runtime/rootfs"
)

// Request is a container to run. What is nil or empty is the image's.
type Request struct {
	Image      string
	Args       []string // replaces the image's command
	Entrypoint *string  // replaces the image's entrypoint; "" removes it
	Env        []string // added to the image's
	Workdir    string
	User       string
	Hostname   string
	Network    network.Mode
	ReadOnly   bool

	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Terminal       *executor.Terminal
}

// ErrNoCommand is returned for an image that says nothing of what to run.
var ErrNoCommand = errors.New("the image has no command: give one after its name")

// Run runs a container in the foreground and removes it when it has ended.
func Run(ctx context.Context, e *engine.Engine, req Request) (status executor.Status, err error) {
	img, err := e.Images.Resolve(ctx, req.Image)
	if err != nil {
		return status, err
	}
	platform := e.Platform()
	m, err := e.Images.Load(ctx, img.Desc, &platform, nil)
	if err != nil {
		return status, err
	}
	r := &running{e: e, id: newID()}
	defer func() { err = errors.Join(err, r.close()) }()
	if err := r.prepare(ctx, m); err != nil {
		return status, err
	}
	spec, err := r.spec(ctx, req, m.Config.Config)
	if err != nil {
		return status, err
	}
	exec, err := e.Executor()
	if err != nil {
		return status, err
	}
	return exec.Run(ctx, spec)
}

// newID makes a container's id, as docker's: 64 hex digits.
func newID() string {
	var b [32]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

// shortID is how many digits of an id people see.
const shortID = 12

// running is a container while it runs: what is undone when it has ended.
type running struct {
	e        *engine.Engine
	id       string
	root     mounted
	releases []func() error
}

type mounted struct {
	tree mount.Tree
	root *rootfs.Root
}

func (r *running) onClose(fn func() error) { r.releases = append(r.releases, fn) }

func (r *running) close() error {
	var errs []error
	for i := len(r.releases) - 1; i >= 0; i-- {
		errs = append(errs, r.releases[i]())
	}
	return errors.Join(errs...)
}

// prepare unpacks the image and puts a writable layer on top.
func (r *running) prepare(ctx context.Context, m image.Manifest) error {
	lease, err := r.e.Store.NewLease(ctx)
	if err != nil {
		return err
	}
	r.onClose(lease.Close)
	layers, err := r.e.Images.Unpack(ctx, image.UnpackRequest{Manifest: m})
	if err != nil {
		return err
	}
	key := "container-" + r.id
	tree, err := r.e.Snapshots.Prepare(ctx, key, layers)
	if err != nil {
		return fmt.Errorf("prepare root file system: %w", err)
	}
	r.onClose(func() error { return r.e.Snapshots.Remove(context.WithoutCancel(ctx), key) })
	f, err := tree.Open()
	if err != nil {
		return err
	}
	r.onClose(f.Close)
	root, err := rootfs.Open(f)
	if err != nil {
		return err
	}
	r.onClose(root.Close)
	r.root = mounted{tree, root}
	return nil
}

// spec describes the process, as docker combines the image's config with the
// command line.
func (r *running) spec(ctx context.Context, req Request, config ocispec.ImageConfig) (*executor.Spec, error) {
	args, err := command(req, config)
	if err != nil {
		return nil, err
	}
	user, err := r.root.root.LookupUser(orElse(req.User, config.User))
	if err != nil {
		return nil, fmt.Errorf("user of the container: %w", err)
	}
	cwd := orElse(orElse(req.Workdir, config.WorkingDir), "/")
	if err := r.root.root.MkdirAll(cwd, rootfs.MkdirOptions{Mode: 0o755}); err != nil {
		return nil, fmt.Errorf("create working directory: %w", err)
	}
	spec := &executor.Spec{
		Root: r.root.root.File(), ReadonlyRoot: req.ReadOnly,
		Hostname: orElse(req.Hostname, r.id[:shortID]),
		Command: executor.Command{
			Args: args, Cwd: cwd, User: user, Terminal: req.Terminal,
			Stdin: req.Stdin, Stdout: req.Stdout, Stderr: req.Stderr,
		},
	}
	spec.Env = environment(req, config, spec.Hostname, user.Home)
	return spec, r.connect(ctx, req.Network, spec)
}

// command joins entrypoint and arguments by docker's rules: an entrypoint from
// the command line drops the image's command as well.
func command(req Request, config ocispec.ImageConfig) ([]string, error) {
	entrypoint, args := config.Entrypoint, config.Cmd
	if req.Entrypoint != nil {
		entrypoint, args = nil, nil
		if *req.Entrypoint != "" {
			entrypoint = []string{*req.Entrypoint}
		}
	}
	if len(req.Args) > 0 {
		args = req.Args
	}
	all := append(append([]string{}, entrypoint...), args...)
	if len(all) == 0 {
		return nil, ErrNoCommand
	}
	return all, nil
}

// defaultPath is what docker gives to images without a PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environment is docker's: defaults, the image's, the command line's; later
// values win.
func environment(req Request, config ocispec.ImageConfig, hostname, home string) []string {
	defaults := []string{"PATH=" + defaultPath, "HOSTNAME=" + hostname, "HOME=" + orElse(home, "/")}
	if req.Terminal != nil {
		defaults = append(defaults, "TERM=xterm")
	}
	var env []string
	index := map[string]int{}
	for _, kv := range append(append(defaults, config.Env...), req.Env...) {
		name, _, _ := strings.Cut(kv, "=")
		if i, seen := index[name]; seen {
			env[i] = kv
			continue
		}
		index[name] = len(env)
		env = append(env, kv)
	}
	return env
}

// connect gives the container its network and the files that go with it.
func (r *running) connect(ctx context.Context, mode network.Mode, spec *executor.Spec) error {
	provider, err := r.e.Network()
	if err != nil {
		return err
	}
	ns, err := provider.Namespace(ctx, mode)
	if err != nil {
		return err
	}
	r.onClose(ns.Close)
	spec.Network = executor.Network{Mode: executor.NetworkHost}
	if ns.NS() != nil {
		spec.Network = executor.Network{Mode: executor.NetworkNS, NS: ns.NS()}
	}
	hosts := "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
	if mode == network.Private {
		hosts += network.AddressIP.String() + "\t" + spec.Hostname + "\n"
	}
	for _, file := range []struct{ name, text string }{
		{"/etc/hosts", hosts}, {"/etc/hostname", spec.Hostname + "\n"}, {"/etc/resolv.conf", string(ns.ResolvConf())},
	} {
		f, err := mount.File(mount.FileOptions{Data: []byte(file.text), Mode: 0o644})
		if err != nil {
			return fmt.Errorf("make %s: %w", file.name, err)
		}
		r.onClose(f.Close)
		spec.Mounts = append(spec.Mounts, executor.Mount{Target: file.name, Source: f})
	}
	return nil
}

func orElse(value, other string) string {
	if value == "" {
		return other
	}
	return value
}
