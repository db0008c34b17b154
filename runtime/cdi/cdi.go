// Package cdi finds the devices of this machine that are described by the
// Container Device Interface: JSON and YAML files, mostly in /etc/cdi and
// /var/run/cdi, which say what a container needs for a device. What is used of
// them are device nodes, mounts, variables and groups; a device that needs a
// hook, which is a program to run on this machine, is refused.
//
// The format is that of the CDI specification, up to version 1.1.0.
package cdi

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Annotations of BuildKit, which it and Strata honour in descriptions.
const (
	classAnnotation     = "org.mobyproject.buildkit.device.class"
	autoAllowAnnotation = "org.mobyproject.buildkit.device.autoallow"
)

// Device is one device.
type Device struct {
	// Name is the whole name: vendor.com/class=name.
	Name string
	// AutoAllow says that its description permits every build to use it.
	AutoAllow bool

	Env    []string
	Nodes  []Node
	Mounts []Mount
	Groups []uint32

	class    string
	hooks    bool
	networks bool
}

// Node is a device node: Source on this machine, Target in the container.
type Node struct{ Source, Target string }

// Mount is a file or directory of this machine.
type Mount struct {
	Source, Target string
	ReadOnly       bool
}

// Check reports why a device cannot be used, although it is described.
func (d *Device) Check() error {
	switch {
	case d.hooks:
		return fmt.Errorf("the device %s needs hooks, programs that run outside of the step, which Strata does not run", d.Name)
	case d.networks:
		return fmt.Errorf("the device %s is a network interface, which Strata does not move into steps", d.Name)
	}
	return nil
}

// Registry is the devices that directories describe, in their order.
type Registry struct{ devices []*Device }

// file is a description as it is written.
type file struct {
	Kind           string            `yaml:"kind"`
	Annotations    map[string]string `yaml:"annotations"`
	ContainerEdits edits             `yaml:"containerEdits"`
	Devices        []struct {
		Name           string            `yaml:"name"`
		Annotations    map[string]string `yaml:"annotations"`
		ContainerEdits edits             `yaml:"containerEdits"`
	} `yaml:"devices"`
}

// edits are what a container needs.
type edits struct {
	Env         []string `yaml:"env"`
	DeviceNodes []struct {
		Path     string `yaml:"path"`
		HostPath string `yaml:"hostPath"`
	} `yaml:"deviceNodes"`
	Mounts []struct {
		HostPath      string   `yaml:"hostPath"`
		ContainerPath string   `yaml:"containerPath"`
		Options       []string `yaml:"options"`
	} `yaml:"mounts"`
	AdditionalGIDs []uint32 `yaml:"additionalGids"`
	Hooks          []any    `yaml:"hooks"`
	NetDevices     []any    `yaml:"netDevices"`
}

// Load reads the descriptions in directories. A device of a later directory
// takes the place of one of the same name; a directory that is not there has
// none.
func Load(dirs ...string) (*Registry, error) {
	r := &Registry{}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read devices: %w", err)
		}
		for _, e := range entries {
			if !slices.Contains([]string{".json", ".yaml", ".yml"}, filepath.Ext(e.Name())) {
				continue
			}
			if err := r.load(filepath.Join(dir, e.Name())); err != nil {
				return nil, err
			}
		}
	}
	return r, nil
}

// load reads one file. JSON is YAML.
func (r *Registry) load(name string) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("read devices: %w", err)
	}
	var f file
	if err := yaml.Unmarshal(data, &f); err != nil {
		return fmt.Errorf("read devices: %s: %w", name, err)
	}
	for _, d := range f.Devices {
		dev := &Device{Name: f.Kind + "=" + d.Name, class: either(d.Annotations, f.Annotations, classAnnotation)}
		dev.AutoAllow = either(d.Annotations, f.Annotations, autoAllowAnnotation) == "true"
		for _, e := range []edits{f.ContainerEdits, d.ContainerEdits} {
			dev.add(e)
		}
		r.devices = append(slices.DeleteFunc(r.devices, func(old *Device) bool { return old.Name == dev.Name }), dev)
	}
	return nil
}

// either is an annotation of a device, or else of all devices of its file.
func either(own, all map[string]string, name string) string {
	if v, ok := own[name]; ok {
		return v
	}
	return all[name]
}

func (d *Device) add(e edits) {
	d.Env = append(d.Env, e.Env...)
	for _, n := range e.DeviceNodes {
		d.Nodes = append(d.Nodes, Node{Source: cmp.Or(n.HostPath, n.Path), Target: n.Path})
	}
	for _, m := range e.Mounts {
		d.Mounts = append(d.Mounts, Mount{Source: m.HostPath, Target: m.ContainerPath, ReadOnly: slices.Contains(m.Options, "ro")})
	}
	d.Groups = append(d.Groups, e.AdditionalGIDs...)
	d.hooks = d.hooks || len(e.Hooks) > 0
	d.networks = d.networks || len(e.NetDevices) > 0
}

// Find returns the devices that a name stands for, as in BuildKit: a whole
// name; vendor.com/class for the first of a kind, and with =* for all of them;
// or a class that descriptions give.
func (r *Registry) Find(name string) []*Device {
	kind, rest, whole := strings.Cut(name, "=")
	var found []*Device
	for _, d := range r.devices {
		same := strings.HasPrefix(d.Name, kind+"=")
		switch {
		case whole && rest == "*" && same, d.Name == name:
			found = append(found, d)
		case !whole && same && strings.Contains(kind, "/"):
			return []*Device{d}
		}
	}
	if len(found) > 0 {
		return found
	}
	for _, d := range r.devices {
		if d.class == name && name != "" {
			found = append(found, d)
		}
	}
	return found
}
