package dockerfilecompat

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"github.com/strata-build/strata/schema"
)

// copy lifts COPY.
func (l *lifter) copy(c *instructions.CopyCommand, st *source) (*schema.Step, error) {
	step := &schema.Step{Verb: schema.VerbCopy, Parents: c.Parents, Link: c.Link, Exclude: c.ExcludePatterns}
	x := l.expansion()
	x.given = l.filled(c.SourcesAndDest, c.Chown, c.Chmod)
	x.look(c.Chown, c.Chmod)
	if err := x.sources(step, c.SourcesAndDest); err != nil {
		return nil, err
	}
	step.Chown, step.Chmod = x.word(c.Chown), x.word(c.Chmod)
	step.Expand = x.expand
	if c.From != "" {
		from, err := l.source(c.From, st)
		if err != nil {
			return nil, err
		}
		step.From = from
	}
	return step, x.err
}

// add lifts ADD.
func (l *lifter) add(c *instructions.AddCommand) (*schema.Step, error) {
	step := &schema.Step{Verb: schema.VerbAdd, Link: c.Link, Exclude: c.ExcludePatterns, Unpack: c.Unpack}
	step.KeepGitDir = c.KeepGitDir != nil && *c.KeepGitDir
	x := l.expansion()
	x.given = l.filled(c.SourcesAndDest, c.Chown, c.Chmod, c.Checksum)
	x.look(c.Chown, c.Chmod, c.Checksum)
	if err := x.sources(step, c.SourcesAndDest); err != nil {
		return nil, err
	}
	step.Chown, step.Chmod, step.Checksum = x.word(c.Chown), x.word(c.Chmod), x.word(c.Checksum)
	step.Expand = x.expand
	return step, x.err
}

// sources sets what is copied, and where to.
func (x *expansion) sources(step *schema.Step, sd instructions.SourcesAndDest) error {
	x.look(sd.DestPath)
	x.look(sd.SourcePaths...)
	for _, c := range sd.SourceContents {
		x.expand = x.expand || c.Expand && strings.Contains(strings.NewReplacer(`\\`, ``, `\$`, ``).Replace(c.Data), "$")
	}
	step.To = x.word(sd.DestPath)
	switch {
	case len(sd.SourceContents) == 0:
		step.Paths = x.list(sd.SourcePaths)
	case len(sd.SourcePaths) > 0 || step.Verb == schema.VerbAdd || step.Parents || len(step.Exclude) > 0:
		step.Paths = append([]string{}, x.list(sd.SourcePaths)...)
		var err error
		step.Files, err = x.contents(sd.SourceContents)
		return err
	default:
		return x.file(step, sd.SourceContents)
	}
	return nil
}

// file makes a step `file` of inline files. A single one that is called EOF is
// the content of the destination.
func (x *expansion) file(step *schema.Step, contents []instructions.SourceContent) (err error) {
	step.Verb = schema.VerbFile
	if len(contents) == 1 && contents[0].Path == "EOF" {
		step.Paths, step.To = []string{step.To}, ""
		step.Content = x.text(contents[0].Data, contents[0].Expand)
		return nil
	}
	step.Pairs, err = x.contents(contents)
	return err
}

// contents are inline files by their names.
func (x *expansion) contents(contents []instructions.SourceContent) ([]schema.Pair, error) {
	var pairs []schema.Pair
	for _, c := range contents {
		if slices.ContainsFunc(pairs, func(p schema.Pair) bool { return p.Key == c.Path }) {
			return nil, cannot("two inline files are called %s", c.Path)
		}
		pairs = append(pairs, schema.Pair{Key: c.Path, Value: x.text(c.Data, c.Expand)})
	}
	return pairs, nil
}

// source is what --from names: a stage, by name or by number, or an image.
func (l *lifter) source(name string, st *source) (*schema.From, error) {
	if n, err := strconv.Atoi(name); err == nil {
		if n < 0 || n >= st.index {
			return nil, fmt.Errorf("there is no stage %d before it", n)
		}
		return &schema.From{Image: l.images[n]}, nil
	}
	return l.named(name, st), nil
}

