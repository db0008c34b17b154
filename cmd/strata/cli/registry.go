package cli

import (
	"path/filepath"
	"strings"

	"github.com/strata-build/strata/runtime/registry"
)

// RegistryOptions finds docker's and containers' configuration files.
func (a *App) RegistryOptions() registry.Options {
	opt := registry.Options{
		ConfigPaths:    []string{a.DockerConfig()},
		RegistriesConf: []string{"/etc/containers/registries.conf", "/etc/containers/registries.conf.d"},
		CertDirs:       []string{"/etc/docker/certs.d", "/etc/containers/certs.d"},
		UserAgent:      "strata/" + Version(),
	}
	if runtimeDir := a.Env["XDG_RUNTIME_DIR"]; runtimeDir != "" {
		opt.ConfigPaths = append(opt.ConfigPaths, filepath.Join(runtimeDir, "containers", "auth.json"))
	}
	if home := a.Env["HOME"]; home != "" && realUID() != 0 {
		opt.RegistriesConf = append(opt.RegistriesConf, filepath.Join(home, ".config", "containers", "registries.conf"))
	}
	if home := a.Env["HOME"]; home != "" {
		for _, tool := range []string{"docker", "containers"} {
			opt.CertDirs = append(opt.CertDirs, filepath.Join(home, ".config", tool, "certs.d"))
		}
	}
	if a.registriesConf != "" {
		opt.RegistriesConf = []string{a.registriesConf}
	}
	if hosts := a.Env["STRATA_INSECURE_REGISTRIES"]; hosts != "" {
		opt.Insecure = strings.Split(hosts, ",")
	}
	return opt
}

// DockerConfig is docker's configuration file.
func (a *App) DockerConfig() string {
	dir := a.Env["DOCKER_CONFIG"]
	if dir == "" {
		dir = filepath.Join(a.Env["HOME"], ".docker")
	}
	return filepath.Join(dir, "config.json")
}
