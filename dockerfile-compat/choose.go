package dockerfilecompat

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/schema"
)

// choice is a FROM whose arguments name a stage, and maybe another one on each
// platform: FROM binary-$TARGETOS. In CUE that is a switch between the stages
// that it can name:
//
//	from: {switch: "${TARGETOS}", cases: {darwin: stages["binary-darwin"], …}}
//
// Only the part of the name that varies is what is switched by. Where the
// arguments may as well name an image of a registry, that is the default.
type choice struct {
	prefix, word, suffix string
	stages               []int // that can be chosen, by the varying part of their names
}

// variableForm is an argument in a word of FROM: $NAME, ${NAME}, or with a
// modifier.
var variableForm = regexp.MustCompile(`\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)(?:(:?[-+])([^{}$'"\\` + "`" + `]*))?\})`)

// choiceOf finds the stages that a FROM with arguments can name. None is a
// FROM that only names images.
func (l *lifter) choiceOf(st *source) (choice, bool) {
	at := variableForm.FindAllStringIndex(st.BaseName, -1)
	if len(at) == 0 || strings.Count(st.BaseName, "$") != len(at) || strings.ContainsAny(st.BaseName, "'\"\\`") {
		return choice{}, false
	}
	first, last := at[0][0], at[len(at)-1][1]
	c := choice{prefix: st.BaseName[:first], word: st.BaseName[first:last], suffix: st.BaseName[last:]}
	var form strings.Builder
	end := first
	for _, span := range at {
		form.WriteString(regexp.QuoteMeta(st.BaseName[end:span[0]]) + l.valuesOf(st.BaseName[span[0]:span[1]]))
		end = span[1]
	}
	match := regexp.MustCompile("^" + form.String() + "$")
	for _, other := range l.file.stages[:st.index] {
		rest, ok := c.part(other)
		latest, _ := l.file.stageNamed(other.Name, st.index)
		if ok && latest == other && match.MatchString(rest) {
			c.stages = append(c.stages, other.index)
		}
	}
	return c, len(c.stages) > 0
}

// What platform arguments can be.
const (
	systems  = "(?:linux|darwin|windows|freebsd|netbsd|openbsd|dragonfly|solaris|illumos|aix|android|ios|js|plan9|wasip1|wasi)"
	machines = "(?:amd64|arm64|arm|386|s390x|ppc64|ppc64le|riscv64|mips|mipsle|mips64|mips64le|loong64|wasm)"
	variants = "(?:v[0-9.]+)?"
)

// valuesOf is a pattern of the values that an argument can have.
func (l *lifter) valuesOf(variable string) string {
	m := variableForm.FindStringSubmatch(variable)
	name := m[1] + m[2]
	switch {
	case !l.params.builtin[name] || m[3] != "":
		return ".*"
	case strings.HasSuffix(name, "OS"):
		return systems
	case strings.HasSuffix(name, "ARCH"):
		return machines
	case strings.HasSuffix(name, "VARIANT"):
		return variants
	}
	return ".*"
}

// part is the varying part of the name of a stage.
func (c choice) part(st *source) (string, bool) {
	rest, ok := strings.CutPrefix(st.Name, c.prefix)
	if !ok || st.Name == "" {
		return "", false
	}
	rest, ok = strings.CutSuffix(rest, c.suffix)
	return rest, ok && rest != ""
}

// choose sets that arguments choose the stage to start from. False is a FROM
// that names an image, with a value that no platform changes: it stays one.
func (l *lifter) choose(img *schema.Image, st *source) (bool, error) {
	c, ok := l.choiceOf(st)
	if !ok || !l.params.dependsOnPlatform(c.word) && !l.choosesStage(c, l.build) {
		return false, nil
	}
	word, err := l.params.expand(c.word)
	if err != nil {
		return false, err
	}
	sw := &schema.Switch{Word: word}
	for _, i := range c.stages {
		part, _ := c.part(l.file.stages[i])
		sw.Cases = append(sw.Cases, schema.Case{Value: part, From: &schema.From{Image: l.images[i]}})
	}
	if c.prefix+c.suffix == "" && !l.params.dependsOnPlatform(c.word) || !l.alwaysStage(c) {
		ref, err := l.params.expand(st.BaseName)
		if err != nil {
			return false, err
		}
		sw.Default = &schema.From{Ref: ref}
	}
	img.From = &schema.From{Switch: sw}
	return true, nil
}

// alwaysStage reports whether a stage is chosen for each platform that was
// asked for.
func (l *lifter) alwaysStage(c choice) bool {
	for _, p := range l.targets {
		if !l.choosesStage(c, p) {
			return false
		}
	}
	return true
}

// choosesStage reports whether a stage is chosen for a platform.
func (l *lifter) choosesStage(c choice, target ocispecs.Platform) bool {
	value, err := l.params.evaluateFor(c.word, l.build, target)
	return err == nil && slices.ContainsFunc(c.stages, func(i int) bool {
		part, _ := c.part(l.file.stages[i])
		return part == value
	})
}

// dependsOnPlatform reports whether a word differs from platform to platform.
func (p *params) dependsOnPlatform(word string) bool {
	for _, m := range variableForm.FindAllStringSubmatch(word, -1) {
		if name := m[1] + m[2]; p.builtin[name] || p.varying[name] {
			return true
		}
	}
	return false
}

// evaluateFor is a word of FROM for a platform.
func (p *params) evaluateFor(word string, build, target ocispecs.Platform) (string, error) {
	env := p.globals
	values := platformArgs(build)
	for name, value := range platformArgs(target) {
		if strings.HasPrefix(name, "TARGET") {
			values[name] = value
		}
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if p.builtin[name] {
			env = env.AddOrReplace(name, values[name])
		}
	}
	return expandIn(word, env, p.lexer.escape)
}

func expandIn(word string, env *llb.EnvList, escape rune) (string, error) {
	out, _, err := shell.NewLex(escape).ProcessWord(word, env)
	return out, err
}

// otherPlatforms are the platforms to look for another one among.
func otherPlatforms() []ocispecs.Platform {
	var list []ocispecs.Platform
	for _, os := range []string{"linux", "darwin", "freebsd", "windows"} {
		for _, arch := range []string{"s390x", "arm64", "riscv64", "ppc64le", "386", "amd64"} {
			list = append(list, ocispecs.Platform{OS: os, Architecture: arch})
		}
		list = append(list, ocispecs.Platform{OS: os, Architecture: "arm", Variant: "v7"}, ocispecs.Platform{OS: os, Architecture: "arm", Variant: "v6"})
	}
	return list
}

// otherPlatform is one for which every FROM that the platform decides names a
// stage, if there is one: for others the CUE is a mistake that lists the
// cases.
func (l *lifter) otherPlatform() ocispecs.Platform {
	list := otherPlatforms()
	for _, p := range list {
		if !slices.ContainsFunc(l.targets, func(t ocispecs.Platform) bool { return t.OS == p.OS && t.Architecture == p.Architecture }) && l.canBuildFor(p) {
			return p
		}
	}
	if !l.canBuildFor(list[0]) {
		return l.build
	}
	return list[0]
}

func (l *lifter) canBuildFor(p ocispecs.Platform) bool {
	return !slices.ContainsFunc(l.file.stages, func(st *source) bool {
		c, ok := l.choiceOf(st)
		return ok && l.params.dependsOnPlatform(c.word) && l.alwaysStage(c) && !l.choosesStage(c, p)
	})
}
