package compiler

import (
	"context"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/moby/buildkit/client/llb"

	"github.com/strata-build/strata/schema"
)

// These verbs have no Dockerfile instruction: they are the plain LLB actions,
// one op per step.

// mkdirStep makes directories and their parents.
func (s *stage) mkdirStep(ctx context.Context, step *schema.Step) error {
	paths, err := s.stepPaths(ctx, step)
	if err != nil {
		return err
	}
	chown, chmod, err := s.ownership(ctx, step)
	if err != nil {
		return err
	}
	mode, err := mkdirMode(chmod)
	if err != nil {
		return err
	}
	var a *llb.FileAction
	for _, p := range paths {
		if a == nil {
			a = llb.Mkdir(p, mode, s.mkdirOptions(chown)...)
			continue
		}
		a = a.Mkdir(p, mode, s.mkdirOptions(chown)...)
	}
	s.fileAction(step, a, "MKDIR"+flags(chown, chmod)+" "+strings.Join(paths, " "))
	return nil
}

// mkdirMode is the mode of a directory. The LLB action has the permission
// bits only.
func mkdirMode(chmod string) (os.FileMode, error) {
	if chmod == "" {
		return 0o755, nil
	}
	p, err := strconv.ParseUint(chmod, 8, 32)
	if err != nil || p > 0o777 {
		return 0, mistake(schema.Position{}, `octal digits up to "0777"; more is for a run step with chmod`,
			"chmod %q is not valid for mkdir", chmod)
	}
	return os.FileMode(p), nil
}

// rmStep removes paths, which may be patterns and need not exist.
func (s *stage) rmStep(ctx context.Context, step *schema.Step) error {
	paths, err := s.stepPaths(ctx, step)
	if err != nil {
		return err
	}
	opts := []llb.RmOption{llb.WithAllowNotFound(true), llb.WithAllowWildcard(true)}
	var a *llb.FileAction
	for _, p := range paths {
		if path.Clean(p) == "/" {
			return mistake(step.Pos, `to start from nothing, leave "from" out`, "rm cannot remove the root directory")
		}
		if a == nil {
			a = llb.Rm(p, opts...)
			continue
		}
		a = a.Rm(p, opts...)
	}
	s.fileAction(step, a, "RM "+strings.Join(paths, " "))
	return nil
}

// symlinkStep makes a link, and the directory that it is in.
func (s *stage) symlinkStep(ctx context.Context, step *schema.Step) error {
	if len(step.Paths) != 1 || step.To == "" {
		return mistake(step.Pos, "write {symlink: target, to: link}", "symlink needs a target and `to`")
	}
	x, err := s.expander(ctx, step)
	if err != nil {
		return err
	}
	target, link, chown := step.Paths[0], step.To, step.Chown
	if err := x.inPlace(&target, &link, &chown); err != nil {
		return err
	}
	if link, err = s.inStage(ctx, link); err != nil {
		return err
	}
	link = path.Clean(link)
	var opts []llb.SymlinkOption
	if chown != "" {
		opts = append(opts, llb.WithUser(chown))
	}
	if t := s.epoch(); t != nil {
		opts = append(opts, llb.WithCreatedTime(*t))
	}
	a := llb.Symlink(target, link, opts...)
	if dir := path.Dir(link); dir != "/" {
		a = llb.Mkdir(dir, 0o755, s.mkdirOptions("")...).Symlink(target, link, opts...)
	}
	s.fileAction(step, a, "SYMLINK"+flags(chown, "")+" "+target+" "+link)
	return nil
}

// fileAction adds the op of actions.
func (s *stage) fileAction(step *schema.Step, a *llb.FileAction, text string) {
	title := step.Name
	if title == "" {
		title = text
	}
	opts := []llb.ConstraintsOpt{s.title(title), s.c.sources.at(step.Pos), llb.Platform(s.platform)}
	if s.noCache {
		opts = append(opts, llb.IgnoreCache)
	}
	s.state = s.state.File(a, opts...)
	s.history(stepLayer, "%s", text)
}

// stepPaths are the expanded, absolute paths of a step.
func (s *stage) stepPaths(ctx context.Context, step *schema.Step) ([]string, error) {
	if len(step.Paths) == 0 {
		return nil, mistake(step.Pos, "", "%s needs a path", step.Verb)
	}
	x, err := s.expander(ctx, step)
	if err != nil {
		return nil, err
	}
	paths, err := x.list(step.Paths)
	if err != nil {
		return nil, err
	}
	for i, p := range paths {
		if p == "" {
			return nil, mistake(step.Pos, "", "the path is empty")
		}
		if paths[i], err = s.inStage(ctx, p); err != nil {
			return nil, err
		}
	}
	return paths, nil
}

// ownership is the expanded chown and chmod of a step.
func (s *stage) ownership(ctx context.Context, step *schema.Step) (chown, chmod string, err error) {
	x, err := s.expander(ctx, step)
	if err != nil {
		return "", "", err
	}
	chown, chmod = step.Chown, step.Chmod
	return chown, chmod, x.inPlace(&chown, &chmod)
}

// flags are chown and chmod as the history writes them.
func flags(chown, chmod string) string {
	var out string
	if chown != "" {
		out += " --chown=" + chown
	}
	if chmod != "" {
		out += " --chmod=" + chmod
	}
	return out
}
