package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is the module's version, as `go install` recorded it.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "dev"
}

// versionLine is what `strata version` and `strata --version` print.
func versionLine() string {
	return fmt.Sprintf("strata %s %s/%s %s", version(), runtime.GOOS, runtime.GOARCH, runtime.Version())
}

// versionInfo is what --format can name.
type versionInfo struct{ Version, GitCommit, GoVersion, Os, Arch string }

func (a *app) versionCommand() *cobra.Command {
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

// noArgs refuses arguments.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return misuse("`%s` takes no arguments, but got %q", cmd.CommandPath(), args[0])
	}
	return nil
}
