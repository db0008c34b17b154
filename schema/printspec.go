package schema

import (
	"regexp"
	"strconv"
)

// fieldList collects the members of a struct.
type fieldList struct {
	*printer
	members []member
	comment func(name string) string
	owner   Node // of comments of entries
}

// put adds a field.
func (l *fieldList) put(name string, n printNode) {
	m := member{label: name, value: n}
	if l.comment != nil {
		m.comment = l.comment(name)
	}
	l.members = append(l.members, m)
}

// str adds a string that is not empty.
func (l *fieldList) str(name, s string) {
	if s != "" {
		l.put(name, l.printer.str(s))
	}
}

// given adds a string that was given.
func (l *fieldList) given(name string, s *string) {
	if s != nil {
		l.put(name, l.printer.str(*s))
	}
}

// flag adds a true bool.
func (l *fieldList) flag(name string, set bool) {
	if set {
		l.put(name, word("true"))
	}
}

// strs adds a list that was given.
func (l *fieldList) strs(name string, s []string) {
	if s != nil {
		l.put(name, l.printer.strs(s))
	}
}

// vars adds a struct of strings that was given.
func (l *fieldList) vars(name string, vars []Var) {
	if vars == nil {
		return
	}
	var o objectNode
	for _, v := range vars {
		value := printNode(l.printer.str(v.Value))
		if v.Unset {
			value = word("null")
		}
		m := member{label: l.label(v.Name), value: value}
		if l.owner != nil {
			m.comment = l.doc.Comments[Entry{l.owner, name, v.Name}]
		}
		o.members = append(o.members, m)
	}
	l.put(name, o)
}

// number adds a number that was given.
func (l *fieldList) number(name string, n *int) {
	if n != nil {
		l.put(name, word(strconv.Itoa(*n)))
	}
}

// command adds a command that was given.
func (l *fieldList) command(name string, c *Command) {
	if c != nil {
		l.put(name, l.printer.command(*c))
	}
}

func (p *printer) strs(s []string) listNode {
	var l listNode
	for _, item := range s {
		l.elems = append(l.elems, element{value: p.str(item)})
	}
	return l
}

func (p *printer) command(c Command) printNode {
	if c.Shell && len(c.Args) == 1 {
		return p.str(c.Args[0])
	}
	return p.strs(c.Args)
}

// image prints the body of an image or stage.
func (p *printer) image(img *Image) objectNode {
	l := &fieldList{printer: p, owner: img, comment: func(name string) string { return p.doc.Comments[Field{img, name}] }}
	p.stages(l, img)
	if img.Dockerfile != nil {
		l.put("dockerfile", p.dockerfile(img.Dockerfile, p.base(img)))
	}
	if around := p.base(p.outer[img]); p.doc.Dir != "" && img.Context != "" && img.Context != around {
		l.put("context", p.path(img.Context, around))
	}
	l.str("platform", img.Platform)
	if img.From != nil {
		l.put("from", p.from(img.From, img))
	}
	l.vars("args", img.Args)
	p.configHead(l, &img.Config)
	p.steps(l, img)
	p.configTail(l, &img.Config)
	l.strs("platforms", img.Platforms)
	l.strs("tags", img.Tags)
	return objectNode{members: l.members, tall: len(l.members) != 1, end: p.doc.Comments[End{img}]}
}

func (p *printer) stages(l *fieldList, img *Image) {
	if len(img.Stages) == 0 {
		return
	}
	stages := objectNode{tall: len(img.Stages) > 1}
	for _, stage := range img.Stages {
		stages.members = append(stages.members, member{
			label:   p.label(p.name[stage]),
			comment: p.doc.Comments[stage],
			value:   p.image(stage),
		})
	}
	l.put("stages", stages)
}

func (p *printer) steps(l *fieldList, img *Image) {
	if img.Steps == nil {
		return
	}
	steps := listNode{tall: len(img.Steps) > 1}
	for _, step := range img.Steps {
		steps.elems = append(steps.elems, element{comment: p.doc.Comments[step], value: p.step(step, img)})
	}
	l.put("steps", steps)
}

// configHead adds the fields that also apply to steps.
func (p *printer) configHead(l *fieldList, c *Config) {
	l.vars("env", c.Env)
	l.given("workdir", c.Workdir)
	l.strs("shell", c.Shell)
}

