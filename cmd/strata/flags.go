package main

import (
	"fmt"
	"net"
	"regexp"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"
)

// byteSize is a size as docker writes it: 64m, 1.5GiB, 1024.
type byteSize int64

// Set implements pflag.Value.
func (b *byteSize) Set(text string) error {
	n, err := units.RAMInBytes(text)
	if err != nil {
		return fmt.Errorf("%q is no size such as 64m or 2g", text)
	}
	*b = byteSize(n)
	return nil
}

// String implements pflag.Value.
func (b *byteSize) String() string {
	if *b == 0 {
		return ""
	}
	return units.BytesSize(float64(*b))
}

// Type implements pflag.Value.
func (*byteSize) Type() string { return "bytes" }

// swapSize is a byteSize, or -1 for no limit.
type swapSize int64

// Set implements pflag.Value.
func (s *swapSize) Set(text string) error {
	if text == "-1" {
		*s = -1
		return nil
	}
	return (*byteSize)(s).Set(text)
}

// String implements pflag.Value.
func (s *swapSize) String() string {
	if *s == -1 {
		return "-1"
	}
	return (*byteSize)(s).String()
}

// Type implements pflag.Value.
func (*swapSize) Type() string { return "bytes" }

// hostPattern is what a host may be called in /etc/hosts.
var hostPattern = regexp.MustCompile(`^[a-zA-Z0-9_]([a-zA-Z0-9_.-]*[a-zA-Z0-9_])?$`)

// parseHosts reads --add-host NAME:ADDRESS, with docker's [ADDRESS] and
// NAME=ADDRESS.
func parseHosts(specs []string) ([]llb.HostIP, error) {
	var hosts []llb.HostIP
	for _, spec := range specs {
		name, addr, ok := strings.Cut(spec, "=")
		if !ok {
			name, addr, ok = strings.Cut(spec, ":")
		}
		ip := net.ParseIP(strings.Trim(addr, "[]"))
		if !ok || !hostPattern.MatchString(name) || ip == nil {
			return nil, misuse("--add-host %s: it is NAME:ADDRESS, such as db:10.0.0.7", spec)
		}
		hosts = append(hosts, llb.HostIP{Host: name, IP: ip})
	}
	return hosts, nil
}

// parseUlimits reads --ulimit NAME=SOFT[:HARD].
func parseUlimits(specs []string) ([]*pb.Ulimit, error) {
	var limits []*pb.Ulimit
	for _, spec := range specs {
		u, err := units.ParseUlimit(spec)
		if err != nil {
			return nil, misuse("--ulimit %s: %v", spec, err)
		}
		limits = append(limits, &pb.Ulimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard})
	}
	return limits, nil
}
