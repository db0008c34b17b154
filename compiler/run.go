package compiler

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/system"

	"github.com/strata-build/strata/schema"
)

// inlineName is the name of the heredoc that inline content stands for.
const inlineName = "EOF"

// run is a command to run, as RUN has it: files are its heredocs.
type run struct {
	pos      schema.Position
	title    string
	command  schema.Command
	files    []instructions.ShellInlineFile
	mounts   []mount
	devices  []*pb.CDIDevice
	network  string
	insecure bool

	// What follows applies to this command only, which RUN cannot say.
	env     []schema.Var
	workdir string
	user    *string
}

// runStep translates a step with the verb run.
func (s *stage) runStep(ctx context.Context, step *schema.Step) error {
	x, err := s.expander(ctx, step)
	if err != nil {
		return err
	}
	r := run{
		pos: step.Pos, title: step.Name,
		command: step.Run, network: step.Network, insecure: step.Insecure,
	}
	if err := r.setInput(step); err != nil {
		return err
	}
	if r.mounts, err = stepMounts(step, x); err != nil {
		return err
	}
	for _, d := range step.Devices {
		r.devices = append(r.devices, &pb.CDIDevice{Name: d.Name, Optional: !d.Required})
	}
	if r.env, err = x.vars(step.Env); err != nil {
		return err
	}
	if step.Workdir != nil {
		if r.workdir, err = x.word(*step.Workdir); err != nil {
			return err
		}
	}
	if step.User != nil {
		user, err := x.word(*step.User)
		if err != nil {
			return err
		}
		r.user = &user
	}
	return s.run(ctx, r)
}

// setInput makes a heredoc of stdin and of a script with its own
// interpreter. A command that is nothing but `<<NAME` has its script in
// stdin, as `RUN <<NAME`.
func (r *run) setInput(step *schema.Step) error {
	if len(r.command.Args) == 0 {
		return mistake(step.Pos, "", "the command is empty")
	}
	text := r.command.Args[0]
	if step.Stdin == nil {
		if r.command.Shell && strings.HasPrefix(text, "#!") {
			r.files = []instructions.ShellInlineFile{{Name: inlineName, Data: text}}
			r.command.Args = []string{"<<" + inlineName}
		}
		return nil
	}
	if !r.command.Shell {
		return mistake(step.FieldPos["stdin"], "write the command as a string",
			"stdin is given to a command by the shell, and an argument vector has none")
	}
	data := *step.Stdin
	if data != "" && !strings.HasSuffix(data, "\n") {
		data += "\n"
	}
	if h := parser.MustParseHeredoc(text); h != nil {
		r.files = []instructions.ShellInlineFile{{Name: h.Name, Data: data, Chomp: h.Chomp}}
		return nil
	}
	name := delimiter(data)
	r.files = []instructions.ShellInlineFile{{Name: name, Data: data}}
	r.command.Args = []string{text + " <<'" + name + "'"}
	return nil
}

// delimiter is a word that no line of data is.
func delimiter(data string) string {
	lines := strings.Split(data, "\n")
	name := inlineName
	for i := 1; slices.Contains(lines, name); i++ {
		name = fmt.Sprintf("%s%d", inlineName, i)
	}
	return name
}

// run adds the exec op of a command.
func (s *stage) run(ctx context.Context, r run) error {
	args, opts, err := s.arguments(r)
	if err != nil {
		return err
	}
	env, err := s.env(ctx)
	if err != nil {
		return err
	}
	dir, err := s.runDir(ctx, r)
	if err != nil {
		return err
	}
	mounts, err := s.mountOptions(ctx, r, dir)
	if err != nil {
		return err
	}
	network, err := networkOption(r.network)
	if err != nil {
		return err
	}
	opts = append(opts, llb.Args(args), s.runTitle(r), s.c.sources.at(r.pos))
	opts = append(opts, mounts...)
	opts = append(opts, network...)
	opts = append(opts, s.stepOptions(r, dir)...)
	opts = append(opts, s.c.runOptions(r)...)
	if s.noCache {
		opts = append(opts, llb.IgnoreCache)
	}
	s.state = s.state.Run(opts...).Root()
	s.history(stepLayer, "RUN %s", runHistory(args, s.args, env))
	return nil
}

// arguments is the argument vector of a command, with the mount of a script
// that has its own interpreter.
func (s *stage) arguments(r run) ([]string, []llb.RunOption, error) {
	args := slices.Clone(r.command.Args)
	var opts []llb.RunOption
	if len(r.files) > 0 {
		if len(args) != 1 || !r.command.Shell {
			return nil, nil, mistake(r.pos, "", "a heredoc needs a shell command")
		}
		args, opts = s.heredoc(args[0], r.files)
	}
	if r.command.Shell {
		args = s.withShell(args)
	}
	return args, opts, nil
}

