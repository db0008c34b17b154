package container

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/executor"
	"github.com/strata-build/strata/runtime/mount"
	"github.com/strata-build/strata/runtime/network"
	"github.com/strata-build/strata/runtime/rootfs"
)

// mounts opens what is mounted into the container.
func (l *life) mounts(ctx context.Context) error {
	for _, m := range l.rec.Config.Mounts {
		f, err := l.open(ctx, m)
		if err != nil {
			return fmt.Errorf("mount at %s: %w", m.Target, err)
		}
		l.mount(executor.Mount{Target: clean(m.Target), Source: f, ReadOnly: m.ReadOnly})
	}
	return nil
}

func (l *life) mount(m executor.Mount) {
	l.undo.Add(m.Source.Close)
	l.spec.Mounts = append(l.spec.Mounts, m)
}

func (l *life) open(ctx context.Context, m Mount) (*os.File, error) {
	switch m.Type {
	case MountBind:
		return bind(m)
	case MountVolume:
		return l.volume(ctx, m)
	case MountTmpfs:
		return mount.Tmpfs(mount.TmpfsOptions{Size: m.Size, Mode: tmpfsMode(m.Mode), NoSuid: true, NoDev: true, NoExec: !m.Exec})
	}
	return nil, fmt.Errorf("mounts of type %q are not known", m.Type)
}

// tmpfsMode makes an os.FileMode of a mode as chmod(1) takes it.
func tmpfsMode(mode uint32) os.FileMode {
	m := os.FileMode(mode & 0o777)
	if mode&unix.S_ISVTX != 0 {
		m |= os.ModeSticky
	}
	return m
}

// bind opens a path of the host, which its user named.
func bind(m Mount) (*os.File, error) {
	if m.Create {
		if err := os.MkdirAll(m.Source, 0o755); err != nil && !errors.Is(err, unix.ENOTDIR) {
			return nil, err
		}
	}
	src, err := os.OpenFile(m.Source, unix.O_PATH|unix.O_CLOEXEC, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("the path %s of the host does not exist", m.Source)
	}
	if err != nil {
		return nil, err
	}
	defer src.Close()
	return mount.Bind(src, mount.BindOptions{Recursive: !m.NonRecursive})
}

func (l *life) volume(ctx context.Context, m Mount) (*os.File, error) {
	if err := l.m.set.fill(ctx, m, l.root); err != nil {
		return nil, err
	}
	dir, err := l.m.set.VolumeDir(m.Source)
	if err != nil {
		return nil, err
	}
	return bind(Mount{Source: dir})
}

// connect gives the container its network and the files that go with it.
func (l *life) connect(ctx context.Context) error {
	c := &l.rec.Config
	if c.Network.Mode == NetworkContainer {
		return l.join(ctx)
	}
	provider, err := l.m.set.e.Network()
	if err != nil {
		return err
	}
	modes := map[NetworkMode]network.Mode{NetworkPrivate: network.Private, NetworkNone: network.None, NetworkHost: network.Host}
	mode, ok := modes[c.Network.Mode]
	if !ok {
		return fmt.Errorf("networks of type %q are not known", c.Network.Mode)
	}
	if l.network, err = provider.Namespace(ctx, mode); err != nil {
		return err
	}
	l.undo.Add(l.network.Close)
	l.use(l.network)
	if err := l.publish(ctx); err != nil {
		return err
	}
	name := c.Hostname
	if name == "" {
		if name, err = os.Hostname(); err != nil {
			return err
		}
	}
	return l.files(hosts(c), name+"\n", resolvConf(c, l.network))
}

// use makes a network the container's.
func (l *life) use(n *network.Namespace) {
	l.spec.Network = executor.Network{Mode: executor.NetworkHost}
	if n.NS() != nil {
		l.spec.Network = executor.Network{Mode: executor.NetworkNS, NS: n.NS()}
	}
}

