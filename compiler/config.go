package compiler

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/buildkit/client/llb"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/sys/signal"

	"github.com/strata-build/strata/schema"
)

// configPart applies one field of a Config, where it is given, as the
// Dockerfile instruction for it does.
type configPart struct {
	field string
	given func(*schema.Config) bool
	apply func(*stage, context.Context, *schema.Config, expander) error
}

// leadingParts are the fields that steps see, in the order in which they
// apply.
func leadingParts() []configPart {
	return []configPart{
		{"env", func(c *schema.Config) bool { return len(c.Env) > 0 }, (*stage).setEnv},
		{"shell", func(c *schema.Config) bool { return c.Shell != nil }, (*stage).setShell},
		{"workdir", func(c *schema.Config) bool { return c.Workdir != nil }, (*stage).setWorkdir},
	}
}

// trailingParts are the fields that only the image records, in the order in
// which they apply. entrypoint comes before cmd, since it resets an inherited
// one.
func trailingParts() []configPart {
	return []configPart{
		{"author", func(c *schema.Config) bool { return c.Author != nil }, (*stage).setAuthor},
		{"user", func(c *schema.Config) bool { return c.User != nil }, (*stage).setUser},
		{"expose", func(c *schema.Config) bool { return len(c.Expose) > 0 }, (*stage).setExpose},
		{"volumes", func(c *schema.Config) bool { return len(c.Volumes) > 0 }, (*stage).setVolumes},
		{"labels", func(c *schema.Config) bool { return len(c.Labels) > 0 }, (*stage).setLabels},
		{"annotations", func(c *schema.Config) bool { return len(c.Annotations) > 0 }, (*stage).setAnnotations},
		{"stopSignal", func(c *schema.Config) bool { return c.StopSignal != nil }, (*stage).setStopSignal},
		{"healthcheck", func(c *schema.Config) bool { return c.Healthcheck != nil }, (*stage).setHealthcheck},
		{"onbuild", func(c *schema.Config) bool { return len(c.OnBuild) > 0 }, (*stage).setOnBuild},
		{"entrypoint", func(c *schema.Config) bool { return c.Entrypoint != nil }, (*stage).setEntrypoint},
		{"cmd", func(c *schema.Config) bool { return c.Cmd != nil }, (*stage).setCmd},
	}
}

// leading applies what the steps of the image see: args, env, shell and
// workdir. With a Dockerfile below, args were build arguments of that.
func (s *stage) leading(ctx context.Context) error {
	if s.image.Dockerfile == nil {
		for _, a := range s.image.Args {
			if err := s.arg(ctx, []schema.Var{a}, expander{}); err != nil {
				return err
			}
		}
	}
	return s.setParts(ctx, &s.image.Config, leadingParts(), expander{}, s.image.Pos)
}

// trailing applies the rest of the config, after the steps.
func (s *stage) trailing(ctx context.Context) error {
	return s.setParts(ctx, &s.image.Config, trailingParts(), expander{}, s.image.Pos)
}

// set applies a step's config.
func (s *stage) set(ctx context.Context, step *schema.Step) error {
	parts := append(leadingParts(), trailingParts()...)
	return s.setParts(ctx, step.Set, parts, expander{on: step.Expand}, step.Pos)
}

// setParts applies the given parts of a config. Each of them expands with
// the environment that those before it left.
func (s *stage) setParts(ctx context.Context, cfg *schema.Config, parts []configPart, x expander, pos schema.Position) error {
	if cfg == nil {
		return nil
	}
	for _, part := range parts {
		if !part.given(cfg) {
			continue
		}
		if err := x.refresh(ctx, s); err != nil {
			return because(pos, err, "read the environment")
		}
		if err := part.apply(s, ctx, cfg, x); err != nil {
			return locate(s.c.fieldPos(cfg.Pos[part.field], pos), part.field, err)
		}
	}
	return nil
}

func (s *stage) setEnv(_ context.Context, cfg *schema.Config, x expander) error {
	vars, err := x.vars(cfg.Env)
	if err != nil {
		return err
	}
	if err := checkNames(vars, "variable"); err != nil {
		return err
	}
	var msg strings.Builder
	for _, v := range vars {
		fmt.Fprintf(&msg, " %s=%s", v.Name, v.Value)
		s.state = s.state.AddEnv(v.Name, v.Value)
		s.config.Config.Env = addEnv(s.config.Config.Env, v.Name, v.Value)
	}
	s.history(noLayer, "ENV%s", msg.String())
	return nil
}

