package container

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/internal/undo"
	"github.com/strata-build/strata/runtime/cgroup"
	"github.com/strata-build/strata/runtime/executor"
	"github.com/strata-build/strata/runtime/network"
	"github.com/strata-build/strata/runtime/rootfs"
)

// life is one run of a container's first process, with all that is undone when
// it has ended.
type life struct {
	m        *monitor
	rec      Record
	exec     *executor.Executor
	root     *rootfs.Root
	network  *network.Namespace
	spec     *executor.Spec
	log      *logFile
	streams  []*stream
	hungUp   chan struct{} // closed when nobody looks at the terminal any more
	process  *executor.Process
	ports    []network.Port
	cancel   context.CancelFunc
	watching sync.WaitGroup // checks of its health
	undo     undo.Stack
}

// start starts the container's first process.
func (m *monitor) start(ctx context.Context) (*life, error) {
	rec, err := m.set.load(m.id)
	if err != nil {
		return nil, err
	}
	l := &life{m: m, rec: rec, hungUp: make(chan struct{})}
	if err := l.start(ctx); err != nil {
		return nil, errors.Join(err, l.undo.Close())
	}
	return l, nil
}

func (l *life) start(ctx context.Context) error {
	var err error
	if l.exec, err = l.m.set.e.Executor(); err != nil {
		return err
	}
	for _, prepare := range []func(context.Context) error{
		l.tree, l.describe, l.mounts, l.connect, l.limit, l.io,
	} {
		if err := prepare(ctx); err != nil {
			return err
		}
	}
	if l.process, err = l.exec.Start(context.WithoutCancel(ctx), l.spec); err != nil {
		return err
	}
	if err := l.begun(ctx); err != nil {
		_ = l.process.Signal(unix.SIGKILL) // it may have ended
		_, waitErr := l.process.Wait()
		return errors.Join(err, waitErr)
	}
	return nil
}

// tree opens the container's root file system.
func (l *life) tree(ctx context.Context) error {
	e := l.m.set.e
	layers, err := l.m.set.layers(ctx, &l.rec)
	if err != nil {
		return err
	}
	t, err := e.Snapshots.OpenKept(ctx, l.rec.ID, layers)
	if err != nil {
		return err
	}
	// What goes when it ends need not survive a crash.
	t.Durable = t.Durable && !l.rec.Config.AutoRemove
	f, err := t.Open()
	if err != nil {
		return fmt.Errorf("mount the root file system: %w", err)
	}
	l.undo.Add(f.Close)
	if l.root, err = rootfs.Open(f); err != nil {
		return err
	}
	l.undo.Add(l.root.Close)
	return nil
}

// layers makes sure that the image's layers are there: after a power loss they
// may have to be unpacked again.
func (s *Set) layers(ctx context.Context, rec *Record) ([]string, error) {
	if !slices.ContainsFunc(rec.Image.Layers, func(id string) bool { return !s.e.Layers.Have(id) }) {
		return rec.Image.Layers, nil
	}
	m, err := s.e.Images.Load(ctx, rec.Image.Manifest, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("image of the container: %w", err)
	}
	return s.unpack(ctx, m, rec.Config.Mounts)
}

// describe writes down the process, as docker combines user, directory and
// environment.
func (l *life) describe(context.Context) error {
	c := &l.rec.Config
	user, err := lookUpUser(l.root, c.User, c.Groups)
	if err != nil {
		return err
	}
	security, err := c.Security.executor()
	if err != nil {
		return err
	}
	cwd := clean(c.Workdir)
	if err := l.root.MkdirAll(cwd, rootfs.MkdirOptions{Mode: 0o755}); err != nil {
		return fmt.Errorf("create working directory: %w", err)
	}
	l.spec = &executor.Spec{
		Root: l.root.File(), ReadonlyRoot: c.ReadOnly, Hostname: c.Hostname,
		Devices: c.Devices, ShmSize: c.ShmSize, Init: c.Init,
		HostCgroupNames: c.Security.Privileged && slices.ContainsFunc(c.Mounts, showsCgroups),
		Command: executor.Command{
			Args: c.Args(), Cwd: cwd, User: user, Security: security,
			Rlimits: c.Rlimits, OOMScoreAdj: c.OOMScoreAdj,
		},
	}
	l.spec.Env = environment(c, user.Home)
	return nil
}

// showsCgroups tells of a mount of the machine's control groups: their names
// must be those that /proc/self/cgroup has.
func showsCgroups(m Mount) bool {
	return m.Type == MountBind && clean(m.Target) == "/sys/fs/cgroup"
}

