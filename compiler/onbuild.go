package compiler

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/solver/pb"

	"github.com/strata-build/strata/schema"
)

// parseTrigger parses an ONBUILD trigger, which is a Dockerfile instruction.
func parseTrigger(line string) (instructions.Command, error) {
	ast, err := parser.Parse(strings.NewReader(line))
	if err != nil {
		return nil, err
	}
	if len(ast.AST.Children) != 1 {
		return nil, errors.New("one instruction is needed")
	}
	node := ast.AST.Children[0]
	// A comment above may configure the linter, and there is none: BuildKit
	// would run into it.
	node.PrevComment = nil
	cmd, err := instructions.ParseCommand(node)
	if err != nil {
		return nil, err
	}
	switch cmd.(type) {
	case *instructions.OnbuildCommand, *instructions.MaintainerCommand:
		return nil, fmt.Errorf("%s cannot be a trigger", strings.ToUpper(cmd.Name()))
	}
	return cmd, nil
}

// triggers runs the ONBUILD triggers of the base, first of all steps.
func (s *stage) triggers(ctx context.Context, lines []string) error {
	s.onbuild = true
	defer func() { s.onbuild = false }()
	for _, line := range lines {
		cmd, err := parseTrigger(line)
		if err == nil {
			err = s.trigger(ctx, cmd)
		}
		if err != nil {
			return because(s.image.Pos, err, "onbuild trigger %q of the base image", line)
		}
	}
	return nil
}

// trigger runs one instruction: its words are expanded by the instruction's
// own rules, and what is left is literal.
func (s *stage) trigger(ctx context.Context, cmd instructions.Command) error {
	x := expander{on: true}
	if err := x.refresh(ctx, s); err != nil {
		return err
	}
	if _, isArg := cmd.(*instructions.ArgCommand); !isArg {
		if err := expandInstruction(cmd, x); err != nil {
			return err
		}
	}
	switch c := cmd.(type) {
	case *instructions.RunCommand:
		return s.triggerRun(ctx, c)
	case *instructions.CopyCommand:
		return s.copy(ctx, copying{
			pos: s.image.Pos, from: s.triggerFrom(c.From),
			sources: c.SourcePaths, contents: c.SourceContents, dest: c.DestPath,
			exclude: c.ExcludePatterns, chown: c.Chown, chmod: c.Chmod, link: c.Link, parents: c.Parents,
		})
	case *instructions.AddCommand:
		return s.copy(ctx, copying{
			pos: s.image.Pos, add: true,
			sources: c.SourcePaths, contents: c.SourceContents, dest: c.DestPath,
			exclude: c.ExcludePatterns, chown: c.Chown, chmod: c.Chmod, link: c.Link,
			keepGitDir: c.KeepGitDir, unpack: c.Unpack, checksum: c.Checksum,
		})
	case *instructions.ArgCommand:
		return s.arg(ctx, triggerArgs(c), x)
	}
	cfg, err := triggerConfig(cmd, x)
	if err != nil {
		return err
	}
	return s.setParts(ctx, cfg, append(leadingParts(), trailingParts()...), expander{}, s.image.Pos)
}

// expandInstruction expands words as the front end does before it looks at
// an instruction.
func expandInstruction(cmd instructions.Command, x expander) error {
	if ex, ok := cmd.(instructions.SupportsSingleWordExpansion); ok {
		if err := ex.Expand(x.word); err != nil {
			return err
		}
	}
	if ex, ok := cmd.(instructions.SupportsSingleWordExpansionRaw); ok {
		return ex.ExpandRaw(x.text)
	}
	return nil
}

// triggerFrom is what --from of a trigger names: a stage of the image, or
// else a registry image.
func (s *stage) triggerFrom(name string) *schema.From {
	if name == "" {
		return nil
	}
	for _, st := range s.image.Stages {
		if strings.EqualFold(st.Name, name) {
			return &schema.From{Image: st, Pos: s.image.Pos}
		}
	}
	return &schema.From{Ref: name, Pos: s.image.Pos}
}

func (s *stage) triggerRun(ctx context.Context, c *instructions.RunCommand) error {
	r := run{
		pos:      s.image.Pos,
		command:  schema.Command{Shell: c.PrependShell, Args: c.CmdLine},
		files:    c.Files,
		network:  instructions.GetNetwork(c),
		insecure: instructions.GetSecurity(c) == instructions.SecurityInsecure,
	}
	for _, m := range instructions.GetMounts(c) {
		r.mounts = append(r.mounts, mount{Mount: *m, from: s.triggerFrom(m.From), pos: s.image.Pos})
	}
	for _, d := range instructions.GetDevices(c) {
		r.devices = append(r.devices, &pb.CDIDevice{Name: d.Name, Optional: !d.Required})
	}
	return s.run(ctx, r)
}

func triggerArgs(c *instructions.ArgCommand) []schema.Var {
	vars := make([]schema.Var, 0, len(c.Args))
	for _, kv := range c.Args {
		vars = append(vars, schema.Var{Name: kv.Key, Value: kv.ValueString(), Unset: kv.Value == nil})
	}
	return vars
}

// triggerConfig is an instruction that only changes the config.
func triggerConfig(cmd instructions.Command, x expander) (*schema.Config, error) {
	switch c := cmd.(type) {
	case *instructions.EnvCommand:
		return &schema.Config{Env: triggerVars(c.Env)}, nil
	case *instructions.LabelCommand:
		return &schema.Config{Labels: triggerVars(c.Labels)}, nil
	case *instructions.WorkdirCommand:
		return &schema.Config{Workdir: &c.Path}, nil
	case *instructions.UserCommand:
		return &schema.Config{User: &c.User}, nil
	case *instructions.ShellCommand:
		return &schema.Config{Shell: c.Shell}, nil
	case *instructions.CmdCommand:
		return &schema.Config{Cmd: triggerCommand(c.ShellDependantCmdLine)}, nil
	case *instructions.EntrypointCommand:
		return &schema.Config{Entrypoint: triggerCommand(c.ShellDependantCmdLine)}, nil
	case *instructions.VolumeCommand:
		return &schema.Config{Volumes: c.Volumes}, nil
	case *instructions.StopSignalCommand:
		return &schema.Config{StopSignal: &c.Signal}, nil
	case *instructions.ExposeCommand:
		ports, err := x.words(c.Ports)
		return &schema.Config{Expose: ports}, err
	case *instructions.HealthCheckCommand:
		return &schema.Config{Healthcheck: triggerHealth(c)}, nil
	}
	return nil, errors.New("the instruction is not supported as a trigger")
}

func triggerVars(kvs instructions.KeyValuePairs) []schema.Var {
	vars := make([]schema.Var, 0, len(kvs))
	for _, kv := range kvs {
		vars = append(vars, schema.Var{Name: kv.Key, Value: kv.Value})
	}
	return vars
}

func triggerCommand(c instructions.ShellDependantCmdLine) *schema.Command {
	return &schema.Command{Shell: c.PrependShell, Args: c.CmdLine}
}

func triggerHealth(c *instructions.HealthCheckCommand) *schema.Healthcheck {
	h := c.Health
	if len(h.Test) == 0 || h.Test[0] == "NONE" {
		return &schema.Healthcheck{}
	}
	return &schema.Healthcheck{
		Test:          schema.Command{Shell: h.Test[0] == "CMD-SHELL", Args: h.Test[1:]},
		Interval:      h.Interval.String(),
		Timeout:       h.Timeout.String(),
		StartPeriod:   h.StartPeriod.String(),
		StartInterval: h.StartInterval.String(),
		Retries:       h.Retries,
	}
}