// addEnv sets a variable in a list, in its place where it is there already.
func addEnv(env []string, name, value string) []string {
	i := slices.IndexFunc(env, func(kv string) bool { return strings.HasPrefix(kv+"=", name+"=") })
	if i < 0 {
		return append(env, name+"="+value)
	}
	env[i] = name + "=" + value
	return env
}

func (s *stage) setShell(_ context.Context, cfg *schema.Config, _ expander) error {
	if len(cfg.Shell) == 0 {
		return mistake(schema.Position{}, `write for example ["/bin/bash", "-c"]`, "shell is empty")
	}
	s.config.Config.Shell = slices.Clone(cfg.Shell)
	s.history(noLayer, "SHELL %v", cfg.Shell)
	return nil
}

// setWorkdir changes the directory and makes it, as WORKDIR does.
func (s *stage) setWorkdir(_ context.Context, cfg *schema.Config, x expander) error {
	dir, err := x.word(*cfg.Workdir)
	if err != nil {
		return err
	}
	if err := s.chdir(dir); err != nil {
		return err
	}
	wd, err := s.dir(context.Background())
	if err != nil {
		return err
	}
	layer := noLayer
	if wd != "/" {
		pos := s.c.fieldPos(cfg.Pos["workdir"], s.image.Pos)
		s.state = s.state.File(llb.Mkdir(wd, 0o755, s.mkdirOptions(s.config.Config.User)...),
			s.title("WORKDIR "+dir),
			s.c.sources.at(pos),
			llb.Platform(s.platform))
		layer = workdirLayer
	}
	s.history(layer, "WORKDIR %s", wd)
	return nil
}

// mkdirOptions are those of a directory that the build makes.
func (s *stage) mkdirOptions(owner string) []llb.MkdirOption {
	opts := []llb.MkdirOption{llb.WithParents(true)}
	if owner != "" {
		opts = append(opts, llb.WithUser(owner))
	}
	if t := s.epoch(); t != nil {
		opts = append(opts, llb.WithCreatedTime(*t))
	}
	return opts
}

func (s *stage) setUser(_ context.Context, cfg *schema.Config, x expander) error {
	user, err := x.word(*cfg.User)
	if err != nil {
		return err
	}
	s.state = s.state.User(user)
	s.config.Config.User = user
	s.history(noLayer, "USER %v", user)
	return nil
}

func (s *stage) setExpose(_ context.Context, cfg *schema.Config, x expander) error {
	given := slices.Clone(cfg.Expose)
	slices.Sort(given)
	given, err := x.words(given)
	if err != nil {
		return err
	}
	var ports []string
	for _, p := range given {
		list, err := parsePort(p)
		if err != nil {
			return err
		}
		ports = append(ports, list...)
	}
	if s.config.Config.ExposedPorts == nil {
		s.config.Config.ExposedPorts = map[string]struct{}{}
	}
	for _, p := range ports {
		s.config.Config.ExposedPorts[p] = struct{}{}
	}
	s.history(noLayer, "EXPOSE %v", ports)
	return nil
}

func (s *stage) setVolumes(_ context.Context, cfg *schema.Config, x expander) error {
	volumes, err := x.list(cfg.Volumes)
	if err != nil {
		return err
	}
	if s.config.Config.Volumes == nil {
		s.config.Config.Volumes = map[string]struct{}{}
	}
	for _, v := range volumes {
		if strings.TrimSpace(v) == "" {
			return mistake(schema.Position{}, "", "a volume is the empty string")
		}
		s.config.Config.Volumes[v] = struct{}{}
	}
	s.history(noLayer, "VOLUME %v", volumes)
	return nil
}