// resolvConf is the container's /etc/resolv.conf: the network's, with what the
// command line says in its place.
func resolvConf(c *Config, n *network.Namespace) string {
	dns := network.DNS{Servers: c.Network.DNS, Search: c.Network.DNSSearch, Options: c.Network.DNSOptions}
	return string(dns.ResolvConf(n.ResolvConf()))
}

// publish opens the host's ports. With the host's network the container has
// them already, and with none nothing could come in.
func (l *life) publish(ctx context.Context) error {
	ports := l.rec.Config.Network.Ports
	if len(ports) == 0 || l.rec.Config.Network.Mode != NetworkPrivate {
		return nil
	}
	published, err := l.network.Publish(context.WithoutCancel(ctx), ports)
	if err != nil {
		return err
	}
	l.undo.Add(published.Close)
	l.ports = published.Ports()
	return nil
}

// maxEtcFile bounds what is read of another container's files.
const maxEtcFile = 1 << 20

// join enters the network of another container, and takes over its names.
func (l *life) join(ctx context.Context) error {
	other, err := l.m.set.Get(l.rec.Config.Network.Container)
	if err != nil {
		return fmt.Errorf("network of container %w", err)
	}
	if other.State.Status != Running {
		return fmt.Errorf("network of container %s: %w: start it first", other.Name, ErrNotRunning)
	}
	provider, err := l.m.set.e.Network()
	if err != nil {
		return err
	}
	if l.network, err = provider.Join(other.State.PID); err != nil {
		return fmt.Errorf("network of container %s: %w", other.Name, err)
	}
	l.undo.Add(l.network.Close)
	if err := other.target().Check(); err != nil {
		return fmt.Errorf("network of container %s: %w", other.Name, err)
	}
	l.use(l.network)
	if l.spec.Hostname == "" {
		l.spec.Hostname = other.Config.Hostname
		l.spec.Env = mergeEnv(l.spec.Env, []string{"HOSTNAME=" + other.Config.Hostname}, l.rec.Config.Env)
	}
	root, err := processRoot(&other)
	if err != nil {
		return err
	}
	defer root.Close()
	var texts []string
	for _, name := range []string{"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"} {
		text, err := root.ReadFile(name, maxEtcFile)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("network of container %s: %w", other.Name, err)
		}
		texts = append(texts, string(text))
	}
	return l.files(texts[0], texts[1], texts[2])
}

// processRoot opens the root file system of a running container, as its first
// process sees it.
func processRoot(rec *Record) (*rootfs.Root, error) {
	root, err := rootfs.OpenDir(fmt.Sprintf("/proc/%d/root", rec.State.PID))
	if err != nil {
		return nil, fmt.Errorf("open the root file system of container %s: %w", rec.Name, err)
	}
	// Its number may have become that of a process of the host.
	if err := rec.target().Check(); err != nil {
		return nil, errors.Join(fmt.Errorf("open the root file system of container %s: %w", rec.Name, err), root.Close())
	}
	return root, nil
}

// target is the container's first process.
func (r *Record) target() executor.Target {
	return executor.Target{PID: r.State.PID, StartTime: r.State.StartTime}
}

// files mounts the files of /etc that tell of the network, unless something of
// the user's is mounted there.
func (l *life) files(hosts, hostname, resolvConf string) error {
	for _, file := range []struct{ name, text string }{
		{"/etc/hosts", hosts}, {"/etc/hostname", hostname}, {"/etc/resolv.conf", resolvConf},
	} {
		if l.mounted(file.name) {
			continue
		}
		f, err := mount.File(mount.FileOptions{Data: []byte(file.text), Mode: 0o644})
		if err != nil {
			return fmt.Errorf("make %s: %w", file.name, err)
		}
		l.mount(executor.Mount{Target: file.name, Source: f})
	}
	return nil
}

func (l *life) mounted(target string) bool {
	for _, m := range l.rec.Config.Mounts {
		if clean(m.Target) == target {
			return true
		}
	}
	return false
}
