package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/cmd/strata/output"
)

// versionLine is what `strata version` and `strata --version` print.
func versionLine() string {
	return fmt.Sprintf("strata %s %s/%s %s", cli.Version(), runtime.GOOS, runtime.GOARCH, runtime.Version())
}

// versionInfo is what --format can name.
type versionInfo struct{ Version, GitCommit, GoVersion, Os, Arch string }

func versionCommand(a *cli.App) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cli.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := versionInfo{Version: cli.Version(), GitCommit: setting("vcs.revision"), GoVersion: runtime.Version(), Os: runtime.GOOS, Arch: runtime.GOARCH}
			if format != "" {
				return output.PrintObject(a.Stdout, v, format)
			}
			_, err := fmt.Fprintln(a.Stdout, versionLine())
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