// heredoc is the command line for a command with heredocs. A command that is
// only a heredoc is replaced by the script in it; in any other case the shell
// reads the heredocs from the command's text.
func (s *stage) heredoc(text string, files []instructions.ShellInlineFile) ([]string, []llb.RunOption) {
	if parser.MustParseHeredoc(text) == nil {
		var b strings.Builder
		b.WriteString(text)
		for _, f := range files {
			b.WriteString("\n" + f.Data + f.Name)
		}
		return []string{b.String()}, nil
	}
	f := files[0]
	data := f.Data
	if f.Chomp {
		data = parser.ChompHeredocContent(data)
	}
	if s.config.OS == "windows" || !strings.HasPrefix(data, "#!") {
		return []string{data}, nil
	}
	const pipes = "/dev/pipes/"
	script := llb.Scratch().Dir("/").File(
		llb.Mkfile(f.Name, 0o755, []byte(data)),
		dockerui.WithInternalName("preparing inline document"),
		llb.Platform(s.platform))
	mount := llb.AddMount(pipes, script, llb.SourcePath("/"), llb.Readonly)
	return []string{path.Join(pipes, f.Name)}, []llb.RunOption{mount}
}

// runDir is the directory that the command runs in.
func (s *stage) runDir(ctx context.Context, r run) (string, error) {
	if r.workdir == "" {
		return s.dir(ctx)
	}
	wd, err := system.NormalizeWorkdir(s.config.Config.WorkingDir, r.workdir, s.platform.OS)
	if err != nil {
		return "", fmt.Errorf("workdir %q: %w", r.workdir, err)
	}
	return system.ToSlash(wd, s.platform.OS), nil
}

// stepOptions are what the step changes for its command only.
func (s *stage) stepOptions(r run, dir string) []llb.RunOption {
	var opts []llb.RunOption
	for _, v := range r.env {
		opts = append(opts, llb.AddEnv(v.Name, v.Value))
	}
	if r.workdir != "" {
		opts = append(opts, llb.Dir(dir))
	}
	if r.user != nil {
		opts = append(opts, llb.User(*r.user))
	}
	return opts
}

// runOptions are what the build gives to every command.
func (c *compilation) runOptions(r run) []llb.RunOption {
	mode := pb.SecurityMode_SANDBOX
	if r.insecure {
		mode = pb.SecurityMode_INSECURE
	}
	opts := []llb.RunOption{llb.Security(mode)}
	if c.proxy != nil {
		opts = append(opts, llb.WithProxy(*c.proxy))
	}
	for _, u := range c.opts.Ulimits {
		opts = append(opts, llb.AddUlimit(llb.UlimitName(u.Name), u.Soft, u.Hard))
	}
	for _, d := range slices.Concat(c.opts.Devices, r.devices) {
		device := []llb.CDIDeviceOption{llb.CDIDeviceName(d.Name)}
		if d.Optional {
			device = append(device, llb.CDIDeviceOptional)
		}
		opts = append(opts, llb.AddCDIDevice(device...))
	}
	for _, h := range c.opts.ExtraHosts {
		opts = append(opts, llb.AddExtraHost(h.Host, h.IP))
	}
	if size := c.opts.ShmSize; size > 0 {
		opts = append(opts, llb.AddMount("/dev/shm", llb.Scratch(), llb.Tmpfs(llb.TmpfsSize(size))))
	}
	if parent := c.opts.CgroupParent; parent != "" {
		opts = append(opts, llb.WithCgroupParent(parent))
	}
	return append(opts, c.resources()...)
}

// resources limits a command; the limits are metadata.
func (c *compilation) resources() []llb.RunOption {
	r := c.opts.Resources
	if r == nil {
		return nil
	}
	return []llb.RunOption{llb.WithLinuxResources(llb.LinuxResources{
		Memory: r.Memory, MemorySwap: r.MemorySwap,
		CPUShares: r.CpuShares, CPUPeriod: r.CpuPeriod, CPUQuota: r.CpuQuota,
		CpusetCpus: r.CpusetCpus, CpusetMems: r.CpusetMems,
	})}
}

// networkOption is the network of one command; by default that of the build.
func networkOption(name string) ([]llb.RunOption, error) {
	switch name {
	case "", instructions.NetworkDefault:
		return nil, nil
	case instructions.NetworkNone:
		return []llb.RunOption{llb.Network(pb.NetMode_NONE)}, nil
	case instructions.NetworkHost:
		return []llb.RunOption{llb.Network(pb.NetMode_HOST)}, nil
	}
	return nil, mistake(schema.Position{}, "default, none or host", "unknown network %q", name)
}

// runTitle names the command in the progress by its first line.
func (s *stage) runTitle(r run) llb.ConstraintsOpt {
	if r.title != "" {
		return s.title(r.title)
	}
	text := strings.Join(r.command.Args, " ")
	if len(r.files) > 0 {
		text += " (" + firstLine(r.files[0].Data) + ")"
	}
	return s.title("RUN " + text)
}

// firstLine is the first line of a text, marked where there are more.
func firstLine(text string) string {
	line, rest, _ := strings.Cut(strings.TrimSpace(text), "\n")
	if rest != "" {
		line += "..."
	}
	return line
}

// runHistory is a command as the history records it: the arguments that were
// declared, in the form that docker's builder has always used, and the
// argument vector.
func runHistory(args []string, declared []argument, env *llb.EnvList) string {
	var set []string
	index := map[string]int{}
	for _, a := range declared {
		v, ok := env.Get(a.name)
		if !ok && a.value != nil {
			v = *a.value
		}
		if i, ok := index[a.name]; ok {
			set[i] = a.name + "=" + v
			continue
		}
		index[a.name] = len(set)
		set = append(set, a.name+"="+v)
	}
	if len(set) > 0 {
		set = append([]string{fmt.Sprintf("|%d", len(set))}, set...)
	}
	return strings.Join(append(set, args...), " ")
}
