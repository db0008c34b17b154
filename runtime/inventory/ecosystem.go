package inventory

import "strings"

// ecosystem is OSV's name of a distribution's release, or "" where it has
// none. It decides which advisories apply, so that a release that is not known
// is better left out than guessed.
func (o OS) ecosystem(kind Kind) string {
	switch kind {
	case Deb:
		return o.debianEcosystem()
	case Apk:
		return o.alpineEcosystem()
	case RPM:
		return o.rpmEcosystem()
	case Go:
		return "Go"
	case NPM:
		return "npm"
	case Python:
		return "PyPI"
	}
	return ""
}

// debianReleases are the numbers of releases whose os-release, while they are
// being made, has a name only.
var debianReleases = map[string]string{"bullseye": "11", "bookworm": "12", "trixie": "13", "forky": "14"}

func (o OS) debianEcosystem() string {
	switch o.ID {
	case "debian":
		version := o.Version
		if version == "" {
			version = debianReleases[o.Codename]
		}
		return release("Debian", version)
	case "ubuntu":
		return release("Ubuntu", o.Version)
	}
	return ""
}

func (o OS) alpineEcosystem() string {
	switch o.ID {
	case "alpine":
		major, rest, _ := strings.Cut(o.Version, ".")
		minor, _, _ := strings.Cut(rest, ".")
		minor, _, development := strings.Cut(minor, "_")
		if development {
			return "Alpine:edge"
		}
		return release("Alpine", prefixed("v", joined(major, minor)))
	case "wolfi":
		return "Wolfi"
	case "chainguard":
		return "Chainguard"
	}
	return ""
}

func (o OS) rpmEcosystem() string {
	major, minor, _ := strings.Cut(o.Version, ".")
	switch o.ID {
	case "rhel":
		return release("Red Hat", prefixed("enterprise_linux:", major))
	case "almalinux":
		return release("AlmaLinux", major)
	case "rocky":
		return release("Rocky Linux", major)
	case "mageia":
		return release("Mageia", o.Version)
	case "opensuse-leap":
		return release("openSUSE", prefixed("Leap ", o.Version))
	case "opensuse-tumbleweed":
		return "openSUSE:Tumbleweed"
	case "sles":
		if minor != "" && minor != "0" {
			major += " SP" + minor
		}
		return release("SUSE", prefixed("Linux Enterprise Server ", major))
	}
	return ""
}

// release is an ecosystem with its suffix; without one it would stand for all
// releases, which no image is.
func release(name, suffix string) string {
	if suffix == "" {
		return ""
	}
	return name + ":" + suffix
}

func prefixed(prefix, text string) string {
	if text == "" {
		return ""
	}
	return prefix + text
}

func joined(major, minor string) string {
	if minor == "" {
		return major
	}
	return major + "." + minor
}