// named is a stage by name, in whatever case, or else an image.
func (l *lifter) named(name string, st *source) *schema.From {
	if other, ok := l.file.stageNamed(strings.ToLower(name), st.index); ok {
		return &schema.From{Image: l.images[other.index]}
	}
	return &schema.From{Ref: l.reference(name)}
}

// merge adds a copy to the one before it where both differ in their paths
// only: {a: b, c: d}.
func (l *lifter) merge(items []item, it item) bool {
	if len(items) == 0 || it.step == nil || it.comment != "" {
		return false
	}
	last := items[len(items)-1].step
	if last == nil || last.Verb != it.step.Verb || last.Verb != schema.VerbCopy ||
		len(it.step.Paths) != 1 || len(last.Paths) > 1 || it.step.From == nil || !samePlace(last.From, it.step.From) {
		return false
	}
	if last.Chown != it.step.Chown || last.Chmod != it.step.Chmod || last.Link != it.step.Link || last.Parents != it.step.Parents ||
		last.Expand || it.step.Expand || len(last.Exclude)+len(it.step.Exclude) > 0 {
		return false
	}
	pairs := last.Pairs
	if len(last.Paths) == 1 {
		pairs = []schema.Pair{{Key: last.Paths[0], Value: last.To}}
	}
	if slices.ContainsFunc(pairs, func(p schema.Pair) bool { return p.Key == it.step.Paths[0] }) {
		return false
	}
	last.Pairs = append(pairs, schema.Pair{Key: it.step.Paths[0], Value: it.step.To})
	last.Paths, last.To = nil, ""
	return true
}

func samePlace(a, b *schema.From) bool {
	return a != nil && b != nil && a.Image == b.Image && a.Ref == b.Ref
}

// run lifts RUN.
func (l *lifter) run(in instruction, c *instructions.RunCommand, st *source) (step *schema.Step, above string, err error) {
	step = &schema.Step{Verb: schema.VerbRun, Run: schema.Command{Shell: c.PrependShell, Args: slices.Clone(c.CmdLine)}}
	for _, d := range instructions.GetDevices(c) {
		step.Devices = append(step.Devices, schema.Device{Name: d.Name, Required: d.Required})
	}
	if n := instructions.GetNetwork(c); n != instructions.NetworkDefault {
		step.Network = n
	}
	step.Insecure = instructions.GetSecurity(c) == instructions.SecurityInsecure
	if len(c.CmdLine) == 0 {
		return nil, "", cannot("it has no command")
	}
	above = in.notes()
	switch {
	case len(c.Files) > 0:
		script(step, c.Files)
	case c.PrependShell:
		step.Run.Args[0], above = l.breakLines(in, c.CmdLine[0])
	}
	return step, above, l.mounts(step, c, st)
}

// script makes text of heredocs: a command that is nothing but a heredoc is
// the script in it, and any other is what the shell reads.
func script(step *schema.Step, files []instructions.ShellInlineFile) {
	text := step.Run.Args[0]
	if parser.MustParseHeredoc(text) == nil {
		var b strings.Builder
		b.WriteString(text)
		for _, f := range files {
			b.WriteString("\n" + f.Data + f.Name)
		}
		step.Run.Args[0] = b.String()
		return
	}
	data := files[0].Data
	if files[0].Chomp {
		data = parser.ChompHeredocContent(data)
	}
	if strings.TrimSpace(data) == "" || strings.HasPrefix(data, "#!") && files[0].Name != "EOF" {
		step.Run.Args[0], step.Stdin = "<<"+files[0].Name, &data
		return
	}
	step.Run.Args[0] = data
}

// mounts lifts the mounts of RUN. Their words are read unexpanded first, to
// see whether the step has to expand them.
func (l *lifter) mounts(step *schema.Step, c *instructions.RunCommand, st *source) error {
	if err := c.Expand(func(word string) (string, error) { return word, nil }); err != nil {
		return err
	}
	x := l.expansion()
	list := instructions.GetMounts(c)
	for _, m := range list {
		x.look(m.Target, m.Source, m.CacheID)
		if m.Env != nil {
			x.look(*m.Env)
		}
	}
	for _, m := range list {
		m.Target, m.Source, m.CacheID = x.word(m.Target), x.word(m.Source), x.word(m.CacheID)
		if m.Env != nil {
			env := x.word(*m.Env)
			m.Env = &env
		}
		if err := l.mount(step, m, st); err != nil {
			return err
		}
	}
	step.Expand = x.expand
	return x.err
}

