package containercmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/cmd/strata/output"
	"github.com/strata-build/strata/runtime/container"
	"github.com/strata-build/strata/runtime/network"
)

type psOptions struct {
	all, quiet, noTrunc, latest, size bool
	last                              int
	filters                           []string
	format                            string
}

func (a *app) psCommand() *cobra.Command {
	var o psOptions
	cmd := &cobra.Command{
		Use:   "ps [flags]",
		Short: "List containers",
		Args:  cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := parseContainerFilter(o.filters)
			if err != nil {
				return err
			}
			list := a.peekContainers
			if o.size { // the files may belong to others
				list = func(ctx context.Context, fn func(*container.Set) error) error { return a.withContainers(ctx, "", fn) }
			}
			return list(cmd.Context(), func(s *container.Set) error { return a.ps(cmd.Context(), s, &o, filter) })
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.all, "all", "a", false, "list also those that do not run")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "print ids only")
	f.BoolVar(&o.noTrunc, "no-trunc", false, "print whole ids and commands")
	f.BoolVarP(&o.latest, "latest", "l", false, "list the newest one, in any state")
	f.IntVarP(&o.last, "last", "n", -1, "list the newest N, in any state")
	f.BoolVarP(&o.size, "size", "s", false, "print what each has written")
	f.StringArrayVarP(&o.filters, "filter", "f", nil, "status=, name=, id=, label=, ancestor=, exited=, health=, volume=, publish=, before=, since=")
	f.StringVar(&o.format, "format", "", "table, json, or a Go template for each container")
	return cmd
}

// containerRow is what --format can name; the fields are docker's.
type containerRow struct {
	Command, CreatedAt, CreatedSince, ID, Image, Labels, LocalVolumes, Mounts, Names, Networks, Ports, RunningFor, Size, State, Status string

	labels map[string]string
}

// Label is for templates: {{.Label "name"}}.
func (r containerRow) Label(name string) string { return r.labels[name] }

// containerHeaders are the headings, with Label for a column of labels.
type containerHeaders struct{ containerRow }

// Label heads a column of labels with the label's name.
func (containerHeaders) Label(name string) string {
	if i := strings.LastIndexAny(name, "./"); i >= 0 {
		name = name[i+1:]
	}
	return name
}

var containerHeadings = containerHeaders{containerRow{
	Command: "COMMAND", CreatedAt: "CREATED AT", CreatedSince: "CREATED", ID: "CONTAINER ID", Image: "IMAGE", Labels: "LABELS",
	LocalVolumes: "LOCAL VOLUMES", Mounts: "MOUNTS", Names: "NAMES", Networks: "NETWORKS", Ports: "PORTS", RunningFor: "CREATED", Size: "SIZE", State: "STATE", Status: "STATUS",
}}

func (a *app) ps(ctx context.Context, s *container.Set, o *psOptions, filter containerFilter) error {
	all, err := s.List(ctx)
	if err != nil {
		return err
	}
	if o.latest {
		o.last = 1
	}
	if all, err = filter.apply(s, all); err != nil {
		return err
	}
	if !o.all && o.last < 0 && !filter.anyState {
		all = slices.DeleteFunc(all, func(rec container.Record) bool { return !rec.State.Live() })
	}
	if o.last >= 0 && len(all) > o.last {
		all = all[:o.last]
	}
	if o.quiet && o.format == "" {
		for _, rec := range all {
			if _, err := fmt.Fprintln(a.Stdout, containerID(&rec, o.noTrunc)); err != nil {
				return err
			}
		}
		return nil
	}
	l := output.Listing{
		Table:   "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.CreatedSince}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}",
		Headers: containerHeadings,
	}
	if o.size {
		l.Table += "\t{{.Size}}"
	}
	for _, rec := range all {
		row := describeRow(&rec, o.noTrunc)
		if o.size {
			size, err := s.Size(ctx, rec.ID)
			if errors.Is(err, container.ErrNotFound) {
				continue // removed since it was listed
			}
			if err != nil {
				return err
			}
			row.Size = output.Size(size)
		}
		l.Rows = append(l.Rows, row)
	}
	return l.Print(a.Stdout, o.format)
}

func containerID(rec *container.Record, whole bool) string {
	if whole {
		return rec.ID
	}
	return rec.ShortID()
}

func describeRow(rec *container.Record, whole bool) containerRow {
	command := strings.Join(rec.Config.Args(), " ")
	if !whole {
		command = output.Ellipsis(command, 20)
	}
	var mounts []string
	volumes := 0
	for _, m := range rec.Config.Mounts {
		if m.Type == container.MountVolume {
			volumes++
		}
		name := cmp.Or(m.Source, string(m.Type))
		if !whole {
			name = output.Ellipsis(name, 15)
		}
		mounts = append(mounts, name)
	}
	ago := output.Since(rec.Created)
	return containerRow{
		Command: strconv.Quote(command), CreatedAt: rec.Created.Local().Format("2006-01-02 15:04:05 -0700 MST"),
		CreatedSince: ago, RunningFor: ago, ID: containerID(rec, whole), Image: rec.Image.Name,
		Labels: labelList(rec.Config.Labels), LocalVolumes: strconv.Itoa(volumes), Mounts: strings.Join(mounts, ","), Names: rec.Name,
		Networks: string(rec.Config.Network.Mode), Ports: portList(rec.State.Ports),
		State: stateName(rec), Status: status(rec), labels: rec.Config.Labels,
	}
}

func portList(ports []network.Port) string {
	var list []string
	for _, p := range ports {
		list = append(list, p.String())
	}
	return strings.Join(list, ", ")
}