// lookUpUser finds a user and further groups in a root file system.
func lookUpUser(root *rootfs.Root, spec string, groups []string) (rootfs.User, error) {
	user, err := root.LookupUser(spec)
	if err != nil {
		return user, err
	}
	for _, name := range groups {
		gid, ok, err := root.LookupGID(name)
		if err != nil {
			return user, fmt.Errorf("group %s of the container: %w", name, err)
		}
		if !ok {
			n, err := strconv.ParseUint(name, 10, 32)
			if err != nil {
				return user, fmt.Errorf("there is no group %q in the image's /etc/group", name)
			}
			gid = uint32(n)
		}
		user.Groups = append(user.Groups, gid)
	}
	return user, nil
}

// defaultPath is what docker gives to images without a PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environment is docker's: defaults, then the container's.
func environment(c *Config, home string) []string {
	defaults := []string{"PATH=" + defaultPath, "HOSTNAME=" + c.Hostname}
	if c.Terminal {
		defaults = append(defaults, "TERM=xterm")
	}
	own := slices.DeleteFunc(slices.Clone(c.Env), func(kv string) bool { return kv == "HOME=" }) // for runc, that is none
	return mergeEnv(defaults, []string{"HOME=" + cmp.Or(home, "/")}, own)
}

// limit makes the container's control group.
func (l *life) limit(ctx context.Context) error {
	h, err := l.m.set.e.Cgroups()
	if err != nil {
		return err
	}
	r := l.rec.Config.Resources
	if h == nil {
		if r.IsZero() {
			return nil
		}
		return errors.New("the container has resource limits, and this machine has no control groups")
	}
	if err := l.m.set.removeGroup(ctx, &l.rec); err != nil {
		return err
	}
	g, err := h.Create(cgroup.Config{
		Name: "strata-" + l.rec.ShortID(), Resources: r,
		Accounting: true, Services: l.rec.Config.Security.Privileged,
	})
	switch rootless, _ := l.m.set.e.Rootless(); {
	case errors.Is(err, cgroup.ErrUnavailable) && r.IsZero():
		return nil
	case errors.Is(err, cgroup.ErrUnavailable) && rootless:
		return fmt.Errorf("%w; an ordinary user can limit a container only where control groups were delegated, as by "+
			"`systemd-run --user --scope -p Delegate=yes strata …` on cgroup v2", err)
	case err != nil:
		return err
	}
	l.spec.Cgroup = g
	l.undo.Add(func() error { return errors.Join(g.Delete(context.WithoutCancel(ctx)), g.Close()) })
	return nil
}

// group opens the control group of a container; nil if it has none.
func (s *Set) group(rec *Record) (*cgroup.Group, error) {
	if rec.State.Cgroup == "" {
		return nil, nil
	}
	h, err := s.e.Cgroups()
	if h == nil || err != nil {
		return nil, err
	}
	g, err := h.Load(rec.State.Cgroup)
	if errors.Is(err, cgroup.ErrNotExist) {
		return nil, nil
	}
	return g, err
}

// io connects the streams.
func (l *life) io(context.Context) error {
	log, err := l.m.set.openLog(l.rec.ID)
	if err != nil {
		return err
	}
	l.log = log
	l.undo.Add(log.f.Close)
	out := &stream{log: log, name: "stdout", onward: l.m.req.IO.Stdout}
	errs := &stream{log: log, name: "stderr", onward: l.m.req.IO.Stderr}
	l.streams = []*stream{out, errs}
	l.spec.Stdout, l.spec.Stderr = out, errs
	if l.rec.Config.Terminal {
		size := l.m.req.IO.Size
		if size == (executor.Terminal{}) {
			size = executor.Terminal{Rows: 24, Cols: 80}
		}
		l.spec.Terminal = &size
		out.hangUp = func() { close(l.hungUp) }
	}
	if !l.rec.Config.OpenStdin {
		return nil
	}
	if in := l.m.req.IO.Stdin; in != nil {
		l.spec.Stdin = reader{in}
		return nil
	}
	// Nobody is there to write, and the input does not end.
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("create pipe: %w", err)
	}
	l.undo.Add(func() error { return errors.Join(r.Close(), w.Close()) })
	l.spec.Stdin = r
	if l.rec.Config.Terminal {
		l.spec.Stdin = nil
	}
	return nil
}

