package schema

import (
	"fmt"
	"slices"
	"strings"

	"cuelang.org/go/cue"
)

// verbEntry is a verb with the other fields that it uses.
type verbEntry struct {
	verb Verb
	uses string
}

// verbs are the fields of #Step of which a step has exactly one.
var verbs = [...]verbEntry{
	{VerbRun, "env workdir user mounts cache tmpfs secrets ssh devices network insecure stdin expand name"},
	{VerbCopy, "from to files include exclude parents link unpack chown chmod expand name"},
	{VerbAdd, "from to files include exclude parents link chown chmod checksum unpack keepGitDir expand name"},
	{VerbFile, "content to link chown chmod expand name"},
	{VerbMkdir, "chown chmod expand name"},
	{VerbRm, "expand name"},
	{VerbSymlink, "to chown expand name"},
	{VerbSet, "expand name"},
	{VerbArg, "expand name"},
}

// uses are the fields besides the verb that a verb uses.
func uses(verb Verb) []string {
	for _, v := range verbs {
		if v.verb == verb {
			return strings.Fields(v.uses)
		}
	}
	return nil
}

// step decodes a step: a string is a shell command.
func (d *decoder) step(v cue.Value, s *scope) *Step {
	step := &Step{Pos: d.pos(v)}
	settled, k := d.settle(v)
	switch k {
	case cue.BottomKind:
		return nil
	case cue.StringKind:
		step.Verb, step.Run = VerbRun, Command{Shell: true, Args: []string{d.str(settled)}}
		d.checkRun(v, step)
		return step
	case cue.StructKind:
	default:
		d.mistyped(settled, k, "a step (a string for the shell, or a struct)")
		return nil
	}
	fields := d.fieldList(settled, "a step")
	verb, ok := d.verb(settled, fields)
	if !ok {
		return nil
	}
	step.Verb, step.FieldPos = verb, make(map[string]Position, len(fields))
	allowed := uses(verb)
	for _, f := range fields {
		if f.name != string(verb) && !slices.Contains(allowed, f.name) {
			d.unusedField(f.value, f.name, verb, allowed)
			continue
		}
		step.FieldPos[f.name] = d.pos(f.value)
		if !d.verbField(f.name, f.value, step, s) && !d.fileField(f.name, f.value, step, s) {
			d.runField(f.name, f.value, step, s)
		}
	}
	d.checkStep(v, step)
	return step
}

// verb finds the one verb of a step.
func (d *decoder) verb(v cue.Value, fields []namedField) (Verb, bool) {
	var found []string
	var last cue.Value
	for _, f := range fields {
		if slices.ContainsFunc(verbs[:], func(x verbEntry) bool { return string(x.verb) == f.name }) {
			found = append(found, f.name)
			last = f.value
		}
	}
	switch len(found) {
	case 1:
		return Verb(found[0]), true
	case 0:
		d.noVerb(v, fields)
	default:
		d.failLabel(last, "a step has one verb, not "+enumerate(found), "make them steps of their own")
	}
	return "", false
}

// noVerb records that a step does nothing, and which verb was meant.
func (d *decoder) noVerb(v cue.Value, fields []namedField) {
	var names []string
	for _, x := range verbs {
		names = append(names, string(x.verb))
	}
	words := d.words("#Step")
	for _, field := range fields {
		if slices.Contains(words, field.name) {
			continue
		}
		hint := didYouMean(field.name, names)
		if hint == "" {
			hint = didYouMean(field.name, words)
		}
		e := d.failLabel(field.value, fmt.Sprintf("unknown field %q", field.name), hint)
		e.Allowed = strings.Join(words, ", ")
		return
	}
	e := d.fail(v, "the step has no verb", "")
	e.Allowed = strings.Join(names, ", ")
}

// unusedField records a field that no step has, or not one of this verb.
func (d *decoder) unusedField(f cue.Value, name string, verb Verb, allowed []string) {
	if !slices.Contains(d.words("#Step"), name) {
		e := d.failLabel(f, fmt.Sprintf("unknown field %q", name), didYouMean(name, allowed))
		e.Allowed = strings.Join(append([]string{string(verb)}, allowed...), ", ")
		return
	}
	e := d.failLabel(f, fmt.Sprintf("%q has no meaning for %q", name, verb), d.ownerHint(name))
	e.Allowed = strings.Join(append([]string{string(verb)}, allowed...), ", ")
}

// ownerHint names the verbs that use a field.
func (d *decoder) ownerHint(name string) string {
	var owners []string
	for _, x := range verbs {
		if slices.Contains(strings.Fields(x.uses), name) {
			owners = append(owners, string(x.verb))
		}
	}
	return "it belongs to " + enumerate(owners)
}

// verbField decodes the field of the verb itself.
func (d *decoder) verbField(name string, f cue.Value, step *Step, s *scope) bool {
	switch Verb(name) {
	case VerbRun:
		if c := d.command(f); c != nil {
			step.Run = *c
		}
		d.checkRun(f, step)
	case VerbCopy, VerbAdd, VerbFile:
		d.pathsOrPairs(f, step)
	case VerbMkdir, VerbRm:
		step.Paths = d.paths(f)
	case VerbSymlink:
		step.Paths = []string{d.filled(f)}
	case VerbSet:
		step.Set = d.config(f)
	case VerbArg:
		step.Arg = d.vars(f, true, d.checkArgName)
	default:
		return false
	}
	return true
}

