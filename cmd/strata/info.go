package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	digest "github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/cmd/strata/output"
	"github.com/strata-build/strata/runtime/cgroup"
	"github.com/strata-build/strata/runtime/container"
	"github.com/strata-build/strata/runtime/engine"
	"github.com/strata-build/strata/runtime/network"
	"github.com/strata-build/strata/runtime/registry"
)

func infoCommand(a *cli.App) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "info",
		Short: "Show the store, its storage driver and what this machine offers",
		Args:  cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.WithEngine(cmd.Context(), func(e *engine.Engine) error { return printInfo(cmd.Context(), a, e, format) })
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "json, or a Go template")
	return cmd
}

// information is what --format can name.
type information struct {
	Version, Root        string
	Driver, DriverReason string
	OSType, Architecture string
	KernelVersion        string
	CgroupMode           string
	Rootless, SingleID   bool
	Network              string
	Images, Containers   int
	ContainersRunning    int
	ContainersPaused     int
	ContainersStopped    int
	Volumes              int
	Registries           []registry.Configured
	SearchRegistries     []string
}

func printInfo(ctx context.Context, a *cli.App, e *engine.Engine, format string) error {
	info, err := gather(ctx, e)
	if err != nil {
		return err
	}
	if format != "" {
		return output.PrintObject(a.Stdout, info, format)
	}
	return info.write(a.Stdout)
}

func gather(ctx context.Context, e *engine.Engine) (*information, error) {
	info := &information{
		Version: cli.Version(), Root: e.Root(), Driver: e.Snapshots.Name(), DriverReason: e.Snapshots.Reason(),
		OSType: runtime.GOOS, Architecture: runtime.GOARCH, KernelVersion: kernel(), Network: network.DeviceKind(),
	}
	info.Rootless, info.SingleID = e.Rootless()
	info.Registries, info.SearchRegistries = e.Registry.Configuration()
	groups, err := cgroup.Detect()
	if err != nil {
		return nil, err
	}
	info.CgroupMode = groups.Mode().String()
	if info.Images, err = countImages(e); err != nil {
		return nil, err
	}
	return info, info.countContainers(ctx, container.New(e))
}

// countContainers counts containers, as docker does by three states, and
// volumes.
func (i *information) countContainers(ctx context.Context, s *container.Set) error {
	all, err := s.List(ctx)
	if err != nil {
		return err
	}
	i.Containers = len(all)
	for _, rec := range all {
		switch {
		case rec.State.Paused:
			i.ContainersPaused++
		case rec.State.Live():
			i.ContainersRunning++
		default:
			i.ContainersStopped++
		}
	}
	volumes, err := s.Volumes()
	i.Volumes = len(volumes)
	return err
}

// countImages counts ids, not names.
func countImages(e *engine.Engine) (int, error) {
	all, err := e.Images.List()
	ids := map[digest.Digest]bool{}
	for _, img := range all {
		ids[img.ID] = true
	}
	return len(ids), err
}

func kernel() string {
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(release))
}

func (i *information) write(w io.Writer) error {
	var b strings.Builder
	line := func(name string, value any) { fmt.Fprintf(&b, "%s: %v\n", name, value) }
	line("Version", i.Version)
	line("Store", i.Root)
	line("Storage driver", fmt.Sprintf("%s (%s)", i.Driver, i.DriverReason))
	line("Images", i.Images)
	line("Containers", fmt.Sprintf("%d (%d running, %d paused, %d stopped)", i.Containers, i.ContainersRunning, i.ContainersPaused, i.ContainersStopped))
	line("Volumes", i.Volumes)
	line("Platform", i.OSType+"/"+i.Architecture)
	line("Kernel", i.KernelVersion)
	line("Control groups", i.CgroupMode)
	line("Rootless", i.rootless())
	line("Private networks", i.Network)
	if len(i.SearchRegistries) > 0 {
		line("Searched registries", strings.Join(i.SearchRegistries, ", "))
	}
	for _, r := range i.Registries {
		line("Registry "+r.Prefix, describeRegistry(r))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (i *information) rootless() string {
	switch {
	case !i.Rootless:
		return "no"
	case i.SingleID:
		return "yes, with one user id: owners of files are kept beside them"
	}
	return "yes, with a range of user ids"
}

func describeRegistry(r registry.Configured) string {
	parts := []string{"at " + r.Location}
	if r.Blocked {
		parts = append(parts, "blocked")
	}
	if r.Insecure {
		parts = append(parts, "insecure")
	}
	if len(r.Mirrors) > 0 {
		parts = append(parts, "mirrors "+strings.Join(r.Mirrors, ", "))
	}
	return strings.Join(parts, "; ")
}
