package main

import (
	"path/filepath"
	"strings"

	"github.com/strata-build/strata/runtime/registry"
)

// registryOptions finds docker's and containers' configuration files.
func (a *app) registryOptions() registry.Options {
	opt := registry.Options{
		ConfigPaths:    []string{a.dockerConfig()},
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

// dockerConfig is docker's configuration file.
func (a *app) dockerConfig() string {
	dir := a.env["DOCKER_CONFIG"]
	if dir == "" {
		dir = filepath.Join(a.env["HOME"], ".docker")
	}
	return filepath.Join(dir, "config.json")
}
