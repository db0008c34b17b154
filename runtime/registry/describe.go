package registry

import "cmp"

// Configured is what registries.conf files say of a registry, for people who
// ask why an image comes from where it does.
type Configured struct {
	// Prefix is what names begin with, Location where they are fetched from.
	Prefix, Location  string
	Insecure, Blocked bool
	// Mirrors are asked first, in this order.
	Mirrors []string
}

// Configuration returns the registries that are configured, the longest prefix
// first, and those that are searched for names without a registry.
func (c *Client) Configuration() (registries []Configured, search []string) {
	for _, r := range c.conf.registries {
		one := Configured{Prefix: r.Prefix, Location: cmp.Or(r.Location, r.Prefix), Insecure: r.Insecure, Blocked: r.Blocked}
		for _, m := range r.Mirrors {
			one.Mirrors = append(one.Mirrors, m.Location)
		}
		registries = append(registries, one)
	}
	return registries, c.conf.search
}
