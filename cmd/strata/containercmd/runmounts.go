package containercmd

import (
	"encoding/csv"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/runtime/container"
	"github.com/strata-build/strata/runtime/executor"
)

func (o *containerFlags) readMounts(_ *app, req *container.Request) error {
	for _, kind := range []struct {
		specs []string
		parse func(string) (container.Mount, error)
	}{{o.volumes, parseVolume}, {o.mounts, parseMount}, {o.tmpfs, parseTmpfs}} {
		for _, spec := range kind.specs {
			m, err := kind.parse(spec)
			if err != nil {
				return err
			}
			req.Config.Mounts = append(req.Config.Mounts, m)
		}
	}
	for i, m := range req.Config.Mounts {
		if slices.ContainsFunc(req.Config.Mounts[:i], func(before container.Mount) bool {
			return filepath.Clean(before.Target) == filepath.Clean(m.Target)
		}) {
			return cli.Misuse("two mounts have the target %s", m.Target)
		}
	}
	for _, spec := range o.devices {
		d, err := parseDevice(spec)
		if err != nil {
			return err
		}
		req.Config.Devices = append(req.Config.Devices, d)
	}
	return nil
}

// parseDevice reads docker's --device.
func parseDevice(spec string) (executor.Device, error) {
	fields := strings.Split(spec, ":")
	d := executor.Device{Source: fields[0], Target: fields[0]}
	rest := fields[1:]
	if len(rest) > 0 && filepath.IsAbs(rest[0]) {
		d.Target, rest = rest[0], rest[1:]
	}
	if !filepath.IsAbs(d.Source) || len(rest) > 1 {
		return d, cli.Misuse("--device %s: it is SOURCE[:TARGET[:rwm]] with absolute paths", spec)
	}
	if len(rest) == 1 && rest[0] != "rwm" && rest[0] != "rw" {
		return d, cli.Misuse("--device %s: the permissions are those of the device on the host, so only rwm can be given", spec)
	}
	return d, nil
}

// parseVolume reads docker's -v.
func parseVolume(spec string) (container.Mount, error) {
	fields := strings.Split(spec, ":")
	m := container.Mount{Type: container.MountVolume, Target: fields[0]}
	if len(fields) > 1 {
		m.Source, m.Target = fields[0], fields[1]
	}
	if len(fields) > 3 || m.Target == "" || !filepath.IsAbs(m.Target) || len(fields) > 1 && m.Source == "" {
		return m, cli.Misuse("--volume %s: it is [SOURCE:]TARGET[:ro], where TARGET is an absolute path and SOURCE a path of the host or the name of a volume", spec)
	}
	if strings.HasPrefix(m.Source, "~") {
		return m, cli.Misuse("--volume %s: the shell has not replaced ~: leave out the quotes, or write $HOME", spec)
	}
	if strings.HasPrefix(m.Source, "/") || strings.HasPrefix(m.Source, ".") {
		source, err := filepath.Abs(m.Source)
		if err != nil {
			return m, err
		}
		m.Type, m.Source, m.Create = container.MountBind, source, true
	}
	if len(fields) < 3 {
		return m, nil
	}
	for option := range strings.SplitSeq(fields[2], ",") {
		switch option {
		case "ro":
			m.ReadOnly = true
		case "rw", "z", "Z", "rprivate", "private", "delegated", "cached", "consistent":
			// That is how it is, or it means nothing on Linux without SELinux.
		case "nocopy":
			m.NoCopy = true
		default:
			return m, cli.Misuse("--volume %s: the option %q is not known: it takes ro, rw and nocopy", spec, option)
		}
	}
	return m, nil
}

