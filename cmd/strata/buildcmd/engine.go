package buildcmd

import (
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/containerd/log"
	"github.com/moby/buildkit/client"
	"github.com/spf13/pflag"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/runtime/engine"
	"github.com/strata-build/strata/runtime/fleet"
)

// The engines.
const (
	engineLocal    = "local"
	engineBuildKit = "buildkit"
)

// engineOptions are the flags of what solves a build.
type engineOptions struct {
	engine             string
	addr, tlsDir       string
	cacheFrom, cacheTo []string
}

func (o *engineOptions) register(f *pflag.FlagSet) {
	f.StringVar(&o.engine, "engine", engineLocal, "local, or buildkit: a BuildKit daemon builds")
	f.StringVar(&o.addr, "addr", "", "`ADDRESS` of the daemon: unix://, tcp://, ssh:// or docker-container:// (default: that of BUILDKIT_HOST, or "+defaultAddr+")")
	f.StringVar(&o.tlsDir, "tlsdir", "", "directory of ca.pem, cert.pem and key.pem, for a daemon at tcp://")
	f.StringArrayVar(&o.cacheFrom, "cache-from", nil, "cache that the daemon reads, such as type=registry,ref=NAME")
	f.StringArrayVar(&o.cacheTo, "cache-to", nil, "cache that the daemon writes, such as type=registry,ref=NAME,mode=max")
}

const defaultAddr = "unix:///run/buildkit/buildkitd.sock"

// check refuses what would have no effect.
func (o *engineOptions) check() error {
	switch o.engine {
	case engineBuildKit:
		return nil
	case engineLocal:
	default:
		return cli.Misuse("--engine %s is not known: it takes local or buildkit", o.engine)
	}
	for flag, given := range map[string]bool{
		"--addr": o.addr != "", "--tlsdir": o.tlsDir != "", "--cache-from": len(o.cacheFrom) > 0, "--cache-to": len(o.cacheTo) > 0,
	} {
		if given {
			return cli.Misuse("%s is for a BuildKit daemon: add --engine buildkit, or leave it out", flag)
		}
	}
	return nil
}

// checkBuild refuses what a daemon does not do for this build.
func (o *buildOptions) checkBuild(images int) error {
	if o.engine != engineBuildKit {
		return nil
	}
	if o.jobs != defaultJobs() {
		return cli.Misuse("--jobs is for builds of this machine: leave it out; a daemon's limit is max-parallelism in its configuration")
	}
	for _, spec := range o.cacheTo {
		if cache, err := parseCache(spec); err == nil && images > 1 && cache.Type != "inline" {
			return cli.Misuse("--cache-to %s takes the cache of one image, but there are %d: choose one with --target, or use type=inline", spec, images)
		}
	}
	return nil
}

// builder returns what solves a build, and what ends it.
func (a *app) builder(ctx context.Context, e *engine.Engine, o *engineOptions) (build func(context.Context, engine.Request) (engine.Result, error), end func() error, err error) {
	if o.engine == engineLocal {
		return e.Build, func() error { return nil }, nil
	}
	daemon := engine.Daemon{}
	if daemon.CacheFrom, err = parseCaches("--cache-from", o.cacheFrom); err != nil {
		return nil, nil, err
	}
	if daemon.CacheTo, err = parseCaches("--cache-to", o.cacheTo); err != nil {
		return nil, nil, err
	}
	opt := fleet.Options{Address: cmp.Or(o.addr, a.Env["BUILDKIT_HOST"], defaultAddr)}
	if o.tlsDir != "" {
		opt.CA, opt.Cert, opt.Key = filepath.Join(o.tlsDir, "ca.pem"), filepath.Join(o.tlsDir, "cert.pem"), filepath.Join(o.tlsDir, "key.pem")
	}
	// What containerd's packages warn of, such as a file system without
	// fsverity, is nothing to be done about.
	if err := log.SetLevel("error"); err != nil {
		return nil, nil, err
	}
	if daemon.Client, err = fleet.Dial(ctx, opt); err != nil {
		return nil, nil, fmt.Errorf("%w; --addr or BUILDKIT_HOST says where it is", err)
	}
	return func(ctx context.Context, req engine.Request) (engine.Result, error) {
		return e.BuildOn(ctx, daemon, req)
	}, daemon.Close, nil
}

// parseCaches reads --cache-from and --cache-to: type=TYPE,KEY=VALUE…, or the
// name of an image.
func parseCaches(flag string, specs []string) ([]client.CacheOptionsEntry, error) {
	var list []client.CacheOptionsEntry
	for _, spec := range specs {
		entry, err := parseCache(spec)
		if err != nil {
			return nil, cli.Misuse("%s %s: %v", flag, spec, err)
		}
		list = append(list, entry)
	}
	return list, nil
}

func parseCache(spec string) (client.CacheOptionsEntry, error) {
	entry := client.CacheOptionsEntry{Attrs: map[string]string{}}
	fields, err := csv.NewReader(strings.NewReader(spec)).Read()
	if err != nil {
		return entry, errors.New("it is no list of KEY=VALUE")
	}
	if len(fields) == 1 && !strings.Contains(fields[0], "=") {
		entry.Type, entry.Attrs["ref"] = "registry", fields[0]
		return entry, nil
	}
	for _, field := range fields {
		key, value, ok := strings.Cut(field, "=")
		switch {
		case !ok:
			return entry, fmt.Errorf("%q is not KEY=VALUE", field)
		case key == "type":
			entry.Type = value
		default:
			entry.Attrs[key] = value
		}
	}
	if entry.Type == "" {
		return entry, errors.New("it has no type, such as type=registry")
	}
	return entry, nil
}
