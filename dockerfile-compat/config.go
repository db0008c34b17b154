package dockerfilecompat

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"

	"github.com/strata-build/strata/schema"
)

// config lifts an instruction that only changes the config.
func (l *lifter) config(in instruction, it *item) error {
	x := l.expansion()
	cfg := &schema.Config{}
	it.config = cfg
	var err error
	switch c := in.cmd.(type) {
	case *instructions.EnvCommand:
		it.field, x.given = "env", l.given
		cfg.Env, err = x.vars(c.Env)
		l.overwrite(c.Env, cfg.Env)
	case *instructions.LabelCommand:
		it.field, x.given = "labels", l.given
		cfg.Labels, err = x.vars(c.Labels)
	case *instructions.WorkdirCommand:
		x.given = l.given
		it.field, cfg.Workdir = "workdir", x.single(c.Path)
	case *instructions.UserCommand:
		x.given = l.given
		it.field, cfg.User = "user", x.single(c.User)
	case *instructions.StopSignalCommand:
		it.field, cfg.StopSignal = "stopSignal", x.single(c.Signal)
	case *instructions.VolumeCommand:
		x.look(c.Volumes...)
		it.field, cfg.Volumes = "volumes", x.list(c.Volumes)
	case *instructions.ExposeCommand:
		it.field = "expose"
		if len(c.Ports) == 1 { // several are sorted as they are written
			x.given = l.numbers()
		}
		cfg.Expose, err = x.ports(l.file.inOrder(in, c.Ports))
	case *instructions.ShellCommand:
		it.field, cfg.Shell = "shell", c.Shell
	case *instructions.CmdCommand:
		it.field = "cmd"
		cfg.Cmd, err = command(c.ShellDependantCmdLine)
	case *instructions.EntrypointCommand:
		it.field = "entrypoint"
		cfg.Entrypoint, err = command(c.ShellDependantCmdLine)
	case *instructions.HealthCheckCommand:
		it.field, cfg.Healthcheck = "healthcheck", healthcheck(c.Health)
	case *instructions.OnbuildCommand:
		it.field, cfg.OnBuild = "onbuild", []string{c.Expression}
	case *instructions.MaintainerCommand:
		it.field, cfg.Author = "author", &c.Maintainer
	default:
		return cannot("%s has no native form", strings.ToUpper(in.cmd.Name()))
	}
	if err != nil {
		return err
	}
	it.expand = x.expand
	return x.err
}

// single is the only word of an instruction.
func (x *expansion) single(word string) *string {
	x.look(word)
	out := x.word(word)
	return &out
}

// vars are the pairs of ENV and LABEL.
func (x *expansion) vars(pairs instructions.KeyValuePairs) ([]schema.Var, error) {
	for _, kv := range pairs {
		x.look(kv.Key, kv.Value)
	}
	var vars []schema.Var
	for _, kv := range pairs {
		v := schema.Var{Name: x.word(kv.Key), Value: x.word(kv.Value)}
		if slices.ContainsFunc(vars, func(o schema.Var) bool { return o.Name == v.Name }) {
			return nil, cannot("%s is given twice in one instruction", v.Name)
		}
		vars = append(vars, v)
	}
	return vars, nil
}

// ports are those of EXPOSE. What is before a colon has no meaning there.
func (x *expansion) ports(ports []string) ([]string, error) {
	x.look(ports...)
	out := make([]string, len(ports))
	for i, p := range ports {
		out[i] = x.word(p)
		if at := strings.LastIndexByte(out[i], ':'); at >= 0 {
			if x.expand {
				return nil, cannot("EXPOSE %s maps a port of the host", p)
			}
			out[i] = out[i][at+1:]
		}
	}
	return out, nil
}

// command is a CMD or ENTRYPOINT.
func command(c instructions.ShellDependantCmdLine) (*schema.Command, error) {
	if c.PrependShell && len(c.CmdLine) == 0 {
		return nil, cannot("it has no command")
	}
	args := c.CmdLine
	if args == nil {
		args = []string{}
	}
	return &schema.Command{Shell: c.PrependShell, Args: args}, nil
}

// healthcheck lifts HEALTHCHECK, which knows no variables.
func healthcheck(h *dockerspec.HealthcheckConfig) *schema.Healthcheck {
	if len(h.Test) == 0 || h.Test[0] == "NONE" {
		return &schema.Healthcheck{Test: schema.Command{Args: []string{}}}
	}
	return &schema.Healthcheck{
		Test:          schema.Command{Shell: h.Test[0] == "CMD-SHELL", Args: h.Test[1:]},
		Interval:      duration(h.Interval),
		Timeout:       duration(h.Timeout),
		StartPeriod:   duration(h.StartPeriod),
		StartInterval: duration(h.StartInterval),
		Retries:       h.Retries,
	}
}

