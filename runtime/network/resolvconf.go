package network

import (
	"net/netip"
	"slices"
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

// DNS is what a container's command line says of resolving names.
type DNS struct {
	Servers []string // addresses
	Search  []string
	Options []string
}

// ResolvConf puts d in place of what resolv.conf(5) says in text. What d does
// not name stays.
func (d DNS) ResolvConf(text []byte) []byte {
	c := parseResolvConf(string(text))
	c.replace("options", d.Options)
	c.replace("search", d.Search)
	if len(d.Servers) == 0 {
		return c.text(c.addrs())
	}
	return append(c.text(nil), "nameserver "+strings.Join(d.Servers, "\nnameserver ")+"\n"...)
}

// replace puts one line in place of those with a keyword; "search" and
// "domain" are one.
func (c *resolvConf) replace(keyword string, values []string) {
	if len(values) == 0 {
		return
	}
	c.rest = slices.DeleteFunc(c.rest, func(line string) bool {
		return strings.HasPrefix(line, keyword) || keyword == "search" && strings.HasPrefix(line, "domain")
	})
	c.rest = append(c.rest, keyword+" "+strings.Join(values, " "))
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
