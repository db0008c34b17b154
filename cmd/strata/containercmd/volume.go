package containercmd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/cmd/strata/output"
	"github.com/strata-build/strata/runtime/container"
)

func (a *app) volumeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "volume",
		Short: "Make, list and remove volumes",
		Long: "Make, list and remove volumes: directories that containers mount by name, with `-v NAME:/PATH`,\n" +
			"and that outlive them.",
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return cli.Misuse("`strata volume` has no %q: it has create, inspect, ls, prune and rm", args[0])
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(a.volumeCreateCommand(), a.volumeInspectCommand(), a.volumeListCommand(), a.volumePruneCommand(), a.volumeRemoveCommand())
	return cmd
}

func (a *app) volumeCreateCommand() *cobra.Command {
	var name, driver string
	var labels []string
	cmd := &cobra.Command{
		Use:   "create [flags] [NAME]",
		Short: "Make a volume",
		Args:  cli.Between(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				name = args[0]
			}
			if driver != localDriver {
				return cli.Misuse("--driver %s: volumes are directories of the store, the driver %s; a path of the machine is mounted with -v /PATH:/PATH", driver, localDriver)
			}
			named, err := parseLabels(labels)
			if err != nil {
				return err
			}
			return a.withContainers(cmd.Context(), "", func(s *container.Set) error {
				v, err := s.CreateVolume(cmd.Context(), name, named)
				if err == nil {
					_, err = fmt.Fprintln(a.Stdout, v.Name)
				}
				return err
			})
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "same as NAME")
	cmd.Flags().StringVarP(&driver, "driver", "d", localDriver, "driver: there is only local")
	cmd.Flags().StringArrayVar(&labels, "label", nil, "NAME=VALUE: label the volume")
	cmd.Flags().Lookup("name").Hidden = true
	return cmd
}

// localDriver is docker's name for volumes that are directories.
const localDriver = "local"

// volumeDescription is what inspect shows, docker's fields.
type volumeDescription struct {
	CreatedAt  string
	Driver     string
	Labels     map[string]string
	Mountpoint string
	Name       string
	Options    map[string]string
	Scope      string
}

func describeVolume(s *container.Set, v container.Volume) (volumeDescription, error) {
	dir, err := s.VolumeDir(v.Name)
	return volumeDescription{
		CreatedAt: v.Created.Format(time.RFC3339), Driver: localDriver, Labels: v.Labels, Mountpoint: dir, Name: v.Name, Scope: localDriver,
	}, err
}

func (a *app) volumeInspectCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "inspect [flags] VOLUME...",
		Short: "Describe volumes",
		Args:  cli.AtLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.peekContainers(cmd.Context(), func(s *container.Set) error { return a.inspectVolumes(s, args, format) })
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "json, or a Go template for each volume")
	return cmd
}

func (a *app) inspectVolumes(s *container.Set, names []string, format string) error {
	all := []volumeDescription{}
	var errs []error
	for _, name := range names {
		v, err := s.Volume(name)
		if err == nil {
			var d volumeDescription
			d, err = describeVolume(s, v)
			all = append(all, d)
		}
		errs = append(errs, err)
	}
	if format == "" || format == output.JSON {
		return errors.Join(append(errs, output.WriteJSON(a.Stdout, all, "    "))...)
	}
	for _, d := range all {
		errs = append(errs, output.PrintObject(a.Stdout, d, format))
	}
	return errors.Join(errs...)
}

// volumeRow is what --format of `volume ls` can name; the fields are docker's.
type volumeRow struct {
	Driver, Labels, Links, Mountpoint, Name, Scope, Size string

	labels map[string]string
}

// Label is for templates: {{.Label "name"}}.
func (r volumeRow) Label(name string) string { return r.labels[name] }

// volumeHeaders are the headings, with Label for a column of labels.
type volumeHeaders struct{ volumeRow }

// Label heads a column of labels with the label's name.
func (volumeHeaders) Label(name string) string { return containerHeadings.Label(name) }

var volumeHeadings = volumeHeaders{volumeRow{
	Driver: "DRIVER", Labels: "LABELS", Links: "LINKS", Mountpoint: "MOUNTPOINT", Name: "VOLUME NAME", Scope: "SCOPE", Size: "SIZE",
}}

func (a *app) volumeListCommand() *cobra.Command {
	var quiet bool
	var format string
	var filters []string
	cmd := &cobra.Command{
		Use:     "ls [flags]",
		Aliases: []string{"list"},
		Short:   "List volumes",
		Args:    cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := parseVolumeFilter(filters)
			if err != nil {
				return err
			}
			return a.peekContainers(cmd.Context(), func(s *container.Set) error { return a.listVolumes(s, filter, quiet, format) })
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&quiet, "quiet", "q", false, "print names only")
	f.StringArrayVarP(&filters, "filter", "f", nil, "name=, dangling=true|false, driver=, label=")
	f.StringVar(&format, "format", "", "table, json, or a Go template for each volume")
	return cmd
}

func (a *app) listVolumes(s *container.Set, filter volumeFilter, quiet bool, format string) error {
	all, err := filter.volumes(s)
	if err != nil {
		return err
	}
	if quiet && format == "" {
		format = "{{.Name}}"
	}
	l := output.Listing{Table: "{{.Driver}}\t{{.Name}}", Headers: volumeHeadings}
	for _, v := range all {
		row, err := rowOfVolume(s, v)
		if err != nil {
			return err
		}
		l.Rows = append(l.Rows, row)
	}
	return l.Print(a.Stdout, format)
}

