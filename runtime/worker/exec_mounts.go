package worker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/solver/pb"

	"github.com/strata-build/strata/runtime/executor"
	"github.com/strata-build/strata/runtime/fileop"
	"github.com/strata-build/strata/runtime/mount"
	"github.com/strata-build/strata/runtime/network"
	"github.com/strata-build/strata/runtime/rootfs"
)

// defaultHostname is the name that steps see, as under BuildKit: builds must
// not depend on the machine's.
const defaultHostname = "buildkitsandbox"

// mount opens what the op mounts, parents before children.
func (r *execRun) mount(ctx context.Context) error {
	sorted := slices.Clone(r.op.Mounts)
	slices.SortStableFunc(sorted, func(a, b *pb.Mount) int {
		return strings.Count(path.Clean(r.absolute(a.Dest)), "/") - strings.Count(path.Clean(r.absolute(b.Dest)), "/")
	})
	for _, m := range sorted {
		mt, err := r.open(ctx, m)
		if err != nil {
			return fmt.Errorf("mount %s: %w", m.Dest, err)
		}
		if mt == nil { // an optional secret or agent that is not there
			continue
		}
		if m.Dest == pb.RootMount {
			r.root = mt
		} else {
			r.mounts = append(r.mounts, mt)
		}
	}
	return nil
}

// open makes one mount.
func (r *execRun) open(ctx context.Context, m *pb.Mount) (*mounted, error) {
	mt := &mounted{m: m, readonly: m.Readonly}
	var err error
	switch m.MountType {
	case pb.MountType_BIND:
		err = r.openBind(ctx, mt)
	case pb.MountType_CACHE:
		err = r.openCache(ctx, mt)
	case pb.MountType_TMPFS:
		mt.file, err = mount.Tmpfs(mount.TmpfsOptions{
			Size: m.GetTmpfsOpt().GetSize(), Mode: os.ModeSticky | 0o777, NoSuid: true, NoDev: true,
		})
	case pb.MountType_SECRET:
		return r.openSecret(ctx, mt)
	case pb.MountType_SSH:
		return r.openAgent(ctx, mt)
	}
	if err != nil {
		return nil, err
	}
	if m.MountType == pb.MountType_TMPFS {
		r.undo.Add(mt.file.Close)
	}
	return mt, nil
}

// openBind mounts an input: writable in a snapshot of its own, or as a view.
func (r *execRun) openBind(ctx context.Context, mt *mounted) error {
	in := scratch
	if left, ok := r.left[mt.m]; ok {
		in = left
	} else if mt.m.Input >= 0 {
		in = resultOf(r.in[mt.m.Input])
	}
	layers, err := r.w.layersOf(ctx, in)
	if err != nil {
		return err
	}
	mt.layers = layers
	if mt.readonly {
		v, err := r.w.view(ctx, in)
		if err != nil {
			return err
		}
		r.undo.Add(v.close)
		mt.file = v.file
		return r.sel(mt, v.root)
	}
	a, err := r.w.prepare(ctx, layers)
	if err != nil {
		return err
	}
	mt.active, mt.file = a, a.file
	r.undo.Add(func() error {
		if mt.active == nil { // committed
			return nil
		}
		return a.drop()
	})
	return r.sel(mt, a.root)
}

// sel narrows a mount to its selector.
func (r *execRun) sel(mt *mounted, root *rootfs.Root) error {
	sel := path.Join("/", mt.m.Selector)
	if sel == "/" {
		return nil
	}
	f, err := root.OpenPath(sel, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return r.missing(mt.m, fmt.Errorf("%q: %w", sel, fileop.ErrNotFound))
	}
	if err != nil {
		return fmt.Errorf("source %s: %w", sel, err)
	}
	defer f.Close()
	bound, err := mount.Bind(f, mount.BindOptions{ReadOnly: mt.readonly})
	if err != nil {
		return err
	}
	r.undo.Add(bound.Close)
	mt.file = bound
	return nil
}

// missing completes the error of a mount's source.
func (r *execRun) missing(m *pb.Mount, err error) error {
	if m.Input < 0 {
		return err
	}
	return missing(err, r.v.Inputs[m.Input], resultOf(r.in[m.Input]), m.Selector)
}

// openSecret mounts a secret's value as a file.
func (r *execRun) openSecret(ctx context.Context, mt *mounted) (*mounted, error) {
	opt := mt.m.GetSecretOpt()
	if opt == nil {
		return nil, errors.New("a secret mount without a secret")
	}
	value, err := r.w.opt.Secrets.Secret(ctx, opt.ID)
	if errors.Is(err, ErrNoSecret) && opt.Optional {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("secret %q: %w; give it with --secret id=%s,src=FILE", opt.ID, err, opt.ID)
	}
	mt.file, err = mount.File(mount.FileOptions{
		Data: value, Mode: os.FileMode(opt.Mode & 0o777), UID: int(opt.Uid), GID: int(opt.Gid),
	})
	if err != nil {
		return nil, fmt.Errorf("secret %q: %w", opt.ID, err)
	}
	r.undo.Add(mt.file.Close)
	return mt, nil
}

// connect gives the step its network, and the files that go with it.
func (r *execRun) connect(ctx context.Context, spec *executor.Spec) error {
	mode := network.Private
	switch r.op.Network {
	case pb.NetMode_NONE:
		mode = network.None
	case pb.NetMode_HOST:
		mode = network.Host
	}
	if err := r.acquire(ctx, mode); err != nil {
		return err
	}
	if ns := r.network.NS(); ns != nil {
		spec.Network = executor.Network{Mode: executor.NetworkNS, NS: ns}
	} else {
		spec.Network = executor.Network{Mode: executor.NetworkHost}
	}
	for _, file := range []struct {
		name string
		data []byte
	}{{"/etc/hosts", r.hosts()}, {"/etc/resolv.conf", r.network.ResolvConf()}} {
		f, err := r.w.shared.open(file.data)
		if err != nil {
			return fmt.Errorf("make %s: %w", file.name, err)
		}
		r.undo.Add(f.Close)
		spec.Mounts = append(spec.Mounts, executor.Mount{Target: file.name, Source: f, ReadOnly: true})
	}
	return nil
}

// acquire takes a namespace: a pooled one for an ordinary step, one of its own
// for a step that may configure it.
func (r *execRun) acquire(ctx context.Context, mode network.Mode) (err error) {
	provider, err := r.w.opt.Network()
	if err != nil {
		return err
	}
	if r.op.Security == pb.SecurityMode_INSECURE {
		if r.network, err = provider.Namespace(ctx, mode); err == nil {
			r.undo.Add(r.network.Close)
		}
		return err
	}
	if r.network, err = provider.Acquire(ctx, mode); err == nil {
		r.undo.Add(func() error { provider.Release(r.network); return nil })
	}
	return err
}

// hosts is the content of /etc/hosts, as BuildKit writes it.
func (r *execRun) hosts() []byte {
	name := r.op.Meta.Hostname
	if name == "" {
		name = defaultHostname
	}
	var b strings.Builder
	fmt.Fprintf(&b, "127.0.0.1\tlocalhost %s\n::1\tlocalhost ip6-localhost ip6-loopback\n", name)
	for _, h := range r.op.Meta.ExtraHosts {
		fmt.Fprintf(&b, "%s\t%s\n", h.IP, h.Host)
	}
	return []byte(b.String())
}