func (s *stage) setLabels(_ context.Context, cfg *schema.Config, x expander) error {
	labels, err := x.vars(cfg.Labels)
	if err != nil {
		return err
	}
	if err := checkNames(labels, "label"); err != nil {
		return err
	}
	if s.config.Config.Labels == nil {
		s.config.Config.Labels = make(map[string]string, len(labels))
	}
	var msg strings.Builder
	for _, l := range labels {
		s.config.Config.Labels[l.Name] = l.Value
		fmt.Fprintf(&msg, " %s=%s", l.Name, l.Value)
	}
	s.history(noLayer, "LABEL%s", msg.String())
	return nil
}

// setAnnotations notes annotations of the manifest. They are no part of the
// config, and an image does not inherit them.
func (s *stage) setAnnotations(_ context.Context, cfg *schema.Config, x expander) error {
	list, err := x.vars(cfg.Annotations)
	if err != nil {
		return err
	}
	if s.annotations == nil {
		s.annotations = map[string]string{}
	}
	for _, a := range list {
		s.annotations[a.Name] = a.Value
	}
	return checkNames(list, "annotation")
}

// setAuthor is MAINTAINER.
func (s *stage) setAuthor(_ context.Context, cfg *schema.Config, _ expander) error {
	s.config.Author = *cfg.Author
	s.history(noLayer, "MAINTAINER %v", *cfg.Author)
	return nil
}

func (s *stage) setStopSignal(_ context.Context, cfg *schema.Config, x expander) error {
	sig, err := x.word(*cfg.StopSignal)
	if err != nil {
		return err
	}
	if _, err := signal.ParseSignal(sig); err != nil {
		return err
	}
	s.config.Config.StopSignal = sig
	s.history(noLayer, "STOPSIGNAL %v", sig)
	return nil
}

func (s *stage) setHealthcheck(_ context.Context, cfg *schema.Config, _ expander) error {
	hc, err := healthcheck(cfg.Healthcheck)
	if err != nil {
		return err
	}
	s.config.Config.Healthcheck = hc
	s.history(noLayer, "HEALTHCHECK %+v", *hc)
	return nil
}

// healthcheck is the image's record of a health check; one without a test
// switches the inherited one off.
func healthcheck(h *schema.Healthcheck) (*dockerspec.HealthcheckConfig, error) {
	hc := &dockerspec.HealthcheckConfig{Retries: h.Retries}
	if h.Retries < 0 {
		return nil, mistake(h.Pos, "", "retries cannot be negative")
	}
	for _, d := range []struct {
		name, text string
		to         *time.Duration
	}{
		{"interval", h.Interval, &hc.Interval},
		{"timeout", h.Timeout, &hc.Timeout},
		{"startPeriod", h.StartPeriod, &hc.StartPeriod},
		{"startInterval", h.StartInterval, &hc.StartInterval},
	} {
		var err error
		if *d.to, err = healthDuration(d.text); err != nil {
			return nil, because(h.Pos, err, "%s %q", d.name, d.text)
		}
	}
	switch {
	case len(h.Test.Args) == 0:
		if h.Interval+h.Timeout+h.StartPeriod+h.StartInterval != "" || h.Retries != 0 {
			return nil, mistake(h.Pos, "", "a health check that is switched off has no other fields")
		}
		hc.Test = []string{"NONE"}
	case h.Test.Shell:
		hc.Test = append([]string{"CMD-SHELL"}, h.Test.Args...)
	default:
		hc.Test = append([]string{"CMD"}, h.Test.Args...)
	}
	return hc, nil
}

// healthDuration reads a duration of a health check; "" is the default.
func healthDuration(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, err
	}
	if d != 0 && d < time.Millisecond {
		return 0, fmt.Errorf("it cannot be shorter than %s", time.Millisecond)
	}
	return d, nil
}

func (s *stage) setOnBuild(_ context.Context, cfg *schema.Config, _ expander) error {
	for _, line := range cfg.OnBuild {
		if _, err := parseTrigger(line); err != nil {
			return fmt.Errorf("trigger %q: %w", line, err)
		}
	}
	s.config.Config.OnBuild = append(s.config.Config.OnBuild, cfg.OnBuild...)
	return nil
}

func (s *stage) setEntrypoint(_ context.Context, cfg *schema.Config, _ expander) error {
	args := s.commandLine(cfg.Entrypoint)
	if len(args) == 0 {
		args = nil
	}
	s.config.Config.Entrypoint = args
	if !s.cmdSet {
		s.config.Config.Cmd = nil
	}
	s.history(noLayer, "ENTRYPOINT %q", args)
	return nil
}

