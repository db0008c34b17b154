package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/strata-build/strata/internal/nearest"
	"github.com/strata-build/strata/runtime/engine"
	"github.com/strata-build/strata/runtime/executor/userns"
	"github.com/strata-build/strata/runtime/registry"
	"github.com/strata-build/strata/runtime/snapshot"
)

// command is the command line.
func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "strata",
		Short: "Build container images from CUE and from Dockerfiles, without a daemon",
		Long: "Strata builds container images from CUE and from Dockerfiles, on one Linux machine,\n" +
			"without a daemon and without root. `strata build ./app.cue` is all it takes.",
		Version:                    version(),
		SilenceErrors:              true,
		SilenceUsage:               true,
		SuggestionsMinimumDistance: 2,
		Args:                       cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return cmd.Help()
		},
	}
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		return errors.Join(a.checkRegistriesConf(), a.checkDriver())
	}
	root.SetVersionTemplate(versionLine() + "\n")
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return misuse("%v; see `%s --help`", flagError(cmd, err), cmd.CommandPath())
	})
	root.PersistentFlags().StringVar(&a.root, "root", a.defaultRoot(), "directory of the store")
	root.PersistentFlags().StringVar(&a.driver, "storage-driver", a.env["STRATA_STORAGE_DRIVER"],
		"overlay or copy (default: overlay where it works)")
	root.PersistentFlags().StringVar(&a.registriesConf, "registries-conf", a.env["CONTAINERS_REGISTRIES_CONF"],
		"file of mirrors and insecure registries (default: /etc/containers/registries.conf and the user's)")
	root.AddGroup(
		&cobra.Group{ID: "build", Title: "Build:"},
		&cobra.Group{ID: "images", Title: "Images:"},
		&cobra.Group{ID: "containers", Title: "Containers:"},
	)
	a.addCommands(root)
	checkHelp(root)
	a.completeNames(root)
	return root
}

// addCommands adds the commands by group.
func (a *app) addCommands(root *cobra.Command) {
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("build", a.buildCommand(), a.vetCommand(), a.fmtCommand(), a.initCommand(), a.convertCommand(), a.planCommand(), a.whyCommand())
	add("images", a.imageCommands()...)
	add("containers", a.runCommand(), a.createCommand(), a.startCommand(), a.stopCommand(), a.restartCommand(), a.killCommand(),
		a.pauseCommand(), a.unpauseCommand(), a.execCommand(), a.psCommand(), a.logsCommand(), a.waitCommand(), a.rmCommand(),
		a.renameCommand(), a.portCommand(), a.commitCommand(), a.diffCommand(), a.monitorCommand(), a.execMonitorCommand(), a.cpCommand(),
		a.statsCommand(), a.topCommand(), a.updateCommand(), a.volumeCommand(), a.containerCommand())
	add("", a.versionCommand(), a.infoCommand())
}

// checkHelp makes `strata help` refuse what is no command: cobra shows the help
// of all there is.
func checkHelp(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	for _, help := range root.Commands() {
		if help.Name() != "help" {
			continue
		}
		help.Args = func(_ *cobra.Command, args []string) error {
			of, rest, err := root.Find(args)
			if err == nil && len(rest) > 0 {
				err = unknownCommand(of, rest[0])
			}
			return err
		}
	}
}

// unknownCommand says what was probably meant.
func unknownCommand(cmd *cobra.Command, name string) error {
	hint := "see `strata --help`"
	if near := cmd.SuggestionsFor(name); len(near) > 0 {
		hint = "did you mean `strata " + near[0] + "`?"
	}
	return misuse("unknown command %q; %s", name, hint)
}

// flagError adds what was probably meant to pflag's message.
func flagError(cmd *cobra.Command, err error) error {
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) && errors.Is(err, strconv.ErrSyntax) {
		want := "a whole number"
		if invalid.GetFlag().Value.Type() == "bool" {
			want = "true or false"
		}
		return fmt.Errorf("--%s %s: it takes %s", invalid.GetFlag().Name, invalid.GetValue(), want)
	}
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return err
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	best := nearest.Name(unknown.GetSpecifiedName(), names)
	if best == "" {
		return err
	}
	return fmt.Errorf("%w; did you mean --%s?", err, best)
}

