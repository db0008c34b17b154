package schema

import (
	"fmt"
	"slices"
	"strings"

	"cuelang.org/go/cue"
)

// mountUses are the fields that each type of mount uses besides type.
func mountUses(kind string) []string {
	return strings.Fields(map[string]string{
		"bind":   "from source rw",
		"cache":  "from source rw id sharing uid gid mode",
		"tmpfs":  "size rw",
		"secret": "id env required uid gid mode",
		"ssh":    "id required uid gid mode",
	}[kind])
}

// mounts decodes the mounts of a run, by target.
func (d *decoder) mounts(v cue.Value, s *scope) []*Mount {
	list := []*Mount{}
	d.fields(v, "mounts by target", func(target string, f cue.Value) {
		if target == "" {
			d.failLabel(f, "the target is empty", "")
		}
		list = append(list, d.mount(target, f, s))
	})
	return list
}

func (d *decoder) mount(target string, v cue.Value, s *scope) *Mount {
	m := &Mount{Target: target, Type: "bind", Pos: d.pos(v)}
	fields := d.fieldList(v, "a mount (a struct)")
	for _, f := range fields {
		if f.name == "type" {
			m.Type = d.enum(f.value, "bind", "cache", "tmpfs", "secret", "ssh")
		}
	}
	allowed := mountUses(m.Type)
	for _, f := range fields {
		switch {
		case f.name == "type":
		case !slices.Contains(d.words("#Mount"), f.name):
			d.unknown(f.value, f.name, append([]string{"type"}, allowed...))
		case allowed != nil && !slices.Contains(allowed, f.name):
			e := d.failLabel(f.value, fmt.Sprintf("%q has no meaning for a mount of type %q", f.name, m.Type), "")
			e.Allowed = strings.Join(append([]string{"type"}, allowed...), ", ")
		default:
			d.mountField(f.name, f.value, m, s)
		}
	}
	return m
}

func (d *decoder) mountField(name string, f cue.Value, m *Mount, s *scope) {
	switch name {
	case "from":
		m.From = d.from(f, s)
	case "source":
		m.Source = d.filled(f)
	case "rw":
		m.RW = d.boolean(f)
		m.ReadOnly = !m.RW
	case "id":
		m.ID = d.filled(f)
	case "env":
		m.Env = d.filled(f)
	case "sharing":
		m.Sharing = d.enum(f, "shared", "private", "locked")
	case "size":
		m.Size = d.number(f)
	case "required":
		m.Required = d.boolean(f)
	case "uid":
		m.UID = d.userID(f)
	case "gid":
		m.GID = d.userID(f)
	case "mode":
		m.Mode = d.mode(f, false)
	}
}

func (d *decoder) userID(v cue.Value) *int {
	n, ok := d.integer(v)
	if !ok {
		return nil
	}
	if n < 0 || n > 1<<32-2 {
		d.fail(v, fmt.Sprintf("%d is no user or group ID", n), "")
		return nil
	}
	id := int(n)
	return &id
}

// targets are absolute paths, or relative to the working directory.
func (d *decoder) targets(v cue.Value) []string {
	list := []string{}
	d.items(v, "a list of paths", func(item cue.Value) { list = append(list, d.filled(item)) })
	return list
}

// secrets decodes secrets by target: a path, or an environment variable.
func (d *decoder) secrets(v cue.Value) []Secret {
	list := []Secret{}
	d.fields(v, "secrets by path or variable", func(target string, f cue.Value) {
		secret := Secret{Target: target, Pos: d.pos(f)}
		if !strings.HasPrefix(target, "/") && !argName.MatchString(target) {
			d.failLabel(f, fmt.Sprintf("%q is neither an absolute path nor a variable's name", target), "")
		}
		settled, k := d.settle(f)
		switch k {
		case cue.BottomKind:
			return
		case cue.StringKind:
			secret.ID = d.filled(f)
		case cue.StructKind:
			d.requiredSecret(settled, &secret)
		default:
			d.mistyped(settled, k, "a string (the secret's id) or {id, required}")
		}
		list = append(list, secret)
	})
	return list
}

func (d *decoder) requiredSecret(v cue.Value, secret *Secret) {
	d.fields(v, "{id, required}", func(name string, f cue.Value) {
		switch name {
		case "id":
			secret.ID = d.filled(f)
		case "required":
			secret.Required = d.boolean(f)
		default:
			d.unknown(f, name, d.words("#Secret"))
		}
	})
	if !v.LookupPath(cue.ParsePath("id")).Exists() {
		d.fail(v, `the secret needs "id"`, "")
	}
}

// ssh decodes true, or the ids of agents.
func (d *decoder) ssh(v cue.Value) []string {
	settled, k := d.settle(v)
	switch k {
	case cue.BottomKind:
		return nil
	case cue.BoolKind:
		if d.boolean(settled) {
			return []string{"default"}
		}
		return nil
	case cue.StringKind:
		return []string{d.filled(settled)}
	case cue.ListKind:
		return d.targets(v)
	}
	d.mistyped(settled, k, "true, a string (the agent's id) or a list of those")
	return nil
}

// devices decodes devices by their names.
func (d *decoder) devices(v cue.Value) []Device {
	list := []Device{}
	d.items(v, "a list of devices", func(item cue.Value) {
		device := Device{Pos: d.pos(item)}
		settled, k := d.settle(item)
		switch k {
		case cue.BottomKind:
			return
		case cue.StringKind:
			device.Name = d.filled(settled)
		case cue.StructKind:
			d.requiredDevice(settled, &device)
		default:
			d.mistyped(settled, k, "a string (the device's name) or {name, required}")
		}
		list = append(list, device)
	})
	return list
}

func (d *decoder) requiredDevice(v cue.Value, device *Device) {
	d.fields(v, "{name, required}", func(name string, f cue.Value) {
		switch name {
		case "name":
			device.Name = d.filled(f)
		case "required":
			device.Required = d.boolean(f)
		default:
			d.unknown(f, name, d.words("#Device"))
		}
	})
	if !v.LookupPath(cue.ParsePath("name")).Exists() {
		d.fail(v, `the device needs "name"`, "")
	}
}