// parseMount reads docker's --mount.
func parseMount(spec string) (container.Mount, error) {
	m := container.Mount{Type: container.MountVolume}
	fields, err := csv.NewReader(strings.NewReader(spec)).Read()
	if err != nil {
		return m, cli.Misuse("--mount %s: %v", spec, err)
	}
	var special []string
	for _, field := range fields {
		if err := setMount(&m, field); err != nil {
			return m, cli.Misuse("--mount %s: %v", spec, err)
		}
		if kind, _, ok := strings.Cut(field, "-"); ok && slices.Contains([]string{"bind", "volume", "tmpfs"}, kind) {
			special = append(special, kind)
		}
	}
	if i := slices.IndexFunc(special, func(kind string) bool { return kind != string(m.Type) }); i >= 0 {
		return m, cli.Misuse("--mount %s: the %s- options are not for type=%s", spec, special[i], m.Type)
	}
	switch {
	case m.Target == "" || !filepath.IsAbs(m.Target):
		return m, cli.Misuse("--mount %s: target= is needed, an absolute path", spec)
	case m.Type == container.MountBind && m.Source == "":
		return m, cli.Misuse("--mount %s: source= is needed, a path of the host", spec)
	case m.Type == container.MountBind:
		m.Source, err = filepath.Abs(m.Source)
	case m.Type == container.MountTmpfs && m.Source != "":
		return m, cli.Misuse("--mount %s: a tmpfs has no source", spec)
	}
	return m, err
}

func setMount(m *container.Mount, field string) error {
	name, value, hasValue := strings.Cut(field, "=")
	switch strings.ToLower(name) {
	case "type":
		m.Type = container.MountType(value)
		if !slices.Contains([]container.MountType{container.MountBind, container.MountVolume, container.MountTmpfs}, m.Type) {
			return fmt.Errorf("type %q is not known: it takes bind, volume or tmpfs", value)
		}
	case "source", "src":
		m.Source = value
	case "target", "destination", "dst":
		m.Target = value
	case "readonly", "ro":
		return setBool(&m.ReadOnly, value, hasValue)
	case "volume-nocopy":
		return setBool(&m.NoCopy, value, hasValue)
	case "bind-nonrecursive":
		return setBool(&m.NonRecursive, value, hasValue)
	case "bind-recursive":
		if value != "enabled" && value != "disabled" {
			return fmt.Errorf("bind-recursive=%s is not possible: it takes enabled or disabled", value)
		}
		m.NonRecursive = value == "disabled"
	case "bind-propagation":
		if value != "private" && value != "rprivate" {
			return fmt.Errorf("bind-propagation=%s is not possible: mounts are rprivate", value)
		}
	case "bind-create-src":
		return setBool(&m.Create, value, hasValue)
	case "tmpfs-size", "tmpfs-mode":
		return setTmpfs(m, strings.TrimPrefix(name, "tmpfs-"), value)
	default:
		return fmt.Errorf("the option %q is not known", name)
	}
	return nil
}

func setBool(to *bool, value string, hasValue bool) error {
	*to = true
	if !hasValue {
		return nil
	}
	b, err := strconv.ParseBool(value)
	if err != nil {
		return fmt.Errorf("%q is not true or false", value)
	}
	*to = b
	return nil
}

// parseTmpfs reads docker's --tmpfs.
func parseTmpfs(spec string) (container.Mount, error) {
	target, options, _ := strings.Cut(spec, ":")
	m := container.Mount{Type: container.MountTmpfs, Target: target}
	if !filepath.IsAbs(target) {
		return m, cli.Misuse("--tmpfs %s: it is TARGET[:OPTIONS], where TARGET is an absolute path", spec)
	}
	for option := range strings.SplitSeq(options, ",") {
		name, value, _ := strings.Cut(option, "=")
		if err := setTmpfs(&m, name, value); err != nil {
			return m, cli.Misuse("--tmpfs %s: %v", spec, err)
		}
	}
	return m, nil
}

func setTmpfs(m *container.Mount, name, value string) error {
	switch name {
	case "size":
		n, err := units.RAMInBytes(value)
		if err != nil {
			return fmt.Errorf("size %q is no size such as 64m", value)
		}
		m.Size = n
	case "mode":
		n, err := strconv.ParseUint(value, 8, 32)
		if err != nil || n > 0o1777 {
			return fmt.Errorf("mode %q is no octal number up to 1777", value)
		}
		m.Mode = uint32(n)
	case "exec":
		m.Exec = true
	case "ro":
		m.ReadOnly = true
	case "", "rw", "noexec", "nosuid", "nodev":
		// That is how it is.
	default:
		return fmt.Errorf("the option %q is not known: it takes size, mode, exec and ro", name)
	}
	return nil
}