// mount adds one mount, in the shortest form that says it.
func (l *lifter) mount(step *schema.Step, m *instructions.Mount, st *source) error {
	owned := m.UID != nil || m.GID != nil || m.Mode != nil
	if m.Target == "" && (m.Type == instructions.MountTypeBind || m.Type == instructions.MountTypeCache || m.Type == instructions.MountTypeTmpfs) {
		m.Target = "." // the working directory
	}
	switch m.Type {
	case instructions.MountTypeSecret:
		return secret(step, m, owned)
	case instructions.MountTypeSSH:
		return ssh(step, m, owned)
	case instructions.MountTypeCache:
		if !owned && m.From == "" && m.Source == "" && m.CacheID == "" && m.CacheSharing == "" && !m.ReadOnly {
			step.Cache = append(step.Cache, m.Target)
			return nil
		}
	case instructions.MountTypeTmpfs:
		if m.ReadOnly || m.From != "" || m.Source != "" {
			return cannot("a tmpfs with more than a target and a size has no native form")
		}
		if m.SizeLimit == 0 {
			step.Tmpfs = append(step.Tmpfs, m.Target)
			return nil
		}
	}
	out := plainMount(m)
	if m.From != "" {
		out.From = l.named(m.From, st)
	}
	return addMount(step, out)
}

// plainMount takes over the fields of a mount.
func plainMount(m *instructions.Mount) *schema.Mount {
	out := &schema.Mount{
		Target: m.Target, Type: string(m.Type), Source: m.Source, ID: m.CacheID,
		Sharing: string(m.CacheSharing), Size: m.SizeLimit, Required: m.Required,
		UID: number(m.UID), GID: number(m.GID),
		RW:       m.Type == instructions.MountTypeBind && !m.ReadOnly,
		ReadOnly: m.Type == instructions.MountTypeCache && m.ReadOnly,
	}
	if m.Mode != nil {
		out.Mode = fmt.Sprintf("%04o", *m.Mode)
	}
	return out
}

func number(n *uint64) *int {
	if n == nil {
		return nil
	}
	i := int(*n)
	return &i
}

func addMount(step *schema.Step, m *schema.Mount) error {
	if slices.ContainsFunc(step.Mounts, func(o *schema.Mount) bool { return o.Target == m.Target }) {
		return cannot("two mounts have the target %s", m.Target)
	}
	step.Mounts = append(step.Mounts, m)
	return nil
}

// secret adds a secret: a file or a variable.
func secret(step *schema.Step, m *instructions.Mount, owned bool) error {
	id := m.CacheID
	if m.Source != "" {
		id = m.Source
	}
	if id == "" {
		id = path.Base(m.Target)
	}
	target := m.Target
	switch {
	case m.Env != nil && target != "":
		out := plainMount(m)
		out.Target, out.Source, out.ID, out.Env = target, "", id, *m.Env
		return addMount(step, out)
	case m.Env != nil && owned:
		return cannot("the variable of a secret has no owner")
	case m.Env != nil:
		target = *m.Env
	case target == "":
		target = "/run/secrets/" + path.Base(id)
	}
	if owned || m.Env == nil && !path.IsAbs(target) {
		out := plainMount(m)
		out.Target, out.Source, out.ID = target, "", id
		return addMount(step, out)
	}
	if slices.ContainsFunc(step.Secrets, func(s schema.Secret) bool { return s.Target == target }) {
		return cannot("two secrets have the target %s", target)
	}
	step.Secrets = append(step.Secrets, schema.Secret{Target: target, ID: id, Required: m.Required})
	return nil
}

// ssh adds the socket of an agent.
func ssh(step *schema.Step, m *instructions.Mount, owned bool) error {
	if m.Target != "" || owned || m.Required || m.CacheID == "default" {
		out := plainMount(m)
		if out.Target == "" {
			out.Target = "/run/buildkit/ssh_agent.0"
		}
		return addMount(step, out)
	}
	id := m.CacheID
	if id == "" {
		id = "default"
	}
	step.SSH = append(step.SSH, id)
	return nil
}
