package schema

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// packageManager is a program that keeps what it downloads.
type packageManager struct {
	name    string
	use     *regexp.Regexp // commands that fill the cache
	cleaned *regexp.Regexp // what the same command has that does not
	dirs    []string       // where the cache is
	fix     string
}

// packageManagers are those that leave much.
var packageManagers = []packageManager{
	{"apt", regexp.MustCompile(`\bapt(-get)?( -\S+)* (update|install)\b`), regexp.MustCompile(`\brm\b[^&|;]*/var/lib/apt`),
		[]string{"/var/lib/apt/lists"}, `add cache: ["/var/lib/apt/lists", "/var/cache/apt"], or end in rm -rf /var/lib/apt/lists/*`},
	{"apk", regexp.MustCompile(`\bapk( -\S+)* (add|update)\b`), regexp.MustCompile(`--no-cache|\brm\b[^&|;]*/var/cache/apk`),
		[]string{"/var/cache/apk"}, `write apk add --no-cache, or add cache: ["/var/cache/apk"]`},
	{"dnf", regexp.MustCompile(`\b(micro)?dnf( -\S+)* install\b`), regexp.MustCompile(`\bclean all\b`),
		[]string{"/var/cache/dnf", "/var/cache/libdnf5"}, `end in dnf clean all, or add cache: ["/var/cache/dnf"]`},
	{"yum", regexp.MustCompile(`\byum( -\S+)* install\b`), regexp.MustCompile(`\bclean all\b`),
		[]string{"/var/cache/yum"}, `end in yum clean all, or add cache: ["/var/cache/yum"]`},
	{"pip", regexp.MustCompile(`\bpip3?( -\S+)* install\b`), regexp.MustCompile(`--no-cache-dir|PIP_NO_CACHE_DIR`),
		[]string{"/root/.cache/pip"}, `write pip install --no-cache-dir, or add cache: ["/root/.cache/pip"]`},
	{"npm", regexp.MustCompile(`\bnpm( -\S+)* (ci|install)\b`), regexp.MustCompile(`npm cache clean|--cache`),
		[]string{"/root/.npm"}, `end in npm cache clean --force, or add cache: ["/root/.npm"]`},
}

// caches looks for a package manager that leaves its cache in the layer.
func (l *linter) caches(img *Image, step *Step) {
	command := strings.Join(step.Run.Args, " ")
	for _, m := range packageManagers {
		if !m.use.MatchString(command) || m.cleaned.MatchString(command) || mounted(step, m.dirs) {
			continue
		}
		if m.name == "pip" && slices.ContainsFunc(img.Config.Env, func(v Var) bool { return v.Name == "PIP_NO_CACHE_DIR" }) {
			continue
		}
		l.add(step.Pos, "CacheLeftInLayer", m.name+" leaves its cache in a layer of the image", m.fix)
	}
}

// mounted reports whether one of dirs is not part of the layer.
func mounted(step *Step, dirs []string) bool {
	targets := slices.Concat(step.Cache, step.Tmpfs)
	for _, m := range step.Mounts {
		targets = append(targets, m.Target)
	}
	for _, t := range targets {
		for _, dir := range dirs {
			if rel := strings.TrimPrefix(dir, path.Clean(t)); rel == "" || rel != dir && rel[0] == '/' {
				return true
			}
		}
	}
	return false
}
