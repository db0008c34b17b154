package cli

import (
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/docker/go-units"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/strata-build/strata/internal/nearest"
)

var hostPattern = regexp.MustCompile(`^[a-zA-Z0-9_]([a-zA-Z0-9_.-]*[a-zA-Z0-9_])?$`)

// IsHostName reports whether a host may be called that in /etc/hosts.
func IsHostName(name string) bool { return hostPattern.MatchString(name) }

// ParseHosts reads --add-host NAME:ADDRESS, with docker's [ADDRESS] and
// NAME=ADDRESS.
func ParseHosts(specs []string) ([]llb.HostIP, error) {
	var hosts []llb.HostIP
	for _, spec := range specs {
		name, addr, ok := strings.Cut(spec, "=")
		if !ok {
			name, addr, ok = strings.Cut(spec, ":")
		}
		ip := net.ParseIP(strings.Trim(addr, "[]"))
		if !ok || !IsHostName(name) || ip == nil {
			return nil, Misuse("--add-host %s: it is NAME:ADDRESS, such as db:10.0.0.7", spec)
		}
		hosts = append(hosts, llb.HostIP{Host: name, IP: ip})
	}
	return hosts, nil
}

// ParseUlimits reads --ulimit NAME=SOFT[:HARD].
func ParseUlimits(specs []string) ([]*pb.Ulimit, error) {
	var limits []*pb.Ulimit
	for _, spec := range specs {
		u, err := units.ParseUlimit(spec)
		if err != nil {
			return nil, Misuse("--ulimit %s: %s", spec, explainUlimit(spec))
		}
		limits = append(limits, &pb.Ulimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard})
	}
	return limits, nil
}

// ulimits are the names that --ulimit takes.
const ulimits = "core, cpu, data, fsize, locks, memlock, msgqueue, nice, nofile, nproc, rss, rtprio, rttime, sigpending or stack"

// explainUlimit says what is wrong with a --ulimit.
func explainUlimit(spec string) string {
	name, values, ok := strings.Cut(spec, "=")
	if !ok {
		return "it is NAME=SOFT[:HARD], such as nofile=1024:2048"
	}
	if _, err := units.ParseUlimit(name + "=1"); err != nil {
		return fmt.Sprintf("there is no limit %q: it takes %s", name, ulimits)
	}
	for value := range strings.SplitSeq(values, ":") {
		if _, err := strconv.ParseInt(value, 10, 64); err != nil || strings.Count(values, ":") > 1 {
			return "SOFT[:HARD] are whole numbers, or -1 for no limit"
		}
	}
	return "the soft limit is above the hard limit"
}

// FlagError adds what was probably meant to pflag's message.
func FlagError(cmd *cobra.Command, err error) error {
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) {
		return explainValue(invalid)
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

// explainValue says what a flag takes.
func explainValue(err *pflag.InvalidValueError) error {
	var want string
	switch kind := err.GetFlag().Value.Type(); {
	case kind == "bool":
		want = "true or false"
	case kind == "duration":
		want = "a duration, such as 30s or 1h30m"
	case errors.Is(err, strconv.ErrSyntax):
		want = "a whole number"
	case errors.Is(err, strconv.ErrRange):
		want = "a number that is not as large"
	default: // its own words, which repeat the value
		return fmt.Errorf("--%s: %w", err.GetFlag().Name, errors.Unwrap(err))
	}
	return fmt.Errorf("--%s %s: it takes %s", err.GetFlag().Name, err.GetValue(), want)
}

// ParsePlatforms reads --platform.
func ParsePlatforms(names []string) ([]ocispec.Platform, error) {
	var list []ocispec.Platform
	for _, name := range names {
		if name == "local" { // docker's word for this machine
			list = append(list, platforms.Normalize(platforms.DefaultSpec()))
			continue
		}
		p, err := platforms.Parse(name)
		if err != nil {
			return nil, Misuse("--platform %s: %v", name, err)
		}
		list = append(list, platforms.Normalize(p))
	}
	return list, nil
}
