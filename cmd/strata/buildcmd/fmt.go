package buildcmd

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/schema"
)

func (a *app) fmtCommand() *cobra.Command {
	var check bool
	cmd := &cobra.Command{
		Use:   "fmt [FILE|DIR]...",
		Short: "Format CUE files",
		Long:  "Format CUE files in place; `-` formats standard input. The names of changed files are printed.",
		RunE: func(_ *cobra.Command, args []string) error {
			return a.format(args, check)
		},
	}
	cmd.Flags().BoolVar(&check, "check", false, "change nothing, and fail if a file is not formatted")
	return cmd
}

// format formats files, and the .cue files of directories.
func (a *app) format(args []string, check bool) error {
	if len(args) == 0 {
		args = []string{"."}
	}
	changed := 0
	for _, arg := range args {
		if arg == "-" {
			if err := a.formatStream(); err != nil {
				return err
			}
			continue
		}
		files, err := cueFiles(arg)
		if err != nil {
			return err
		}
		for _, name := range files {
			different, err := a.formatFile(name, check)
			if err != nil {
				return err
			}
			if different {
				changed++
			}
		}
	}
	if check && changed > 0 {
		return &cli.ExitError{Code: cli.ExitFailed, Err: fmt.Errorf("%d files are not formatted: run `strata fmt`", changed)}
	}
	return nil
}

func (a *app) formatStream() error {
	src, err := io.ReadAll(a.Stdin)
	if err != nil {
		return err
	}
	out, err := schema.Format(src)
	if err != nil {
		return err
	}
	_, err = a.Stdout.Write(out)
	return err
}

func (a *app) formatFile(name string, check bool) (different bool, err error) {
	src, err := os.ReadFile(name)
	if err != nil {
		return false, err
	}
	out, err := schema.Format(src)
	if err != nil {
		return false, fmt.Errorf("%s: %w", name, err)
	}
	if string(out) == string(src) {
		return false, nil
	}
	fmt.Fprintln(a.Stdout, name)
	if check {
		return true, nil
	}
	return true, cli.WriteFile(name, out)
}

// cueFiles lists the .cue files of a directory, or the file itself.
func cueFiles(name string) ([]string, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{name}, nil
	}
	return filepath.Glob(filepath.Join(name, "*.cue"))
}
