package schema

import (
	"context"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/distribution/reference"
)

// Lint checks as Vet does, and returns what is allowed but mostly a mistake,
// in the order of the source. The rules are those of BuildKit's linter that
// apply here, by its names where it has one:
//
//	SecretsUsedInArgOrEnv  a secret in env or args, which everybody can read
//	                       who has the image
//	UnpinnedBase           an image without a tag, or with :latest
//	CacheLeftInLayer       a package manager's cache in a layer of the image
//	WorkdirRelativePath    a workdir that depends on the base
//	DestinationNoSlash     several sources, and a destination that is a
//	                       directory only where there is one already
func Lint(ctx context.Context, opts LoadOptions) (list Errors, err error) {
	defer recoverPanic(&err)
	s, spec, err := vet(ctx, opts)
	if err != nil || spec == nil {
		return nil, err
	}
	l := &linter{dir: s.dir, seen: map[*Image]bool{}, shipped: map[*Image]bool{}}
	for _, img := range spec.Images {
		l.ship(img)
	}
	for _, img := range spec.Images {
		l.image(img)
	}
	if len(l.found) == 0 {
		return nil, nil
	}
	// Of one error or several, sorted makes one.
	switch e := l.found.sorted().(type) {
	case *Error:
		return Errors{e}, nil
	case Errors:
		return e, nil
	}
	return l.found, nil
}

// linter is one run over the images of a Spec.
type linter struct {
	dir     string
	seen    map[*Image]bool
	shipped map[*Image]bool // images whose layers somebody gets
	found   Errors
}

// add notes a finding of a rule.
func (l *linter) add(pos Position, rule, message, fix string) {
	l.found = append(l.found, ErrorAt(l.dir, pos, rule+": "+message, fix))
}

// ship marks an image and what it starts from: the stages that are only copied
// from leave nothing in it.
func (l *linter) ship(img *Image) {
	if img == nil || l.shipped[img] {
		return
	}
	l.shipped[img] = true
	img.From.Each(func(f *From) { l.ship(f.Image) })
}

func (l *linter) image(img *Image) {
	if img == nil || l.seen[img] {
		return
	}
	l.seen[img] = true
	l.from(img.From)
	l.secrets("args", img.Args)
	l.secrets("env", img.Config.Env)
	for _, st := range img.Stages {
		l.image(st)
	}
	l.workdirs(img)
	for _, step := range img.Steps {
		l.step(img, step)
	}
}

func (l *linter) step(img *Image, step *Step) {
	l.from(step.From)
	for _, m := range step.Mounts {
		l.from(m.From)
	}
	l.secrets("arg", step.Arg)
	if step.Set != nil {
		l.secrets("env", step.Set.Env)
	}
	if step.Verb == VerbRun && l.shipped[img] {
		l.caches(img, step)
	}
	if len(step.Paths)+len(step.Files) > 1 && step.To != "" && !isDirForm(step.To) && !variable(step.To) {
		l.add(step.FieldPos["to"], "DestinationNoSlash", fmt.Sprintf("several sources go to %s, which may be no directory", step.To), fmt.Sprintf("write %q", step.To+"/"))
	}
}

// isDirForm reports whether a destination says that it is a directory.
func isDirForm(to string) bool {
	return strings.HasSuffix(to, "/") || to == "." || to == ".." || strings.HasSuffix(to, "/.") || strings.HasSuffix(to, "/..")
}

// from looks at the images that something may start from.
func (l *linter) from(from *From) { from.Each(l.base) }

// base looks at one of them.
func (l *linter) base(from *From) {
	l.image(from.Image)
	if from.Ref == "" || from.Ref == "scratch" || strings.Contains(from.Ref, "$") {
		return
	}
	named, err := reference.ParseNormalizedNamed(from.Ref)
	if err != nil {
		return // the compiler says so
	}
	if _, pinned := named.(reference.Digested); pinned {
		return
	}
	tagged, ok := named.(reference.Tagged)
	if ok && tagged.Tag() != "latest" {
		return
	}
	l.add(from.Pos, "UnpinnedBase", fmt.Sprintf("%s may be another image tomorrow", from.Ref), "name a version, such as "+reference.FamiliarName(named)+":1.2, or a digest")
}

// Names that tell of a secret, as BuildKit's linter has them.
var (
	secretName = regexp.MustCompile(`(?i)(?:_|^)(?:apikey|auth|credential|credentials|key|password|pword|passwd|secret|token)(?:_|$)`)
	publicName = regexp.MustCompile(`(?i)(?:_|^)(?:public|file|version)(?:_|$)`)
)

// secrets looks for secrets in the values that stay in an image.
func (l *linter) secrets(where string, vars []Var) {
	for _, v := range vars {
		if secretName.MatchString(v.Name) && !publicName.MatchString(v.Name) {
			l.add(v.Pos, "SecretsUsedInArgOrEnv", fmt.Sprintf("%s in %s stays in the image, for everybody to read", v.Name, where),
				fmt.Sprintf("give it to the step that needs it: secrets: %s: %q, and --secret id=%s", v.Name, v.Name, v.Name))
		}
	}
}

// workdirs follows the working directory through an image.
func (l *linter) workdirs(img *Image) {
	known := workdirKnown(img.From)
	look := func(c *Config) {
		if c == nil || c.Workdir == nil {
			return
		}
		if !known && !path.IsAbs(*c.Workdir) && !strings.HasPrefix(*c.Workdir, "$") {
			l.add(c.Pos["workdir"], "WorkdirRelativePath", fmt.Sprintf("%s depends on the working directory of the base", *c.Workdir),
				"write a path that begins with /")
		}
		known = true
	}
	look(&img.Config)
	for _, step := range img.Steps {
		look(step.Set)
	}
}

// workdirKnown reports whether the working directory of what an image starts from
// is known here.
func workdirKnown(from *From) bool {
	for from != nil && from.Image != nil {
		img := from.Image
		if img.Config.Workdir != nil {
			return true
		}
		if slices.ContainsFunc(img.Steps, func(s *Step) bool { return s.Set != nil && s.Set.Workdir != nil }) {
			return true
		}
		from = img.From
	}
	return from == nil || from.Source != nil // nothing, or files only: /
}
