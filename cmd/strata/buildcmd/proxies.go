package buildcmd

import (
	"cmp"
	"encoding/json"
	"maps"
	"os"
	"strings"
)

// proxies are the build arguments that docker's config.json asks for: proxies
// of the daemon that DOCKER_HOST names, or else of all. A file that cannot be
// read has none; one that is damaged is told by who needs its credentials.
func (a *app) proxies() map[string]string {
	data, err := os.ReadFile(a.DockerConfig())
	if err != nil {
		return nil
	}
	var config struct {
		Proxies map[string]struct {
			HTTPProxy, HTTPSProxy, NoProxy, FTPProxy, AllProxy string
		}
	}
	if err := json.Unmarshal(data, &config); err != nil {
		return nil
	}
	p, ok := config.Proxies[cmp.Or(a.Env["DOCKER_HOST"], "default")]
	if !ok {
		p = config.Proxies["default"]
	}
	args := map[string]string{}
	for name, value := range map[string]string{
		"HTTP_PROXY": p.HTTPProxy, "HTTPS_PROXY": p.HTTPSProxy, "NO_PROXY": p.NoProxy, "FTP_PROXY": p.FTPProxy, "ALL_PROXY": p.AllProxy,
	} {
		if value != "" {
			args[name], args[strings.ToLower(name)] = value, value
		}
	}
	return args
}

// addProxies adds the proxies that are not given.
func (a *app) addProxies(args map[string]string) {
	known := maps.Clone(args)
	for name, value := range a.proxies() {
		_, upper := known[strings.ToUpper(name)]
		_, lower := known[strings.ToLower(name)]
		if !upper && !lower {
			args[name] = value
		}
	}
}