// defaultRoot is where the store is unless --root says otherwise.
func (a *app) defaultRoot() string {
	if root := a.env["STRATA_ROOT"]; root != "" {
		return root
	}
	if realUID() == 0 {
		return "/var/lib/strata"
	}
	if data := a.env["XDG_DATA_HOME"]; data != "" {
		return filepath.Join(data, "strata")
	}
	return filepath.Join(a.env["HOME"], ".local", "share", "strata")
}

// open opens the local engine. As an ordinary user the whole command runs
// again inside of a user namespace first; done is true when it has.
func (a *app) open(ctx context.Context) (*engine.Engine, error) {
	out, err := userns.Ensure(ctx)
	if err != nil {
		return nil, err
	}
	if out.Replaced {
		return nil, &exitError{code: out.ExitCode}
	}
	return a.openEngine(ctx, out.Info)
}

// openEngine opens the local engine in this process.
func (a *app) openEngine(ctx context.Context, info userns.Info) (*engine.Engine, error) {
	root, err := filepath.Abs(a.root)
	if err != nil {
		return nil, err
	}
	return engine.Open(ctx, engine.Options{
		Root: root, Driver: a.driver, Rootless: info.Rootless, SingleID: info.SingleID,
		Registry: a.registryOptions(), Env: a.environ, DockerHost: a.env["DOCKER_HOST"], Stdout: a.archiveStream(),
		SharedProc: a.env["STRATA_SHARED_PROC"] != "", DeviceDirs: a.deviceDirs(),
	})
}

// deviceDirs are where CDI devices are described.
func (a *app) deviceDirs() []string {
	if dirs := a.env["STRATA_CDI_DIRS"]; dirs != "" {
		return strings.Split(dirs, ":")
	}
	return []string{"/etc/cdi", "/var/run/cdi"}
}

// archiveStream is standard output for outputs with the destination "-": nil
// for a terminal, which no archive should be written to.
func (a *app) archiveStream() io.Writer {
	if f, ok := a.stdout.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return a.stdout
}

// withEngine runs fn with an open engine, and closes it.
func (a *app) withEngine(ctx context.Context, fn func(*engine.Engine) error) error {
	e, err := a.open(ctx)
	if err != nil {
		return err
	}
	return errors.Join(fn(e), e.Close())
}

// checkRegistriesConf wants a file that is named to be there; those that are
// looked for need not be.
func (a *app) checkRegistriesConf() error {
	if a.registriesConf == "" {
		return nil
	}
	if _, err := os.Stat(a.registriesConf); err != nil {
		return misuse("--registries-conf: %v", err)
	}
	return nil
}

// checkDriver wants one of the storage drivers.
func (a *app) checkDriver() error {
	switch a.driver {
	case "", snapshot.DriverOverlay, snapshot.DriverCopy:
		return nil
	}
	return misuse("--storage-driver %s is not known: it takes overlay or copy", a.driver)
}

// registryOptions finds docker's and containers' configuration files.
func (a *app) registryOptions() registry.Options {
	config := a.env["DOCKER_CONFIG"]
	if config == "" {
		config = filepath.Join(a.env["HOME"], ".docker")
	}
	opt := registry.Options{
		ConfigPaths:    []string{filepath.Join(config, "config.json")},
		RegistriesConf: []string{"/etc/containers/registries.conf", "/etc/containers/registries.conf.d"},
		CertDirs:       []string{"/etc/docker/certs.d", "/etc/containers/certs.d"},
		UserAgent:      "strata/" + version(),
	}
	if runtimeDir := a.env["XDG_RUNTIME_DIR"]; runtimeDir != "" {
		opt.ConfigPaths = append(opt.ConfigPaths, filepath.Join(runtimeDir, "containers", "auth.json"))
	}
	if home := a.env["HOME"]; home != "" && realUID() != 0 {
		opt.RegistriesConf = append(opt.RegistriesConf, filepath.Join(home, ".config", "containers", "registries.conf"))
	}
	if home := a.env["HOME"]; home != "" {
		for _, tool := range []string{"docker", "containers"} {
			opt.CertDirs = append(opt.CertDirs, filepath.Join(home, ".config", tool, "certs.d"))
		}
	}
	if a.registriesConf != "" {
		opt.RegistriesConf = []string{a.registriesConf}
	}
	if hosts := a.env["STRATA_INSECURE_REGISTRIES"]; hosts != "" {
		opt.Insecure = strings.Split(hosts, ",")
	}
	return opt
}