func rowOfVolume(s *container.Set, v container.Volume) (volumeRow, error) {
	dir, err := s.VolumeDir(v.Name)
	if err != nil {
		return volumeRow{}, err
	}
	users, err := s.VolumeUsers(v.Name)
	return volumeRow{
		Driver: localDriver, Labels: labelList(v.Labels), Links: strconv.Itoa(len(users)),
		Mountpoint: dir, Name: v.Name, Scope: localDriver, Size: "N/A", labels: v.Labels,
	}, err
}

// volumeFilter is what --filter selects: of one key any value (of labels all),
// of several keys all.
type volumeFilter map[string][]string

func parseVolumeFilter(specs []string) (volumeFilter, error) {
	f := volumeFilter{}
	keys := []string{"dangling", "driver", "label", "name"}
	for _, spec := range specs {
		key, value, ok := strings.Cut(spec, "=")
		if !ok || !slices.Contains(keys, key) {
			return nil, cli.Misuse("--filter %s: it is KEY=VALUE with one of the keys %s", spec, strings.Join(keys, ", "))
		}
		if _, err := strconv.ParseBool(value); key == "dangling" && err != nil {
			return nil, cli.Misuse("--filter %s: it is true or false", spec)
		}
		f[key] = append(f[key], value)
	}
	return f, nil
}

// volumes lists the volumes that are selected.
func (f volumeFilter) volumes(s *container.Set) ([]container.Volume, error) {
	all, err := s.Volumes()
	if err != nil {
		return nil, err
	}
	var chosen []container.Volume
	for _, v := range all {
		ok, err := f.matches(s, v)
		if err != nil {
			return nil, err
		}
		if ok {
			chosen = append(chosen, v)
		}
	}
	return chosen, nil
}

func (f volumeFilter) matches(s *container.Set, v container.Volume) (bool, error) {
	var users []string
	if len(f["dangling"]) > 0 {
		var err error
		if users, err = s.VolumeUsers(v.Name); err != nil {
			return false, err
		}
	}
	anyOf := func(key string, match func(string) bool) bool {
		return len(f[key]) == 0 || slices.ContainsFunc(f[key], match)
	}
	return cli.HasLabels(v.Labels, f["label"]) &&
		anyOf("name", func(part string) bool { return strings.Contains(v.Name, part) }) &&
		anyOf("driver", func(driver string) bool { return driver == localDriver }) &&
		anyOf("dangling", func(text string) bool {
			dangling, err := strconv.ParseBool(text)
			return err == nil && dangling == (len(users) == 0)
		}), nil
}

func (a *app) volumeRemoveCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:     "rm [flags] VOLUME...",
		Aliases: []string{"remove"},
		Short:   "Remove volumes that no container has",
		Args:    cli.AtLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withContainers(cmd.Context(), "", func(s *container.Set) error {
				return a.removeVolumes(cmd.Context(), s, args, force)
			})
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "one that is not there is no error")
	return cmd
}

func (a *app) removeVolumes(ctx context.Context, s *container.Set, names []string, force bool) error {
	var errs []error
	for _, name := range names {
		_, err := s.Volume(name) // it knows what was meant
		if err == nil {
			err = s.RemoveVolume(ctx, name)
		}
		if force {
			err = ignore(err, container.ErrNoVolume)
		}
		if err == nil {
			_, err = fmt.Fprintln(a.Stdout, name)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (a *app) volumePruneCommand() *cobra.Command {
	var all, force bool
	var filters []string
	cmd := &cobra.Command{
		Use:   "prune [flags]",
		Short: "Remove the volumes without a name that no container has",
		Args:  cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := parseVolumeFilter(filters)
			if err != nil {
				return err
			}
			return a.withContainers(cmd.Context(), "", func(s *container.Set) error {
				if !force {
					if ok, err := a.confirm(pruneQuestion(all)); err != nil || !ok {
						return err
					}
				}
				return a.pruneVolumes(cmd.Context(), s, filter, all)
			})
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&all, "all", "a", false, "also those with a name")
	f.BoolVarP(&force, "force", "f", false, "do not ask")
	f.StringArrayVar(&filters, "filter", nil, "name=, label=")
	return cmd
}

func pruneQuestion(all bool) string {
	if all {
		return "This removes all volumes that no container has."
	}
	return "This removes all volumes without a name that no container has."
}

func (a *app) pruneVolumes(ctx context.Context, s *container.Set, filter volumeFilter, named bool) error {
	volumes, err := filter.volumes(s)
	if err != nil {
		return err
	}
	var freed int64
	for _, v := range volumes {
		if !named && !v.Anonymous {
			continue
		}
		size, err := s.VolumeSize(ctx, v.Name)
		if err == nil {
			err = s.RemoveVolume(ctx, v.Name)
		}
		if errors.Is(err, container.ErrVolumeInUse) || errors.Is(err, container.ErrNoVolume) {
			continue
		}
		if err != nil {
			return err
		}
		freed += size
		if _, err := fmt.Fprintln(a.Stdout, v.Name); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(a.Stdout, "Total reclaimed space: %s\n", output.Size(freed))
	return err
}

// confirm asks the user.
func (a *app) confirm(what string) (bool, error) {
	if _, err := fmt.Fprintf(a.Stderr, "%s Are you sure you want to continue? [y/N] ", what); err != nil {
		return false, err
	}
	answer, _ := bufio.NewReader(a.Stdin).ReadString('\n') // at its end, it is no
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes", nil
}
