package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/system"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/strata-build/strata/internal/undo"
	"github.com/strata-build/strata/runtime/cdi"
	"github.com/strata-build/strata/runtime/cgroup"
	"github.com/strata-build/strata/runtime/executor"
	"github.com/strata-build/strata/runtime/fileop"
	"github.com/strata-build/strata/runtime/network"
	"github.com/strata-build/strata/runtime/rootfs"
	"github.com/strata-build/strata/solver"
)

// execOp runs a command on trees of its inputs.
type execOp struct {
	w        *Worker
	v        *solver.Vertex
	op       *pb.ExecOp
	platform ocispec.Platform
	devices  []*cdi.Device
}

func newExecOp(w *Worker, v *solver.Vertex, op *pb.ExecOp) (solver.Op, error) {
	o := &execOp{w: w, v: v, op: op, platform: w.opt.Platform}
	if p := v.Op.Platform; p != nil {
		o.platform = platforms.Normalize(p.Spec())
	}
	return o, o.check()
}

// check refuses what cannot run, before anything runs.
func (o *execOp) check() error {
	op := o.op
	if op.Meta == nil || len(op.Meta.Args) == 0 {
		return errors.New("an exec without a command")
	}
	if err := o.findDevices(); err != nil {
		return err
	}
	if err := CheckPermissions(op, o.w.opt.AllowInsecure, o.w.opt.AllowHostNetwork); err != nil {
		return err
	}
	if _, known := pb.SecurityMode_name[int32(op.Security)]; !known {
		return fmt.Errorf("security mode %d is not known", op.Security)
	}
	if _, known := pb.NetMode_name[int32(op.Network)]; !known {
		return fmt.Errorf("network mode %d is not known", op.Network)
	}
	return o.checkMounts()
}

// CheckPermissions refuses a step that asks for more than the user permits.
func CheckPermissions(op *pb.ExecOp, insecure, hostNetwork bool) error {
	if op.GetSecurity() == pb.SecurityMode_INSECURE && !insecure {
		return errors.New("the step asks for insecure mode (all privileges): allow it with --allow security.insecure")
	}
	if op.GetNetwork() == pb.NetMode_HOST && !hostNetwork {
		return errors.New("the step asks for the host's network: allow it with --allow network.host or --network host")
	}
	return nil
}

func (o *execOp) checkMounts() error {
	root := false
	for _, m := range o.op.Mounts {
		if m.Input < -1 || m.Input >= int64(len(o.v.Inputs)) {
			return fmt.Errorf("the mount at %s reads input %d of %d", m.Dest, m.Input, len(o.v.Inputs))
		}
		switch m.MountType {
		case pb.MountType_BIND, pb.MountType_CACHE, pb.MountType_TMPFS, pb.MountType_SECRET, pb.MountType_SSH:
		default:
			return fmt.Errorf("the mount at %s is of kind %s, which is not supported", m.Dest, m.MountType)
		}
		root = root || m.Dest == pb.RootMount
	}
	if !root {
		return errors.New("an exec without a root file system")
	}
	return nil
}

// Key implements solver.Op. Every field decides the result but the proxies,
// which a build takes from its surroundings, as in docker.
func (o *execOp) Key(context.Context) (solver.Key, error) {
	op := proto.Clone(o.op).(*pb.ExecOp)
	op.Meta.ProxyEnv = nil
	platform := platforms.FormatAll(o.platform)
	d, err := messageKey("exec", platform, op)
	return solver.Key{Digest: d, Facts: execFacts(o.op, platform)}, err
}

// InputKey implements solver.Op. A read-only mount of one path counts with
// what is below that path; everything else with the whole tree.
func (o *execOp) InputKey(ctx context.Context, i int, in solver.Result) (digest.Digest, error) {
	var selected []*pb.Mount
	for _, m := range o.op.Mounts {
		if m.Input != int64(i) {
			continue
		}
		whole := path.Join("/", m.Selector) == "/" || m.MountType != pb.MountType_BIND
		if whole || !m.Readonly && m.Output != int64(pb.SkipOutput) || m.ContentCache == pb.MountContentCache_OFF {
			return o.w.chainDigest(ctx, resultOf(in))
		}
		selected = append(selected, m)
	}
	src, closeSource, err := o.w.source(ctx, resultOf(in))
	if err != nil {
		return "", err
	}
	parts := []string{"selection"}
	for _, m := range selected {
		d, err := fileop.Digest(ctx, src, &pb.FileActionCopy{Src: m.Selector, Dest: "/", FollowSymlink: true, Mode: -1, Timestamp: -1})
		if err != nil {
			err = missing(err, o.v.Inputs[i], resultOf(in), m.Selector)
			return "", errors.Join(fmt.Errorf("mount %s: %w", m.Dest, err), closeSource())
		}
		parts = append(parts, d.String())
	}
	return keyOf(parts...), closeSource()
}

