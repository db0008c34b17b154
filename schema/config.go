package schema

import (
	"cuelang.org/go/cue"
)

// configField decodes a field of #Config.
func (d *decoder) configField(name string, f cue.Value, c *Config) bool {
	switch name {
	case "env":
		c.Env = d.vars(f, false, d.checkEnvName)
	case "workdir":
		c.Workdir = d.optional(f)
	case "shell":
		c.Shell = d.shell(f)
	case "user":
		c.User = d.optional(f)
	case "entrypoint":
		c.Entrypoint = d.command(f)
	case "cmd":
		c.Cmd = d.command(f)
	case "expose":
		c.Expose = d.ports(f)
	case "volumes":
		c.Volumes = d.strs(f)
	case "labels":
		c.Labels = d.vars(f, false, d.checkKey)
	case "annotations":
		c.Annotations = d.vars(f, false, d.checkKey)
	case "stopSignal":
		c.StopSignal = d.stopSignal(f)
	case "healthcheck":
		c.Healthcheck = d.healthcheck(f)
	case "onbuild":
		c.OnBuild = d.strs(f)
	case "author":
		c.Author = d.optional(f)
	default:
		return false
	}
	if c.Pos == nil {
		c.Pos = map[string]Position{}
	}
	c.Pos[name] = d.pos(f)
	return true
}

// config decodes a struct of #Config: a `set` step.
func (d *decoder) config(v cue.Value) *Config {
	c := &Config{}
	d.fields(v, "a struct of the configuration to set", func(name string, f cue.Value) {
		if !d.configField(name, f, c) {
			d.unknown(f, name, d.words("#Config"))
		}
	})
	return c
}

// shell is the command that runs shell commands: it cannot be empty.
func (d *decoder) shell(v cue.Value) []string {
	list := d.strs(v)
	if len(list) == 0 {
		d.fail(v, "the shell is empty", `write for example ["/bin/bash", "-c"]`)
	}
	return list
}

func (d *decoder) healthcheck(v cue.Value) *Healthcheck {
	h := &Healthcheck{Pos: d.pos(v)}
	tested := false
	d.fields(v, "a struct of #Healthcheck", func(name string, f cue.Value) {
		switch name {
		case "test":
			tested = true
			if c := d.command(f); c != nil {
				h.Test = *c
			}
		case "interval":
			h.Interval = d.duration(f)
		case "timeout":
			h.Timeout = d.duration(f)
		case "startPeriod":
			h.StartPeriod = d.duration(f)
		case "startInterval":
			h.StartInterval = d.duration(f)
		case "retries":
			h.Retries = int(d.number(f))
		default:
			d.unknown(f, name, d.words("#Healthcheck"))
		}
	})
	if !tested && v.LookupPath(cue.ParsePath("test")).Err() != nil {
		d.fail(v, `a healthcheck needs "test"`, `write a command, or [] to disable the base image's`)
	}
	return h
}
