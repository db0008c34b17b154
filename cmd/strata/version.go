package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// versionLine is what `strata version` and `strata --version` print.
func versionLine() string {
	return fmt.Sprintf("strata %s %s/%s %s", version(), runtime.GOOS, runtime.GOARCH, runtime.Version())
}

// versionInfo is what --format can name.
type versionInfo struct{ Version, GitCommit, GoVersion, Os, Arch string }

func versionCommand(a *app) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			v := versionInfo{Version: version(), GitCommit: setting("vcs.revision"), GoVersion: runtime.Version(), Os: runtime.GOOS, Arch: runtime.GOARCH}
			if format != "" {
				return printObject(a.stdout, v, format)
			}
			_, err := fmt.Fprintln(a.stdout, versionLine())
			return err
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "json, or a Go template")
	return cmd
}

// setting is what the build recorded under a name.
func setting(name string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == name {
			return s.Value
		}
	}
	return ""
}