// Run implements solver.Op.
func (o *execOp) Run(ctx context.Context, in []solver.Result, p solver.Progress) (results []solver.Result, err error) {
	if o.platform.OS != "linux" {
		return nil, fmt.Errorf("the step is for %s, and strata runs Linux steps only", platforms.FormatAll(o.platform))
	}
	run := &execRun{execOp: o, in: in, progress: p}
	defer func() { err = errors.Join(err, run.undo.Close()) }()
	if err := run.mount(ctx); err != nil {
		return nil, err
	}
	if err := run.execute(ctx); err != nil {
		return nil, errors.Join(err, run.keepFailed(ctx, err))
	}
	return run.commit(ctx)
}

// explain says what is missing where a foreign platform's program cannot be
// started. It is tried first, as an image may hold other programs than its
// platform says, and these run.
func (o *execOp) explain(err error) error {
	if platforms.Default().Match(o.platform) || !errors.Is(err, executor.ErrNotFound) && !errors.Is(err, executor.ErrNotExecutable) {
		return err
	}
	emulator, ok := emulators[o.platform.Architecture]
	if ok {
		data, readErr := os.ReadFile(filepath.Join(o.w.opt.EmulatorDir, "qemu-"+emulator))
		if readErr == nil && strings.HasPrefix(string(data), "enabled") {
			return err
		}
	}
	return fmt.Errorf("the step is for %s, and this machine is linux/%s without an emulator for it: "+
		"install one with binfmt support (Debian: qemu-user-static), or cross-compile in a stage for the build platform",
		platforms.FormatAll(o.platform), runtime.GOARCH)
}

// emulators are QEMU's names of Go's architectures.
var emulators = map[string]string{
	"386": "i386", "amd64": "x86_64", "arm": "arm", "arm64": "aarch64", "loong64": "loongarch64",
	"mips64": "mips64", "mips64le": "mips64el", "ppc64le": "ppc64le", "riscv64": "riscv64", "s390x": "s390x",
}

// execRun is one run of an exec: what it has opened, in order.
type execRun struct {
	*execOp
	in       []solver.Result
	progress solver.Progress
	// left are trees to mount in place of inputs: those of a failed run.
	left map[*pb.Mount]*Result

	root    *mounted
	mounts  []*mounted
	env     []string
	network *network.Namespace
	undo    undo.Stack
}

// mounted is one mount of the op with what backs it.
type mounted struct {
	m      *pb.Mount
	file   *os.File // a detached mount
	active *active  // what a writable mount writes to; nil for others
	layers []string // the layers that active stands on
	// readonly refuses writes.
	readonly bool
}

// execute runs the command and judges its exit code.
func (r *execRun) execute(ctx context.Context) error {
	spec, err := r.spec(ctx)
	if err != nil {
		return err
	}
	log, err := r.openLog()
	if err != nil {
		return err
	}
	spec.Stdout, spec.Stderr = log.tee(r.progress.Stdout()), log.tee(r.progress.Stderr())
	exec, err := r.w.opt.Executor()
	if err != nil {
		return err
	}
	status, err := exec.Run(ctx, spec)
	if r.root.active != nil {
		r.root.active.restored = status.Restored
	}
	if err == nil && r.valid(status.ExitCode) {
		return log.discard()
	}
	if closeErr := log.keep(); closeErr != nil {
		err = errors.Join(err, closeErr)
	}
	if err != nil && ctx.Err() != nil {
		return err
	}
	return &StepError{Args: r.op.Meta.Args, Status: status, Log: log.path(), Tail: log.tail(), Err: r.explain(err)}
}

func (r *execRun) valid(code int) bool {
	if len(r.op.Meta.ValidExitCodes) == 0 {
		return code == 0
	}
	return slices.Contains(r.op.Meta.ValidExitCodes, int32(code))
}

// StepError says how a step failed. Its message is one line; cmd shows the
// rest below it.
type StepError struct {
	Args   []string
	Status executor.Status
	// Log is the file with all of the step's output, Tail its last lines.
	Log  string
	Tail []byte
	// Err is set when the command could not be run at all.
	Err error
}

