package compiler

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/client/llb"
)

// hostname is the host name in run steps.
func (c *compilation) hostname() string {
	if c.opts.Hostname != "" {
		return c.opts.Hostname
	}
	return c.args["BUILDKIT_SANDBOX_HOSTNAME"]
}

// gitAdvice reports whether git sources print advice.
func (c *compilation) gitAdvice() bool {
	on, err := strconv.ParseBool(c.args["BUILDKIT_GIT_ADVICE"])
	return err == nil && on
}

// proxyFromArgs takes the proxies from the build arguments, in either case.
func proxyFromArgs(args map[string]string) *llb.ProxyEnv {
	var p llb.ProxyEnv
	found := false
	for _, name := range slices.Sorted(maps.Keys(args)) {
		var to *string
		switch strings.ToLower(name) {
		case "http_proxy":
			to = &p.HTTPProxy
		case "https_proxy":
			to = &p.HTTPSProxy
		case "ftp_proxy":
			to = &p.FTPProxy
		case "no_proxy":
			to = &p.NoProxy
		case "all_proxy":
			to = &p.AllProxy
		default:
			continue
		}
		*to, found = args[name], true
	}
	if !found {
		return nil
	}
	return &p
}