// reader and writer keep files of this process from a container, which gets
// pipes: it is not to open them again, or to use the terminal of its user.
type (
	reader struct{ io.Reader }
	writer struct{ io.Writer }
)

func output(w io.Writer) io.Writer {
	if w == nil {
		return nil
	}
	return writer{w}
}

// begun writes down that the process runs, and begins to watch it.
func (l *life) begun(ctx context.Context) error {
	started, err := l.process.StartTime()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	health := l.rec.Config.Health
	l.rec, err = l.m.set.update(ctx, l.rec.ID, func(rec *Record) error {
		rec.State = State{
			Status: Running, PID: l.process.PID(), StartTime: started, Monitor: os.Getpid(),
			StartedAt: time.Now().UTC(), FinishedAt: rec.State.FinishedAt, Ports: l.ports,
			Restarts: rec.State.Restarts, StopRequested: rec.State.StopRequested,
		}
		if l.spec.Cgroup != nil {
			rec.State.Cgroup = l.spec.Cgroup.ID()
		}
		if health != nil {
			rec.State.Health = &HealthState{Status: Starting}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if l.rec.State.StopRequested { // while it was being restarted
		_ = l.process.Signal(l.rec.stopSignal()) // it may have ended
	}
	ctx, l.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if health != nil {
		cmd := l.spec.Command
		cmd.Cgroup = nil // it joins that of the container
		l.watching.Go(func() { l.watch(ctx, executor.Target{PID: l.process.PID(), StartTime: started}, cmd) })
	}
	if !l.m.told {
		l.m.told = true
		if l.m.req.Started != nil {
			l.m.req.Started(l.rec)
		}
	}
	return nil
}

// wait passes signals and sizes on until the process has ended.
func (l *life) wait(ctx context.Context) (executor.Status, error) {
	ended := make(chan struct{})
	var status executor.Status
	var err error
	go func() {
		status, err = l.process.Wait()
		close(ended)
	}()
	kill := context.AfterFunc(ctx, func() {
		_ = l.process.Signal(unix.SIGKILL) // it may have ended
	})
	go func() {
		select {
		case <-l.hungUp:
			_ = l.process.Signal(unix.SIGKILL) // it may have ended
		case <-ended:
		}
	}()
	l.process.Attend(ended, l.signals(ctx, ended), l.m.req.IO.Resized)
	kill()
	l.cancel()
	l.watching.Wait() // so that nothing is noted of this run in the next one
	errs := []error{withoutGone(err)}
	l.endStreams(ctx)
	return status, errors.Join(append(errs, l.undo.Close())...)
}

// endStreams logs what is left of lines. A container whose output nobody reads
// any more is not started again.
func (l *life) endStreams(ctx context.Context) {
	for _, s := range l.streams {
		s.flush(true)
		if s.gone {
			// What fails here shows as one more restart.
			_, _ = l.m.set.requestStop(context.WithoutCancel(ctx), l.rec.ID)
		}
	}
}

// signals passes on what is sent to the monitor. Who asks it to end does not
// want the container to be started again.
func (l *life) signals(ctx context.Context, ended <-chan struct{}) <-chan os.Signal {
	if l.m.req.Signals == nil {
		return nil
	}
	to := make(chan os.Signal)
	go func() {
		for {
			select {
			case <-ended:
				return
			case sig := <-l.m.req.Signals:
				if sig == unix.SIGTERM || sig == unix.SIGINT {
					l.m.stopping.Store(true)
					// What fails here is only seen by who looks at the record.
					_, _ = l.m.set.requestStop(context.WithoutCancel(ctx), l.rec.ID)
				}
				select {
				case to <- sig:
				case <-ended:
				}
			}
		}
	}()
	return to
}

// hosts is the container's /etc/hosts.
func hosts(c *Config) string {
	text := "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
	if c.Network.Mode == NetworkHost {
		// Its names hold there. A machine may have none.
		if host, err := os.ReadFile("/etc/hosts"); err == nil {
			text = strings.TrimSuffix(string(host), "\n") + "\n"
		}
	}
	for _, extra := range c.ExtraHosts {
		name, address, _ := strings.Cut(extra, ":")
		text += address + "\t" + name + "\n"
	}
	if c.Network.Mode == NetworkPrivate && c.Hostname != "" {
		names := c.Hostname
		if short, _, ok := strings.Cut(names, "."); ok {
			names += " " + short
		}
		text += network.AddressIP.String() + "\t" + names + "\n"
	}
	return text
}