// Error implements error.
func (e *StepError) Error() string {
	switch {
	case e.Err != nil:
		return e.Err.Error()
	case e.Status.OOMKilled:
		return "the step was killed: it used more memory than it is allowed"
	case e.Status.Signal != 0:
		return fmt.Sprintf("the step was killed by %s (exit code %d)", e.Status.Signal, e.Status.ExitCode)
	}
	return fmt.Sprintf("the step ended with exit code %d", e.Status.ExitCode)
}

// Unwrap returns what kept the command from running.
func (e *StepError) Unwrap() error { return e.Err }

// spec describes the process.
func (r *execRun) spec(ctx context.Context) (*executor.Spec, error) {
	meta := r.op.Meta
	root := r.root.active
	user, cwd, err := r.userAndCwd()
	if err != nil {
		return nil, err
	}
	spec := &executor.Spec{
		Root:         r.root.file,
		ReadonlyRoot: r.root.readonly,
		Hostname:     meta.Hostname,

		KeepSystemDirs: true,
		Command: executor.Command{
			Args: meta.Args, Cwd: cwd, User: user,
			Security: executor.Security{Privileged: r.op.Security == pb.SecurityMode_INSECURE},
		},
	}
	if spec.Hostname == "" {
		spec.Hostname = defaultHostname
	}
	if root == nil && !r.root.readonly {
		return nil, errors.New("the root file system of the step is neither writable nor read-only")
	}
	for _, l := range meta.Ulimit {
		spec.Rlimits = append(spec.Rlimits, executor.Rlimit{Name: l.Name, Soft: uint64(l.Soft), Hard: uint64(l.Hard)})
	}
	if err := r.connect(ctx, spec); err != nil {
		return nil, err
	}
	spec.Mounts = lastAtEach(append(spec.Mounts, r.attached()...))
	if spec.Env, err = r.environment(ctx, user.Home); err != nil {
		return nil, err
	}
	if err := r.addDevices(spec); err != nil {
		return nil, err
	}
	return spec, r.limit(ctx, spec)
}

// attached are the op's mounts as the process gets them.
func (r *execRun) attached() []executor.Mount {
	var mounts []executor.Mount
	for _, m := range r.mounts {
		mounts = append(mounts, executor.Mount{
			Target: r.target(m), Source: m.file, ReadOnly: m.readonly,
			CoveredMode: m.m.MountType == pb.MountType_TMPFS,
		})
	}
	return mounts
}

// lastAtEach leaves only the last of several mounts at one path, as BuildKit
// does.
func lastAtEach(mounts []executor.Mount) []executor.Mount {
	var left []executor.Mount
	at := map[string]int{}
	for _, m := range mounts {
		if i, ok := at[m.Target]; ok {
			left[i] = m
			continue
		}
		at[m.Target] = len(left)
		left = append(left, m)
	}
	return left
}

// target is where a mount is attached.
func (r *execRun) target(m *mounted) string { return path.Join("/", r.absolute(m.m.Dest)) }

// absolute resolves a mount's destination as BuildKit does: relative to the
// working directory.
func (r *execRun) absolute(dest string) string {
	if path.IsAbs(dest) {
		return dest
	}
	return path.Join("/", r.op.Meta.Cwd, dest)
}

// userAndCwd looks the user up in the root file system, and makes the working
// directory where it is missing, as BuildKit does.
func (r *execRun) userAndCwd() (rootfs.User, string, error) {
	root, err := rootfs.Open(r.root.file)
	if err != nil {
		return rootfs.User{}, "", err
	}
	defer root.Close()
	user, err := root.LookupUser(r.op.Meta.User)
	if err != nil {
		return rootfs.User{}, "", err
	}
	cwd := path.Join("/", r.op.Meta.Cwd)
	if !r.root.readonly {
		err = root.MkdirAll(cwd, rootfs.MkdirOptions{
			Mode: 0o755, Chown: true, UID: int(user.UID), GID: int(user.GID), KeepSetgid: true,
		})
	}
	if err == nil {
		err = r.cwdInMount(cwd)
	}
	if err != nil {
		return rootfs.User{}, "", fmt.Errorf("create working directory: %w", err)
	}
	return user, cwd, nil
}

