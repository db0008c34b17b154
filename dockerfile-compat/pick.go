package dockerfilecompat

import (
	"regexp"
	"slices"
	"strings"
)

// pick is a FROM in which an argument picks a stage by a part of its name:
// FROM base-${VARIANT}. In CUE that is stages["base-\(VARIANT)"]. Where the
// argument names no stage, the Dockerfile takes an image of that name from a
// registry, and the CUE is an error that lists the stages.
type pick struct {
	param          string
	prefix, suffix string
	stages         []int // that can be picked
}

// pickOf reads the FROM of a stage. False is one that no single parameter
// decides, or that would pick another stage in CUE, where the order of the
// stages does not count.
func (l *lifter) pickOf(st *source) (pick, bool) {
	at := plainVariable.FindAllStringSubmatchIndex(st.BaseName, -1)
	if len(at) != 1 || strings.Count(st.BaseName, "$") != 1 || strings.ContainsAny(st.BaseName, "'\"\\`") {
		return pick{}, false
	}
	p := pick{prefix: st.BaseName[:at[0][0]], suffix: st.BaseName[at[0][1]:]}
	p.param = strings.Trim(st.BaseName[at[0][0]:at[0][1]], "${}")
	if p.prefix+p.suffix == "" {
		return pick{}, false // the argument may as well be an image
	}
	if !l.params.has(p.param) || l.params.builtin[p.param] || l.params.varying[p.param] {
		return pick{}, false
	}
	names := map[string]bool{}
	for _, other := range l.file.stages {
		if names[other.Name] && other.Name != "" {
			return pick{}, false
		}
		names[other.Name] = true
		if _, ok := p.value(other); !ok {
			continue
		}
		if other.index >= st.index {
			return pick{}, false
		}
		p.stages = append(p.stages, other.index)
	}
	return p, len(p.stages) > 0
}

// value is the argument that picks a stage.
func (p pick) value(st *source) (string, bool) {
	rest, ok := strings.CutPrefix(st.Name, p.prefix)
	if !ok || st.Name == "" {
		return "", false
	}
	value, ok := strings.CutSuffix(rest, p.suffix)
	return value, ok && value != ""
}

// picked are, for each argument that picks stages, the values with which it
// does so everywhere.
func (l *lifter) picked() map[string][]string {
	out := map[string][]string{}
	for _, st := range l.file.stages {
		p, ok := l.pickOf(st)
		if !ok {
			continue
		}
		var values []string
		for _, i := range p.stages {
			v, _ := p.value(l.file.stages[i])
			values = append(values, v)
		}
		if before, seen := out[p.param]; seen {
			values = slices.DeleteFunc(values, func(v string) bool { return !slices.Contains(before, v) })
		}
		out[p.param] = values
	}
	return out
}

// stageMark begins a reference that stands for a stage until the document is
// printed: the printer knows references to images only, not expressions.
const stageMark = "@strata stage@"

// marked is how the printer shows such a reference.
var marked = regexp.MustCompile(`"` + stageMark + `([^"]*)"`)

// restorePicks puts expressions in the place of the marked references.
func restorePicks(cue []byte) []byte {
	return marked.ReplaceAllFunc(cue, func(found []byte) []byte {
		return slices.Concat([]byte(`stages["`), marked.FindSubmatch(found)[1], []byte(`"]`))
	})
}
