package network

import (
	"net/netip"
	"strings"
)

// resolvConf is what resolv.conf(5) says of where and how to resolve.
type resolvConf struct {
	servers []netip.AddrPort
	// rest are the lines that hold in a private network as well: search,
	// domain, options.
	rest []string
}

// parseResolvConf reads resolv.conf(5). Lines that it does not know are left
// out, as the resolver of libc does.
func parseResolvConf(text string) resolvConf {
	var c resolvConf
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 || strings.HasPrefix(f[0], "#") || strings.HasPrefix(f[0], ";") {
			continue
		}
		switch f[0] {
		case "nameserver":
			if addr, err := netip.ParseAddr(f[1]); err == nil && len(c.servers) < maxServers {
				c.servers = append(c.servers, netip.AddrPortFrom(addr, 53))
			}
		case "search", "domain", "options":
			c.rest = append(c.rest, strings.Join(f, " "))
		}
	}
	return c
}

// maxServers is how many nameservers libc looks at (MAXNS).
const maxServers = 3

// addrs are the resolvers' own addresses.
func (c resolvConf) addrs() []netip.Addr {
	addrs := make([]netip.Addr, len(c.servers))
	for i, s := range c.servers {
		addrs[i] = s.Addr()
	}
	return addrs
}

// text writes the configuration with nameservers in place of c's own.
func (c resolvConf) text(nameservers []netip.Addr) []byte {
	var b strings.Builder
	for _, line := range c.rest {
		b.WriteString(line + "\n")
	}
	for _, addr := range nameservers {
		b.WriteString("nameserver " + addr.String() + "\n")
	}
	return []byte(b.String())
}
