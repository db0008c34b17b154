package inventory

import (
	"slices"
	"strconv"
	"strings"

	"github.com/google/osv-scalibr/extractor"
	apkmeta "github.com/google/osv-scalibr/extractor/filesystem/os/apk/metadata"
	dpkgmeta "github.com/google/osv-scalibr/extractor/filesystem/os/dpkg/metadata"
	rpmmeta "github.com/google/osv-scalibr/extractor/filesystem/os/rpm/metadata"
)

// goStandardLibrary is what OSV calls the packages that come with Go; the
// library lists them as "go".
const goStandardLibrary = "stdlib"

// fromLibrary turns the library's package into ours.
func fromLibrary(p *extractor.Package, kind Kind, os OS) Package {
	if kind == Go && p.Name == "go" {
		p.Name = goStandardLibrary
	}
	if p.Version == "(devel)" { // a Go program built outside of a module's version
		p.Version = ""
	}
	pkg := Package{
		Kind: kind, Name: p.Name, Version: p.Version, Location: p.Location.PathOrEmpty(),
		Licenses: licenses(p.Licenses),
		Advisory: Advisory{Ecosystem: os.ecosystem(kind), Names: []string{p.Name}, Version: p.Version},
	}
	pkg.describe(p.Metadata)
	if kind == NPM {
		p.Metadata = nil // would only add that the source is not known
	}
	if url := p.PURL(); url != nil {
		pkg.PURL = url.String()
	}
	if kind == Python {
		pkg.Advisory.Names = []string{NormalPython(p.Name)}
	}
	return pkg
}

// describe adds what only the distributions' packages have.
func (p *Package) describe(metadata any) {
	switch m := metadata.(type) {
	case *dpkgmeta.Metadata:
		p.Arch = m.Architecture
		p.bySource(m.SourceName, m.SourceVersion)
	case *apkmeta.Metadata:
		p.Arch = m.Architecture
		p.bySource(m.OriginName, "")
	case *rpmmeta.Metadata:
		p.Arch = m.Architecture
		if source := sourceOfRPM(m.SourceRPM); source != "" && source != p.Name {
			p.Advisory.Names = append(p.Advisory.Names, source)
		}
		if m.Epoch > 0 {
			p.Version = strconv.Itoa(m.Epoch) + ":" + p.Version
			p.Advisory.Version = p.Version
		}
	}
}

// bySource makes the source package what advisories are looked up by.
func (p *Package) bySource(name, version string) {
	if name != "" {
		p.Advisory.Names = []string{name}
	}
	if version != "" {
		p.Advisory.Version = version
	}
}

// sourceOfRPM is the name in NAME-VERSION-RELEASE.src.rpm.
func sourceOfRPM(file string) string {
	name := file
	for range 2 {
		i := strings.LastIndexByte(name, '-')
		if i < 0 {
			return ""
		}
		name = name[:i]
	}
	return name
}

// NormalPython is a name as PyPI compares it (PEP 503).
func NormalPython(name string) string {
	words := strings.FieldsFunc(name, func(r rune) bool { return strings.ContainsRune("-_.", r) })
	return strings.ToLower(strings.Join(words, "-"))
}

func licenses(names []string) []string {
	named := slices.DeleteFunc(slices.Clone(names), func(s string) bool { return strings.TrimSpace(s) == "" })
	if len(named) == 0 {
		return nil
	}
	return named
}