// stateName is one word for the state.
func stateName(rec *container.Record) string {
	if rec.State.Paused {
		return "paused"
	}
	return string(rec.State.Status)
}

// status is docker's sentence.
func status(rec *container.Record) string {
	s := rec.State
	switch s.Status {
	case container.Running:
		up := "Up " + units.HumanDuration(time.Since(s.StartedAt))
		switch {
		case s.Paused:
			up += " (Paused)"
		case s.Health != nil && s.Health.Status == container.Starting:
			up += " (health: starting)"
		case s.Health != nil:
			up += fmt.Sprintf(" (%s)", s.Health.Status)
		}
		return up
	case container.Restarting:
		return fmt.Sprintf("Restarting (%d)", s.ExitCode)
	case container.Exited:
		text := fmt.Sprintf("Exited (%d)", s.ExitCode)
		if s.OOMKilled {
			text += " out of memory"
		}
		if s.FinishedAt.IsZero() {
			return text
		}
		return text + " " + units.HumanDuration(time.Since(s.FinishedAt)) + " ago"
	}
	return "Created"
}

// containerFilter is what --filter selects: of one key any value, of several
// keys all.
type containerFilter struct {
	values map[string][]string
	// anyState is set by a filter that asks for a state.
	anyState bool
}

var filterKeys = []string{"ancestor", "before", "exited", "health", "id", "label", "name", "network", "publish", "since", "status", "volume"}

func parseContainerFilter(specs []string) (containerFilter, error) {
	f := containerFilter{values: map[string][]string{}}
	for _, spec := range specs {
		key, value, ok := strings.Cut(spec, "=")
		if !ok || !slices.Contains(filterKeys, key) {
			return f, cli.Misuse("--filter %s: it is KEY=VALUE with one of the keys %s", spec, strings.Join(filterKeys, ", "))
		}
		if key == "status" || key == "exited" {
			f.anyState = true
		}
		f.values[key] = append(f.values[key], value)
	}
	return f, nil
}

func (f containerFilter) apply(s *container.Set, all []container.Record) ([]container.Record, error) {
	for key, values := range f.values {
		match, err := f.matcher(s, key, all)
		if err != nil {
			return nil, err
		}
		all = slices.DeleteFunc(slices.Clone(all), func(rec container.Record) bool {
			if key == "label" { // docker wants all of them
				return slices.ContainsFunc(values, func(v string) bool { return !match(&rec, v) })
			}
			return !slices.ContainsFunc(values, func(v string) bool { return match(&rec, v) })
		})
	}
	return all, nil
}

func (f containerFilter) matcher(s *container.Set, key string, all []container.Record) (func(*container.Record, string) bool, error) {
	switch key {
	case "ancestor":
		return ancestorMatcher(s), nil
	case "before", "since":
		return orderMatcher(key, f.values[key], all)
	case "exited":
		return func(rec *container.Record, v string) bool {
			return rec.State.Status == container.Exited && strconv.Itoa(rec.State.ExitCode) == v
		}, nil
	case "health":
		return func(rec *container.Record, v string) bool {
			return rec.State.Health == nil && v == "none" || rec.State.Health != nil && string(rec.State.Health.Status) == v
		}, nil
	case "id":
		return func(rec *container.Record, v string) bool { return strings.HasPrefix(rec.ID, v) }, nil
	case "label":
		return func(rec *container.Record, v string) bool {
			return cli.HasLabels(rec.Config.Labels, []string{v})
		}, nil
	case "name":
		return func(rec *container.Record, v string) bool {
			return strings.Contains(rec.Name, strings.TrimPrefix(v, "/"))
		}, nil
	case "network":
		return func(rec *container.Record, v string) bool { return string(rec.Config.Network.Mode) == v }, nil
	case "publish":
		return func(rec *container.Record, v string) bool {
			port, protocol, _ := strings.Cut(v, "/")
			return slices.ContainsFunc(rec.State.Ports, func(p network.Port) bool {
				return strconv.Itoa(int(p.HostPort)) == port && (protocol == "" || protocol == p.Protocol)
			})
		}, nil
	case "status":
		return func(rec *container.Record, v string) bool { return stateName(rec) == v }, nil
	}
	return func(rec *container.Record, v string) bool { // volume
		return slices.ContainsFunc(rec.Config.Mounts, func(m container.Mount) bool { return m.Source == v || m.Target == v })
	}, nil
}

// ancestorMatcher finds the containers of an image, by its name or id.
func ancestorMatcher(s *container.Set) func(*container.Record, string) bool {
	return func(rec *container.Record, v string) bool {
		if rec.Image.Name == v || strings.TrimSuffix(rec.Image.Name, ":latest") == v || strings.HasPrefix(strings.TrimPrefix(rec.Image.ID, "sha256:"), strings.TrimPrefix(v, "sha256:")) {
			return true
		}
		img, err := s.Engine().Images.Resolve(context.Background(), v)
		return err == nil && img.ID.String() == rec.Image.ID
	}
}

// orderMatcher finds the containers that were made before or after another.
func orderMatcher(key string, values []string, all []container.Record) (func(*container.Record, string) bool, error) {
	times := map[string]time.Time{}
	for _, v := range values {
		i := slices.IndexFunc(all, func(rec container.Record) bool { return rec.Name == v || strings.HasPrefix(rec.ID, v) })
		if i < 0 {
			return nil, fmt.Errorf("--filter %s=%s: %w", key, v, container.ErrNotFound)
		}
		times[v] = all[i].Created
	}
	return func(rec *container.Record, v string) bool {
		if key == "before" {
			return rec.Created.Before(times[v])
		}
		return rec.Created.After(times[v])
	}, nil
}