// configTail adds the other fields of the configuration.
func (p *printer) configTail(l *fieldList, c *Config) {
	l.given("user", c.User)
	l.command("entrypoint", c.Entrypoint)
	l.command("cmd", c.Cmd)
	if c.Expose != nil {
		var ports listNode
		for _, port := range c.Expose {
			ports.elems = append(ports.elems, element{value: p.port(port)})
		}
		l.put("expose", ports)
	}
	l.strs("volumes", c.Volumes)
	l.vars("labels", c.Labels)
	l.vars("annotations", c.Annotations)
	l.given("stopSignal", c.StopSignal)
	if c.Healthcheck != nil {
		l.put("healthcheck", p.healthcheck(c.Healthcheck))
	}
	l.strs("onbuild", c.OnBuild)
	l.given("author", c.Author)
}

var plainPort = regexp.MustCompile(`^[1-9][0-9]{0,4}$`)

func (p *printer) port(s string) printNode {
	if plainPort.MatchString(s) {
		return word(s)
	}
	return p.str(s)
}

func (p *printer) healthcheck(h *Healthcheck) objectNode {
	l := &fieldList{printer: p}
	l.command("test", &h.Test)
	l.str("interval", h.Interval)
	l.str("timeout", h.Timeout)
	l.str("startPeriod", h.StartPeriod)
	l.str("startInterval", h.StartInterval)
	if h.Retries != 0 {
		l.put("retries", word(strconv.Itoa(h.Retries)))
	}
	return objectNode{members: l.members}
}

func (p *printer) dockerfile(d *Dockerfile, base string) printNode {
	if d.Text == "" && d.Target == "" {
		return p.path(d.Path, base)
	}
	l := &fieldList{printer: p}
	if d.Path != "" {
		l.put("path", p.path(d.Path, base))
	}
	l.str("text", d.Text)
	l.str("target", d.Target)
	return objectNode{members: l.members}
}

// from prints what img or a step of it starts from.
func (p *printer) from(f *From, img *Image) printNode {
	switch {
	case f.Image != nil:
		return word(p.reference(f.Image, img))
	case f.Switch != nil:
		return p.choice(f.Switch, img)
	case f.Source == nil:
		return p.str(f.Ref)
	}
	s := f.Source
	l := &fieldList{printer: p}
	if s.Local != "" {
		l.put("local", p.path(s.Local, p.base(img)))
	}
	l.str("git", s.Git)
	l.str("http", s.HTTP)
	if s.OCI != "" {
		l.put("oci", p.path(s.OCI, p.base(img)))
	}
	l.str("ref", s.Ref)
	l.str("checksum", s.Checksum)
	l.str("subdir", s.Subdir)
	l.strs("include", s.Include)
	l.strs("exclude", s.Exclude)
	return objectNode{members: l.members}
}

// choice prints a switch.
func (p *printer) choice(sw *Switch, img *Image) objectNode {
	l := &fieldList{printer: p}
	l.str("switch", sw.Word)
	var cases objectNode
	for _, c := range sw.Cases {
		cases.members = append(cases.members, member{label: p.label(c.Value), value: p.from(c.From, img)})
	}
	l.put("cases", cases)
	if sw.Default != nil {
		l.put("default", p.from(sw.Default, img))
	}
	return objectNode{members: l.members}
}

// step prints a step: a bare string for a plain shell command.
func (p *printer) step(s *Step, img *Image) printNode {
	l := &fieldList{printer: p}
	p.verb(l, s)
	if s.From != nil {
		l.put("from", p.from(s.From, img))
	}
	l.str("to", s.To)
	l.strs("include", s.Include)
	l.strs("exclude", s.Exclude)
	l.flag("parents", s.Parents)
	l.flag("link", s.Link)
	l.str("checksum", s.Checksum)
	if s.Unpack != nil {
		l.put("unpack", word(strconv.FormatBool(*s.Unpack)))
	}
	l.flag("keepGitDir", s.KeepGitDir)
	l.str("content", s.Content)
	if len(s.Files) > 0 {
		l.put("files", p.pairs(s.Files))
	}
	l.str("chown", s.Chown)
	l.str("chmod", s.Chmod)
	p.runFields(l, s, img)
	l.flag("expand", s.Expand)
	l.str("name", s.Name)
	if s.Verb == VerbRun && s.Run.Shell && len(l.members) == 1 {
		return l.members[0].value
	}
	return objectNode{members: l.members}
}