// cwdInMount makes the working directory in the mount that hides it in the
// root, as runc does in the end.
func (r *execRun) cwdInMount(cwd string) error {
	var in *mounted
	rest := ""
	for _, m := range r.mounts { // parents before children
		if below, ok := strings.CutPrefix(cwd, r.target(m)+"/"); ok {
			in, rest = m, below
		}
	}
	if in == nil || in.readonly {
		return nil
	}
	root, err := rootfs.Open(in.file)
	if errors.Is(err, unix.ENOTDIR) {
		return nil // a file, which the start of the process complains about
	}
	if err != nil {
		return err
	}
	return errors.Join(root.MkdirAll(rest, rootfs.MkdirOptions{Mode: 0o755, KeepSetgid: true}), root.Close())
}

// environment is the op's, the secrets', and what every process needs: runc
// adds HOME, and BuildKit PATH, where they are missing.
func (r *execRun) environment(ctx context.Context, home string) ([]string, error) {
	env := withDefault(r.op.Meta.Env, "PATH", system.DefaultPathEnvUnix)
	if p := r.op.Meta.ProxyEnv; p != nil {
		env = append(env, proxyEnv(p)...)
	}
	for _, s := range r.op.Secretenv {
		value, err := r.w.opt.Secrets.Secret(ctx, s.ID)
		if errors.Is(err, ErrNoSecret) && s.Optional {
			value, err = nil, nil // the variable is there, and empty
		}
		if err != nil {
			return nil, fmt.Errorf("secret %q for the variable %s: %w; give it with --secret id=%s", s.ID, s.Name, err, s.ID)
		}
		env = append(env, s.Name+"="+string(value))
	}
	env = slices.DeleteFunc(append(env, r.env...), func(kv string) bool { return kv == "HOME=" }) // for runc, that is none
	return withDefault(env, "HOME", cmp.Or(home, "/")), nil
}

// withDefault adds a variable to env unless it is there.
func withDefault(env []string, name, value string) []string {
	if slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, name+"=") }) {
		return slices.Clone(env)
	}
	return append(slices.Clone(env), name+"="+value)
}

func proxyEnv(p *pb.ProxyEnv) []string {
	var env []string
	for _, v := range []struct{ name, value string }{
		{"HTTP_PROXY", p.HttpProxy}, {"HTTPS_PROXY", p.HttpsProxy}, {"FTP_PROXY", p.FtpProxy},
		{"NO_PROXY", p.NoProxy}, {"ALL_PROXY", p.AllProxy},
	} {
		if v.value != "" {
			env = append(env, v.name+"="+v.value, strings.ToLower(v.name)+"="+v.value)
		}
	}
	return env
}

// limit applies the limits that the definition's metadata asks for.
func (r *execRun) limit(ctx context.Context, spec *executor.Spec) error {
	l := r.v.Meta.GetLinuxResources()
	if l == nil {
		return nil
	}
	h, err := r.w.opt.Cgroups()
	if err != nil {
		return err
	}
	if h == nil {
		return errors.New("the step has resource limits, and this machine has no control groups")
	}
	g, err := h.Create(cgroup.Config{Name: r.w.newKey("strata-step"), Resources: cgroup.Resources{
		Memory: l.Memory, MemorySwap: l.MemorySwap, CPUShares: l.CpuShares, CPUPeriod: l.CpuPeriod,
		CPUQuota: l.CpuQuota, CPUSetCPUs: l.CpusetCpus, CPUSetMems: l.CpusetMems,
	}})
	if err != nil {
		return err
	}
	spec.Cgroup = g
	r.undo.Add(func() error { return errors.Join(g.Delete(context.WithoutCancel(ctx)), g.Close()) })
	return nil
}

// commit makes the layers of the outputs, in order.
func (r *execRun) commit(ctx context.Context) ([]solver.Result, error) {
	outputs := map[int64]*Result{}
	for _, m := range append([]*mounted{r.root}, r.mounts...) {
		// Secrets and agents have no output, whatever their field says: LLB
		// leaves it at zero.
		if m.m.Output < 0 || m.m.MountType != pb.MountType_BIND {
			continue
		}
		if m.active == nil { // read-only: what went in comes out
			outputs[m.m.Output] = &Result{Layers: m.layers}
			continue
		}
		id, err := m.active.commit(ctx)
		if err != nil {
			return nil, err
		}
		m.active = nil
		r.w.made(r.v, id)
		outputs[m.m.Output] = &Result{Layers: append(m.layers[:len(m.layers):len(m.layers)], id)}
	}
	results := make([]solver.Result, len(outputs))
	for i := range results {
		res, ok := outputs[int64(i)]
		if !ok {
			return nil, fmt.Errorf("the step has %d outputs, but none is number %d", len(outputs), i)
		}
		results[i] = res
	}
	return results, nil
}
