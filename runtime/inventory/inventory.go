// Package inventory finds what is installed in a file tree: the packages of
// Debian (dpkg), Alpine (apk) and the distributions with rpm, the modules that
// Go programs were built from, npm's packages, and Python's. The formats are
// read by osv-scalibr, Google's library for that purpose.
//
// The tree is an image's, so everything in it is hostile. Three things hold:
//
//   - Each file is opened through a rootfs.Root: whatever a symlink says, it
//     leads to a place inside the tree or nowhere. Only regular files are
//     opened at all, so that no FIFO blocks and no device answers.
//   - The parsers run in a process of their own (see [ReadApart]), because one
//     of them is SQLite, translated from C, and others may panic in goroutines
//     that nobody else can recover from. It ends, and becomes an error; memory
//     and processor time are bounded.
//   - What cannot be read is told: a database of a package manager is an error,
//     since what else is found would look complete; any other file is a
//     [Problem].
package inventory

import (
	"cmp"
	"slices"
	"unicode"

	"github.com/strata-build/strata/internal/printable"
)

// Kind is a package's type, as package URLs name it.
type Kind string

// The kinds that are found.
const (
	Deb    Kind = "deb"
	Apk    Kind = "apk"
	RPM    Kind = "rpm"
	Go     Kind = "golang"
	NPM    Kind = "npm"
	Python Kind = "pypi"
)

// Inventory is what is installed.
type Inventory struct {
	// OS is what os-release says; empty where there is no such file.
	OS       OS
	Packages []Package
	Problems []Problem
}

// OS is the distribution.
type OS struct {
	// ID is its short name, such as "debian".
	ID string
	// Version is VERSION_ID, Codename is VERSION_CODENAME.
	Version, Codename string
	// Name is for people: "Debian GNU/Linux 12 (bookworm)".
	Name string
}

// Package is one installed package.
type Package struct {
	Kind          Kind
	Name, Version string
	// Arch is the architecture, for the packages of distributions.
	Arch string
	// PURL is the package URL.
	PURL string
	// Licenses are as the package names them.
	Licenses []string
	// Location is the file that says so, relative to the root.
	Location string
	// Advisory is how databases of vulnerabilities know it.
	Advisory Advisory
}

// Advisory names a package as the OSV databases do. Debian and Alpine publish
// by source package, which has a version of its own.
type Advisory struct {
	// Ecosystem is OSV's, with the release: "Debian:12". Empty where OSV has
	// none.
	Ecosystem string
	// Names are those that an advisory may use.
	Names []string
	// Version is what its ranges are about; empty where it is not known.
	Version string
}

// Problem is a file that could not be read.
type Problem struct {
	Path, Reason string
}

// tidy makes text printable, sorts, and drops what was found twice at one
// place.
func (inv *Inventory) tidy() {
	inv.OS.tidy()
	for i := range inv.Packages {
		inv.Packages[i].tidy()
	}
	for i := range inv.Problems {
		tidyText(&inv.Problems[i].Path, &inv.Problems[i].Reason)
	}
	slices.SortFunc(inv.Packages, comparePackages)
	inv.Packages = slices.CompactFunc(inv.Packages, func(a, b Package) bool { return comparePackages(a, b) == 0 })
	slices.SortFunc(inv.Problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Reason, b.Reason))
	})
}

func (o *OS) tidy() { tidyText(&o.ID, &o.Version, &o.Codename, &o.Name) }

func (p *Package) tidy() {
	tidyText(&p.Name, &p.Version, &p.Arch, &p.PURL, &p.Location, &p.Advisory.Ecosystem, &p.Advisory.Version)
	for i := range p.Licenses {
		tidyText(&p.Licenses[i])
	}
	for i := range p.Advisory.Names {
		tidyText(&p.Advisory.Names[i])
	}
}

// tidyText replaces what would move a terminal's cursor, or begin another
// line of a document whose format is lines.
func tidyText(texts ...*string) {
	for _, text := range texts {
		*text = printable.Text(*text, unicode.ReplacementChar)
	}
}

func comparePackages(a, b Package) int {
	return cmp.Or(
		cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version),
		cmp.Compare(a.PURL, b.PURL), cmp.Compare(a.Location, b.Location),
	)
}
