package sbom

import (
	"io"

	cdx "github.com/CycloneDX/cyclonedx-go"
	license "github.com/google/osv-scalibr/converter/spdx"
	"github.com/google/uuid"

	"github.com/strata-build/strata/runtime/inventory"
)

// imageRef is the image within a CycloneDX document.
const imageRef = "Image"

func (d Document) writeCycloneDX(w io.Writer) error {
	return cdx.NewBOMEncoder(w, cdx.BOMFileFormatJSON).SetPretty(true).SetEscapeHTML(false).EncodeVersion(d.cycloneDX(), cdx.SpecVersion1_6)
}

func (d Document) cycloneDX() *cdx.BOM {
	bom := cdx.NewBOM()
	bom.SerialNumber = uuid.NewSHA1(uuid.NameSpaceURL, []byte(d.namespace())).URN()
	bom.Metadata = &cdx.Metadata{
		Timestamp: d.created(),
		Tools: &cdx.ToolsChoice{Components: &[]cdx.Component{{
			Type: cdx.ComponentTypeApplication, Name: d.Tool, Version: d.ToolVersion,
		}}},
		Component: d.cycloneDXImage(),
	}
	components := []cdx.Component{}
	if os := d.Found.OS; os.ID != "" {
		components = append(components, cdx.Component{
			BOMRef: "OperatingSystem", Type: cdx.ComponentTypeOS, Name: os.ID, Version: os.Version, Description: os.Name,
		})
	}
	for _, p := range d.Found.Packages {
		components = append(components, component(p))
	}
	bom.Components = &components
	return bom
}

func (d Document) cycloneDXImage() *cdx.Component {
	return &cdx.Component{
		BOMRef: imageRef, Type: cdx.ComponentTypeContainer, Name: d.Image.name(), Version: d.Image.Digest.String(),
		PackageURL: d.Image.packageURL(),
		Hashes:     &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: d.Image.Digest.Encoded()}},
	}
}

func component(p inventory.Package) cdx.Component {
	c := cdx.Component{
		BOMRef: reference(p), Type: cdx.ComponentTypeLibrary, Name: p.Name, Version: p.Version, PackageURL: p.PURL,
		Licenses: licenseChoice(p.Licenses),
	}
	if p.Location != "" {
		c.Evidence = &cdx.Evidence{Occurrences: &[]cdx.EvidenceOccurrence{{Location: "/" + p.Location}}}
	}
	return c
}

// licenseChoice is one expression where SPDX knows all of the names, and
// otherwise the package's own words.
func licenseChoice(names []string) *cdx.Licenses {
	if len(names) == 0 {
		return nil
	}
	if expression, others := license.LicenseExpression(names); others.Empty() && expression != noAssertion {
		return &cdx.Licenses{{Expression: expression}}
	}
	var all cdx.Licenses
	for _, name := range names {
		all = append(all, cdx.LicenseChoice{License: &cdx.License{Name: name}})
	}
	return &all
}