// duration is a duration as a person writes it: 1m rather than 1m0s.
func duration(d time.Duration) string {
	if d == 0 {
		return ""
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// leading is the place of a field among those of an image that apply before
// its steps, and trailing among those that apply behind them; -1 is none.
func leading(field string) int {
	return slices.Index([]string{"args", "env", "shell", "workdir"}, field)
}

func trailing(field string) int {
	return slices.Index([]string{"author", "user", "expose", "volumes", "labels", "stopSignal", "healthcheck", "entrypoint", "cmd"}, field)
}

// place puts the instructions of a stage where they mean the same: those at
// its beginning and at its end that are in the order in which the fields of
// an image apply become fields, and the others steps.
func (l *lifter) place(img *schema.Image, items []item) {
	items = l.takeTriggers(img, items)
	head, done := 0, 0
	for head < len(items) && l.leads(img, items[head], &done) {
		l.setField(img, items[head])
		head++
	}
	tail, limit := len(items), trailing("cmd")+1
	for tail > head && trails(items[tail-1], &limit) {
		tail--
	}
	for _, it := range together(items[head:tail]) {
		step := it.asStep()
		l.comment(step, it.comment)
		l.entryComments(step, it)
		img.Steps = append(img.Steps, step)
	}
	for _, it := range items[tail:] {
		l.setField(img, it)
	}
}

// together joins instructions that follow each other in the order in which a
// step `set` applies its fields.
func together(items []item) []item {
	var out []item
	for _, it := range items {
		if last := len(out) - 1; last >= 0 && joins(out[last], it) {
			joined := *out[last].config
			copyField(&joined, it.config, it.field)
			out[last].config, out[last].field = &joined, it.field
			continue
		}
		out = append(out, it)
	}
	return out
}

// joins reports whether an instruction may be one step with that before it.
func joins(a, b item) bool {
	if a.config == nil || b.config == nil || a.expand || b.expand || len(a.entries)+len(b.entries) > 0 || b.comment != "" {
		return false
	}
	return applied(a.field) < applied(b.field)
}

// applied is the place of a field among those that a step `set` applies.
func applied(field string) int {
	if i := leading(field); i >= 0 {
		return i
	}
	return leading("workdir") + 1 + trailing(field)
}

// takeTriggers takes out ONBUILD, which no other instruction depends on.
func (l *lifter) takeTriggers(img *schema.Image, items []item) []item {
	return slices.DeleteFunc(items, func(it item) bool {
		if it.field == "onbuild" {
			l.setField(img, it)
			return true
		}
		return false
	})
}

// leads reports whether an instruction can be a field before the steps; done
// is the place in the order that the fields so far have reached.
func (l *lifter) leads(img *schema.Image, it item, done *int) bool {
	i := leading(it.field)
	if i < *done || i < 0 || it.expand {
		return false
	}
	if it.field == "args" {
		return len(it.arg) == 1 && !slices.ContainsFunc(img.Args, func(v schema.Var) bool { return v.Name == it.arg[0].Name })
	}
	*done = i + 1
	return true
}

// trails reports whether an instruction can be a field behind the steps;
// limit is the place in the order that the fields behind it begin at.
func trails(it item, limit *int) bool {
	i := trailing(it.field)
	if i < 0 || i >= *limit || it.expand {
		return false
	}
	*limit = i
	return true
}

// setField adds an instruction to the fields of an image.
func (l *lifter) setField(img *schema.Image, it item) {
	l.comment(schema.Field{Of: img, Name: it.field}, it.comment)
	l.entryComments(img, it)
	if it.field == "args" {
		img.Args = append(img.Args, it.arg...)
		return
	}
	copyField(&img.Config, it.config, it.field)
}

// copyField copies one field.
func copyField(c, from *schema.Config, field string) {
	switch field {
	case "env":
		c.Env = from.Env
	case "shell":
		c.Shell = from.Shell
	case "workdir":
		c.Workdir = from.Workdir
	case "author":
		c.Author = from.Author
	case "user":
		c.User = from.User
	case "expose":
		c.Expose = from.Expose
	case "volumes":
		c.Volumes = from.Volumes
	case "labels":
		c.Labels = from.Labels
	case "stopSignal":
		c.StopSignal = from.StopSignal
	case "healthcheck":
		c.Healthcheck = from.Healthcheck
	case "onbuild":
		c.OnBuild = append(c.OnBuild, from.OnBuild...)
	case "entrypoint":
		c.Entrypoint = from.Entrypoint
	case "cmd":
		c.Cmd = from.Cmd
	default:
		panic(fmt.Sprintf("no field for %s", field))
	}
}

// entryComments sets the comments of variables and labels.
func (l *lifter) entryComments(of schema.Node, it item) {
	for name, text := range it.entries {
		l.comment(schema.Entry{Of: of, Field: it.field, Name: name}, text)
	}
}

// asStep is an instruction as a step.
func (it item) asStep() *schema.Step {
	switch {
	case it.step != nil:
		return it.step
	case it.field == "args":
		return &schema.Step{Verb: schema.VerbArg, Arg: it.arg, Expand: it.expand}
	}
	return &schema.Step{Verb: schema.VerbSet, Set: it.config, Expand: it.expand}
}