// verb adds the verb of a step.
func (p *printer) verb(l *fieldList, s *Step) {
	verb := string(s.Verb)
	switch s.Verb {
	case VerbRun:
		l.put(verb, p.command(s.Run))
	case VerbSet:
		set := &fieldList{printer: p, owner: s}
		if s.Set != nil {
			p.configHead(set, s.Set)
			p.configTail(set, s.Set)
		}
		l.put(verb, objectNode{members: set.members})
	case VerbArg:
		vars := s.Arg
		if vars == nil {
			vars = []Var{}
		}
		l.vars(verb, vars)
	default:
		l.put(verb, p.pathsOrPairs(s))
	}
}

func (p *printer) pathsOrPairs(s *Step) printNode {
	switch {
	case s.Pairs != nil:
		return p.pairs(s.Pairs)
	case len(s.Paths) == 1:
		return p.str(s.Paths[0])
	}
	return p.strs(s.Paths)
}

func (p *printer) pairs(pairs []Pair) objectNode {
	var o objectNode
	for _, pair := range pairs {
		o.members = append(o.members, member{label: p.label(pair.Key), value: p.str(pair.Value)})
	}
	return o
}

// runFields adds the fields that only run has.
func (p *printer) runFields(l *fieldList, s *Step, img *Image) {
	l.vars("env", s.Env)
	l.given("workdir", s.Workdir)
	l.given("user", s.User)
	if len(s.Mounts) > 0 {
		var o objectNode
		for _, m := range s.Mounts {
			o.members = append(o.members, member{label: p.label(m.Target), value: p.mount(m, img)})
		}
		l.put("mounts", o)
	}
	l.strs("cache", s.Cache)
	l.strs("tmpfs", s.Tmpfs)
	if len(s.Secrets) > 0 {
		var o objectNode
		for _, secret := range s.Secrets {
			o.members = append(o.members, member{label: p.label(secret.Target), value: p.secret(secret)})
		}
		l.put("secrets", o)
	}
	p.ssh(l, s.SSH)
	if len(s.Devices) > 0 {
		var devices listNode
		for _, device := range s.Devices {
			devices.elems = append(devices.elems, element{value: p.device(device)})
		}
		l.put("devices", devices)
	}
	l.str("network", s.Network)
	l.flag("insecure", s.Insecure)
	l.given("stdin", s.Stdin)
}

// ssh adds the agents that a step uses.
func (p *printer) ssh(l *fieldList, ids []string) {
	switch {
	case len(ids) == 1 && ids[0] == "default":
		l.put("ssh", word("true"))
	case len(ids) == 1:
		l.str("ssh", ids[0])
	case len(ids) > 1:
		l.strs("ssh", ids)
	}
}

func (p *printer) device(d Device) printNode {
	if !d.Required {
		return p.str(d.Name)
	}
	l := &fieldList{printer: p}
	l.str("name", d.Name)
	l.flag("required", true)
	return objectNode{members: l.members}
}

func (p *printer) secret(s Secret) printNode {
	if !s.Required {
		return p.str(s.ID)
	}
	l := &fieldList{printer: p}
	l.str("id", s.ID)
	l.flag("required", true)
	return objectNode{members: l.members}
}

func (p *printer) mount(m *Mount, img *Image) objectNode {
	l := &fieldList{printer: p}
	if m.Type != "bind" {
		l.str("type", m.Type)
	}
	if m.From != nil {
		l.put("from", p.from(m.From, img))
	}
	l.str("source", m.Source)
	l.flag("rw", m.RW)
	if m.ReadOnly && m.Type != "bind" && m.Type != "" {
		l.put("rw", word("false"))
	}
	l.str("id", m.ID)
	l.str("env", m.Env)
	l.str("sharing", m.Sharing)
	if m.Size != 0 {
		l.put("size", word(strconv.FormatInt(m.Size, 10)))
	}
	l.flag("required", m.Required)
	l.number("uid", m.UID)
	l.number("gid", m.GID)
	l.str("mode", m.Mode)
	return objectNode{members: l.members}
}