func (s *stage) setCmd(_ context.Context, cfg *schema.Config, _ expander) error {
	s.cmdSet = true
	args := s.commandLine(cfg.Cmd)
	s.config.Config.Cmd = args
	// Deprecated, but written by the Dockerfile front end for old docker.
	s.config.Config.ArgsEscaped = true //nolint:staticcheck // see above
	s.history(noLayer, "CMD %q", args)
	return nil
}

// commandLine is a command as an argument vector.
func (s *stage) commandLine(cmd *schema.Command) []string {
	if !cmd.Shell {
		return slices.Clone(cmd.Args)
	}
	return s.withShell(cmd.Args)
}

// withShell lets the shell of the image run args.
func (s *stage) withShell(args []string) []string {
	shell := slices.Clone(s.config.Config.Shell)
	if len(shell) == 0 {
		shell = []string{"/bin/sh", "-c"}
		if s.config.OS == "windows" {
			shell = []string{"cmd", "/S", "/C"}
		}
	}
	return append(shell, strings.Join(args, " "))
}

// arg declares build arguments, as ARG.
func (s *stage) arg(ctx context.Context, vars []schema.Var, x expander) error {
	msg := make([]string, 0, len(vars))
	for _, v := range vars {
		if err := checkNames([]schema.Var{v}, "arg"); err != nil {
			return err
		}
		if err := x.refresh(ctx, s); err != nil {
			return because(v.Pos, err, "read the environment")
		}
		value, err := s.argValue(v, x)
		if err != nil {
			return because(v.Pos, err, "arg %s", v.Name)
		}
		text := v.Name
		if value != nil {
			text += "=" + *value
			if !notInEnv(v.Name) {
				s.state = s.state.AddEnv(v.Name, *value)
			}
		}
		s.args = append(s.args, argument{name: v.Name, value: value})
		msg = append(msg, text)
	}
	s.history(noLayer, "ARG %s", strings.Join(msg, " "))
	return nil
}

// notInEnv tells the arguments that never become variables.
func notInEnv(name string) bool {
	return name == "BUILDKIT_SBOM_SCAN_CONTEXT" || name == "BUILDKIT_SBOM_SCAN_STAGE"
}

// argValue is the value of a declared argument: the one given from outside,
// its default, or that of the platform argument of this name.
func (s *stage) argValue(v schema.Var, x expander) (*string, error) {
	if given, ok := s.c.args[v.Name]; ok {
		return &given, nil
	}
	if v.Unset {
		if global, ok := s.c.platformArgs(s.at.target).Get(v.Name); ok {
			return &global, nil
		}
		return nil, nil
	}
	word, err := x.word(v.Value)
	return &word, err
}

// checkNames refuses empty names.
func checkNames(vars []schema.Var, kind string) error {
	for _, v := range vars {
		if v.Name == "" {
			return mistake(v.Pos, "", "the name of a %s is empty", kind)
		}
	}
	return nil
}

// parsePort reads "8080", "53/udp" or "8000-8010" into ports with protocol.
func parsePort(text string) ([]string, error) {
	ports, proto, _ := strings.Cut(text, "/")
	proto = strings.ToLower(proto)
	if proto == "" {
		proto = "tcp"
	}
	if proto != "tcp" && proto != "udp" && proto != "sctp" {
		return nil, mistake(schema.Position{}, "tcp, udp or sctp", "port %q has an unknown protocol", text)
	}
	first, last, ranged := strings.Cut(ports, "-")
	start, err := strconv.ParseUint(first, 10, 16)
	end := start
	if err == nil && ranged {
		end, err = strconv.ParseUint(last, 10, 16)
	}
	if err != nil || end < start {
		return nil, mistake(schema.Position{}, `a port is written 8080, "53/udp" or "8000-8010"`, "port %q is not valid", text)
	}
	list := make([]string, 0, end-start+1)
	for p := start; p <= end; p++ {
		list = append(list, strconv.FormatUint(p, 10)+"/"+proto)
	}
	return list, nil
}
