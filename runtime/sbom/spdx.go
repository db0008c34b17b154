package sbom

import (
	"io"
	"slices"
	"strings"

	license "github.com/google/osv-scalibr/converter/spdx"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"
	spdx "github.com/spdx/tools-golang/spdx/v2/v2_3"
	"github.com/spdx/tools-golang/tagvalue"

	"github.com/strata-build/strata/runtime/inventory"
)

const noAssertion = license.NoAssertion

// Elements that every document has.
const (
	documentElement = common.ElementID("DOCUMENT")
	imageElement    = common.ElementID("Image")
	osElement       = common.ElementID("OperatingSystem")
)

func (d Document) writeSPDX(w io.Writer) error {
	return spdxjson.Write(d.spdx("OPERATING_SYSTEM"), w, spdxjson.Indent("  "), spdxjson.EscapeHTML(false))
}

func (d Document) writeTagValue(w io.Writer) error {
	return tagvalue.Write(d.spdx("OPERATING-SYSTEM"), w)
}

// spdx is the document: it describes the image, which contains the rest. What
// an operating system is for has a name of its own in each encoding.
func (d Document) spdx(osPurpose string) *spdx.Document {
	doc := &spdx.Document{
		SPDXVersion: spdx.Version, DataLicense: spdx.DataLicense, SPDXIdentifier: documentElement,
		DocumentName: d.Image.name(), DocumentNamespace: d.namespace(),
		CreationInfo: &spdx.CreationInfo{
			Creators: []common.Creator{{CreatorType: "Tool", Creator: d.Tool + "-" + d.ToolVersion}},
			Created:  d.created(),
		},
		Packages: []*spdx.Package{d.spdxImage()},
	}
	relate(doc, documentElement, common.TypeRelationshipDescribe, imageElement)
	if d.Found.OS.ID != "" {
		add(doc, spdxOS(d.Found.OS, osPurpose))
	}
	for _, p := range d.Found.Packages {
		added, texts := spdxPackage(p)
		add(doc, added)
		doc.OtherLicenses = append(doc.OtherLicenses, texts...)
	}
	doc.OtherLicenses = distinct(doc.OtherLicenses)
	return doc
}

// add puts a package into the image.
func add(doc *spdx.Document, p *spdx.Package) {
	doc.Packages = append(doc.Packages, p)
	relate(doc, imageElement, common.TypeRelationshipContains, p.PackageSPDXIdentifier)
}

func relate(doc *spdx.Document, a common.ElementID, how string, b common.ElementID) {
	doc.Relationships = append(doc.Relationships, &spdx.Relationship{
		RefA: common.MakeDocElementID("", string(a)), Relationship: how, RefB: common.MakeDocElementID("", string(b)),
	})
}

// element is a package with what is the same for all.
func element(id common.ElementID, name, version, purpose string) *spdx.Package {
	return &spdx.Package{
		PackageName: name, PackageSPDXIdentifier: id, PackageVersion: version, PrimaryPackagePurpose: purpose,
		PackageDownloadLocation: noAssertion, IsFilesAnalyzedTagPresent: true,
		PackageLicenseConcluded: noAssertion, PackageLicenseDeclared: noAssertion, PackageCopyrightText: noAssertion,
	}
}

func (d Document) spdxImage() *spdx.Package {
	p := element(imageElement, d.Image.name(), d.Image.Digest.String(), "CONTAINER")
	p.PackageChecksums = []common.Checksum{{Algorithm: common.SHA256, Value: d.Image.Digest.Encoded()}}
	p.PackageExternalReferences = packageURL(d.Image.packageURL())
	return p
}

func spdxOS(os inventory.OS, purpose string) *spdx.Package {
	p := element(osElement, os.ID, os.Version, purpose)
	p.PackageSummary = os.Name
	return p
}

// spdxPackage returns a package, and the licenses that SPDX has no name for.
func spdxPackage(found inventory.Package) (*spdx.Package, []*spdx.OtherLicense) {
	p := element(common.ElementID(reference(found)), found.Name, found.Version, "")
	p.PackageSourceInfo = "found in /" + found.Location
	p.PackageExternalReferences = packageURL(found.PURL)
	expression, others := license.LicenseExpression(found.Licenses)
	p.PackageLicenseDeclared = expression
	return p, license.ToOtherLicenses(others)
}

func packageURL(url string) []*spdx.PackageExternalReference {
	if url == "" {
		return nil
	}
	return []*spdx.PackageExternalReference{{
		Category: common.CategoryPackageManager, RefType: common.TypePackageManagerPURL, Locator: url,
	}}
}

// distinct keeps one text for each license's name, as several texts may be
// named alike once they are reduced to the characters of a name.
func distinct(all []*spdx.OtherLicense) []*spdx.OtherLicense {
	slices.SortFunc(all, func(a, b *spdx.OtherLicense) int {
		return strings.Compare(a.LicenseIdentifier+"\x00"+a.ExtractedText, b.LicenseIdentifier+"\x00"+b.ExtractedText)
	})
	return slices.CompactFunc(all, func(a, b *spdx.OtherLicense) bool { return a.LicenseIdentifier == b.LicenseIdentifier })
}
