package network

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Port is a port of a container that the host publishes.
type Port struct {
	// HostIP is the host's address that is listened on; the zero value stands
	// for all of them, IPv4 and IPv6.
	HostIP netip.Addr `json:"hostIP,omitzero"`
	// HostPort is the host's port, 0 for any free one.
	HostPort uint16 `json:"hostPort,omitempty"`
	// HostPortEnd is 0, or the last of a range of host ports, from HostPort
	// on, of which a free one is taken.
	HostPortEnd uint16 `json:"hostPortEnd,omitempty"`
	// ContainerPort is the port that the container listens on.
	ContainerPort uint16 `json:"containerPort"`
	// Protocol is "tcp" or "udp".
	Protocol string `json:"protocol"`
}

// Exposed writes the container's side of p as an image exposes it: 80/tcp.
func (p Port) Exposed() string { return fmt.Sprintf("%d/%s", p.ContainerPort, p.Protocol) }

// String writes p as docker's ps does: 127.0.0.1:8080->80/tcp.
func (p Port) String() string {
	inner := p.Exposed()
	switch {
	case p.HostIP.IsValid():
		return netip.AddrPortFrom(p.HostIP, p.HostPort).String() + "->" + inner
	case p.HostPort != 0:
		return fmt.Sprintf("%d->%s", p.HostPort, inner)
	}
	return inner
}

// HostAddress is where the host listens: 0.0.0.0:8080 for all addresses.
func (p Port) HostAddress() string {
	addr := p.HostIP
	if !addr.IsValid() {
		addr = netip.IPv4Unspecified()
	}
	return netip.AddrPortFrom(addr, p.HostPort).String()
}

// ParsePorts reads ports as docker's -p takes them:
//
//	80  8080:80  127.0.0.1:8080:80/udp  [::1]:8080:80  127.0.0.1::80
//	8000-8002:80-82  8000-8010:80
//
// The last one takes any free port of the host's range. A host port that is
// missing, empty or 0 is any free one.
func ParsePorts(specs []string) ([]Port, error) {
	return parseAll(specs, "[[ADDRESS:]HOSTPORT:]PORT[/tcp|/udp], each port a number from 1 to 65535 or a range", parsePort)
}

// ParseExposed reads the ports that an image exposes, "80/tcp", "53/udp" or
// "8000-8005", for publishing them on any free ports of the host.
func ParseExposed(specs []string) ([]Port, error) {
	return parseAll(specs, "PORT[/tcp|/udp], the port a number from 1 to 65535 or a range", parseExposed)
}

func parseAll(specs []string, form string, parse func(string) ([]Port, error)) ([]Port, error) {
	var all []Port
	for _, spec := range specs {
		ports, err := parse(spec)
		if err != nil {
			return nil, fmt.Errorf("port %q: %w; the form is %s", spec, err, form)
		}
		all = append(all, ports...)
	}
	return all, nil
}

func parseExposed(spec string) ([]Port, error) {
	inner, protocol, err := cutProtocol(spec)
	if err != nil {
		return nil, err
	}
	r, err := parseRange(inner)
	if err != nil {
		return nil, err
	}
	return pair(Port{Protocol: protocol}, portRange{}, r)
}

func parsePort(spec string) ([]Port, error) {
	rest, protocol, err := cutProtocol(spec)
	if err != nil {
		return nil, err
	}
	addr, rest, err := cutAddress(rest)
	if err != nil {
		return nil, err
	}
	var host portRange
	outer, inner, found := strings.Cut(rest, ":")
	if !found {
		outer, inner = "", rest
	}
	if outer != "" && outer != "0" {
		if host, err = parseRange(outer); err != nil {
			return nil, err
		}
	}
	container, err := parseRange(inner)
	if err != nil {
		return nil, err
	}
	return pair(Port{HostIP: addr, Protocol: protocol}, host, container)
}

func cutProtocol(spec string) (rest, protocol string, err error) {
	rest, protocol, found := strings.Cut(spec, "/")
	if !found {
		return rest, "tcp", nil
	}
	protocol = strings.ToLower(protocol)
	if protocol != "tcp" && protocol != "udp" {
		return "", "", fmt.Errorf("the protocol %q is not known: it is tcp or udp", protocol)
	}
	return rest, protocol, nil
}

// cutAddress takes the host's address off HOSTPORT:PORT, if there is one.
func cutAddress(spec string) (addr netip.Addr, rest string, err error) {
	if strings.HasPrefix(spec, "[") {
		text, rest, found := strings.Cut(spec[1:], "]:")
		if !found || !strings.Contains(rest, ":") {
			return addr, "", errors.New("an address needs a host port too, as in [::1]:8080:80, or [::1]::80 for any free one")
		}
		addr, err = parseAddress(text)
		return addr, rest, err
	}
	switch strings.Count(spec, ":") {
	case 0, 1:
		return addr, spec, nil
	case 2:
		text, rest, _ := strings.Cut(spec, ":")
		if text == "" {
			return addr, rest, nil
		}
		addr, err = parseAddress(text)
		return addr, rest, err
	}
	return addr, "", errors.New("there are too many colons: an IPv6 address goes into brackets, as in [::1]:8080:80")
}

func parseAddress(text string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return addr, fmt.Errorf("%q is not an IP address of the host", text)
	}
	return addr.Unmap(), nil
}

// portRange is the ports from first to last. Its zero value is any free port.
type portRange struct{ first, last uint16 }

func (r portRange) len() int { return int(r.last) - int(r.first) + 1 }

func (r portRange) String() string {
	if r.first == r.last {
		return strconv.Itoa(int(r.first))
	}
	return fmt.Sprintf("%d-%d", r.first, r.last)
}

func parseRange(text string) (r portRange, err error) {
	first, last, found := strings.Cut(text, "-")
	if r.first, err = parseNumber(first); err != nil {
		return r, err
	}
	r.last = r.first
	if found {
		if r.last, err = parseNumber(last); err != nil {
			return r, err
		}
	}
	if r.last < r.first {
		return r, fmt.Errorf("the range %s ends before it begins", text)
	}
	return r, nil
}

func parseNumber(text string) (uint16, error) {
	if text == "" {
		return 0, errors.New("a port is missing")
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is not a port", text)
	}
	return uint16(n), nil
}

// pair publishes the ports of a container on those of the host: each on its
// own, or one on any of a range.
func pair(common Port, host, container portRange) ([]Port, error) {
	if host.first != 0 && host.len() > 1 && container.len() == 1 {
		common.HostPort, common.HostPortEnd, common.ContainerPort = host.first, host.last, container.first
		return []Port{common}, nil
	}
	if host.first != 0 && host.len() != container.len() {
		return nil, fmt.Errorf("the ranges %s and %s have not the same length", host, container)
	}
	ports := make([]Port, container.len())
	for i := range ports {
		ports[i] = common
		ports[i].ContainerPort = container.first + uint16(i)
		if host.first != 0 {
			ports[i].HostPort = host.first + uint16(i)
		}
	}
	return ports, nil
}
