package compiler

import (
	"context"
	"slices"

	"github.com/strata-build/strata/schema"
)

// apply translates one step.
func (s *stage) apply(ctx context.Context, step *schema.Step) error {
	err := checkStep(step)
	if err == nil {
		err = s.verb(ctx, step)
	}
	if err != nil {
		return locate(step.Pos, string(step.Verb), err)
	}
	return nil
}

func (s *stage) verb(ctx context.Context, step *schema.Step) error {
	switch step.Verb {
	case schema.VerbRun:
		return s.runStep(ctx, step)
	case schema.VerbCopy, schema.VerbAdd:
		return s.copyStep(ctx, step)
	case schema.VerbFile:
		return s.fileStep(ctx, step)
	case schema.VerbMkdir:
		return s.mkdirStep(ctx, step)
	case schema.VerbRm:
		return s.rmStep(ctx, step)
	case schema.VerbSymlink:
		return s.symlinkStep(ctx, step)
	case schema.VerbSet:
		return s.set(ctx, step)
	case schema.VerbArg:
		x, err := s.expander(ctx, step)
		if err != nil {
			return err
		}
		return s.arg(ctx, step.Arg, x)
	}
	return mistake(step.Pos, "", "unknown step %q", step.Verb)
}

// stepField is a field of a step, and the verbs that use it.
type stepField struct {
	name  string
	given bool
	verbs []schema.Verb
}

// checkStep refuses fields that the verb of a step would ignore.
func checkStep(step *schema.Step) error {
	for _, f := range stepFields(step) {
		if f.given && !slices.Contains(f.verbs, step.Verb) {
			return mistake(step.FieldPos[f.name], "", "%s does not apply to %s", f.name, step.Verb)
		}
	}
	return nil
}

// stepFields lists the fields of a step that only some verbs use.
func stepFields(p *schema.Step) []stepField {
	run := []schema.Verb{schema.VerbRun}
	add := []schema.Verb{schema.VerbAdd}
	file := []schema.Verb{schema.VerbFile}
	copies := []schema.Verb{schema.VerbCopy, schema.VerbAdd}
	made := []schema.Verb{schema.VerbCopy, schema.VerbAdd, schema.VerbFile, schema.VerbMkdir}
	return []stepField{
		{"from", p.From != nil, copies},
		{"to", p.To != "", []schema.Verb{schema.VerbCopy, schema.VerbAdd, schema.VerbFile, schema.VerbSymlink}},
		{"files", len(p.Files) > 0, copies},
		{"include", len(p.Include) > 0, copies},
		{"exclude", len(p.Exclude) > 0, copies},
		{"parents", p.Parents, copies},
		{"link", p.Link, []schema.Verb{schema.VerbCopy, schema.VerbAdd, schema.VerbFile}},
		{"checksum", p.Checksum != "", add},
		{"unpack", p.Unpack != nil, copies},
		{"keepGitDir", p.KeepGitDir, add},
		{"content", p.Content != "", file},
		{"chown", p.Chown != "", append(made, schema.VerbSymlink)},
		{"chmod", p.Chmod != "", made},
		{"env", len(p.Env) > 0, run},
		{"workdir", p.Workdir != nil, run},
		{"user", p.User != nil, run},
		{"mounts", len(p.Mounts) > 0, run},
		{"cache", len(p.Cache) > 0, run},
		{"tmpfs", len(p.Tmpfs) > 0, run},
		{"secrets", len(p.Secrets) > 0, run},
		{"ssh", len(p.SSH) > 0, run},
		{"devices", len(p.Devices) > 0, run},
		{"network", p.Network != "", run},
		{"insecure", p.Insecure, run},
		{"stdin", p.Stdin != nil, run},
	}
}

// checkImage refuses what an image or its stages would ignore.
func checkImage(img *schema.Image) error {
	if img.Dockerfile != nil && img.From != nil {
		return mistake(img.Dockerfile.Pos, "the Dockerfile names its own base; leave `from` out",
			"an image has both dockerfile and from")
	}
	for _, st := range img.Stages {
		if len(st.Tags) > 0 || len(st.Platforms) > 0 || len(st.Config.Annotations) > 0 {
			return &Error{Mistake: schema.Error{Pos: st.Pos, Path: st.Path, Width: 1,
				Message: "a stage is private, so tags, platforms and annotations do nothing on it",
				Hint:    "move them to the image, or the stage to `images`"}}
		}
	}
	return nil
}