// pathsOrPairs decodes a path, paths, or pairs of a path and a value.
func (d *decoder) pathsOrPairs(f cue.Value, step *Step) {
	settled, k := d.settle(f)
	if k == cue.StructKind {
		step.Pairs = []Pair{}
		d.fields(settled, "pairs of strings", func(key string, item cue.Value) {
			if key == "" {
				d.failLabel(item, "the path is empty", "")
			}
			step.Pairs = append(step.Pairs, Pair{Key: key, Value: d.str(item), Pos: d.pos(item)})
		})
		return
	}
	if step.Verb == VerbFile && k == cue.ListKind {
		d.fail(f, "expected a path or {path: content}, got a list", "")
		return
	}
	if k == cue.ListKind {
		step.Paths = d.sources(f) // none beside files
		return
	}
	if k != cue.BottomKind {
		step.Paths = d.paths(f)
	}
}

// paths are one or more paths.
func (d *decoder) paths(f cue.Value) []string {
	list := d.sources(f)
	if list != nil && len(list) == 0 {
		d.fail(f, "there are no paths", "")
	}
	return list
}

// sources are any number of paths.
func (d *decoder) sources(f cue.Value) []string {
	list := d.oneOrMany(f)
	if slices.Contains(list, "") {
		d.fail(f, "a path is empty", `"." is the whole context`)
	}
	return list
}

// inlineFiles decodes inline files by their names.
func (d *decoder) inlineFiles(v cue.Value) []Pair {
	list := []Pair{}
	d.fields(v, "contents by file name", func(name string, f cue.Value) {
		if name == "" || strings.Contains(name, "/") {
			d.failLabel(f, fmt.Sprintf("%q is no plain file name", name), `the directory is "to"`)
		}
		list = append(list, Pair{Key: name, Value: d.str(f), Pos: d.pos(f)})
	})
	return list
}

// fileField decodes a field of copy, add, file, mkdir, rm or symlink.
func (d *decoder) fileField(name string, f cue.Value, step *Step, s *scope) bool {
	switch name {
	case "from":
		step.From = d.from(f, s)
	case "to":
		step.To = d.filled(f)
	case "include":
		step.Include = d.strs(f)
	case "exclude":
		step.Exclude = d.strs(f)
	case "parents":
		step.Parents = d.boolean(f)
	case "link":
		step.Link = d.boolean(f)
	case "checksum":
		step.Checksum = d.checksum(f, true)
	case "unpack":
		unpack := d.boolean(f)
		step.Unpack = &unpack
	case "keepGitDir":
		step.KeepGitDir = d.boolean(f)
	case "content":
		step.Content = d.str(f)
	case "files":
		step.Files = d.inlineFiles(f)
	case "chown":
		step.Chown = d.filled(f)
	case "chmod":
		step.Chmod = d.mode(f, true)
	case "expand":
		step.Expand = d.boolean(f)
	case "name":
		step.Name = d.str(f)
	default:
		return false
	}
	return true
}

// runField decodes a field of run.
func (d *decoder) runField(name string, f cue.Value, step *Step, s *scope) {
	switch name {
	case "env":
		step.Env = d.vars(f, false, d.checkEnvName)
	case "workdir":
		step.Workdir = d.optional(f)
	case "user":
		step.User = d.optional(f)
	case "mounts":
		step.Mounts = d.mounts(f, s)
	case "cache":
		step.Cache = d.targets(f)
	case "tmpfs":
		step.Tmpfs = d.targets(f)
	case "secrets":
		step.Secrets = d.secrets(f)
	case "ssh":
		step.SSH = d.ssh(f)
	case "devices":
		step.Devices = d.devices(f)
	case "network":
		step.Network = d.enum(f, "default", "none", "host")
	case "insecure":
		step.Insecure = d.boolean(f)
	case "stdin":
		step.Stdin = d.optional(f)
	}
}

// checkRun refuses a run of nothing.
func (d *decoder) checkRun(v cue.Value, step *Step) {
	given := v.Kind() == cue.StringKind || v.Kind() == cue.ListKind
	if given && (len(step.Run.Args) == 0 || strings.TrimSpace(step.Run.Args[0]) == "") {
		d.fail(v, "the command is empty", "")
	}
}

// checkStep checks what the fields of a step mean together.
func (d *decoder) checkStep(v cue.Value, step *Step) {
	_, hasTo := step.FieldPos["to"]
	_, hasContent := step.FieldPos["content"]
	switch step.Verb {
	case VerbCopy, VerbAdd:
		if step.Pairs != nil && len(step.Files) > 0 {
			d.failLabel(v.LookupPath(cue.ParsePath("files")), fmt.Sprintf(`"files" cannot stand beside pairs of source and destination in %q`, step.Verb), "")
		}
		if step.Pairs == nil && len(step.Paths)+len(step.Files) == 0 && v.LookupPath(cue.ParsePath(string(step.Verb))).Kind() == cue.ListKind {
			d.fail(v.LookupPath(cue.ParsePath(string(step.Verb))), "there are no paths", "")
		}
		if step.Pairs == nil && !hasTo {
			d.fail(v, fmt.Sprintf("%q needs \"to\"", step.Verb), `the destination, for example to: "./"`)
		}
		if step.Pairs != nil && hasTo {
			d.failLabel(v.LookupPath(cue.ParsePath("to")), fmt.Sprintf(`"to" cannot stand beside pairs of source and destination in %q`, step.Verb), "")
		}
		if step.Pairs != nil && len(step.Pairs) == 0 {
			d.fail(v, fmt.Sprintf("%q has no sources", step.Verb), "")
		}
	case VerbFile:
		if step.Pairs != nil && hasContent {
			d.failLabel(v.LookupPath(cue.ParsePath("content")), `"content" cannot stand beside pairs of path and content in "file"`, "")
		}
	case VerbSymlink:
		if !hasTo {
			d.fail(v, `"symlink" needs "to"`, "the path of the link")
		}
	}
}
