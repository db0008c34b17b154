package sbom

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	digest "github.com/opencontainers/go-digest"
	"github.com/santhosh-tekuri/jsonschema/v6"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx"
	"github.com/spdx/tools-golang/spdxlib"
	"github.com/spdx/tools-golang/tagvalue"

	"github.com/strata-build/strata/runtime/inventory"
)

func document() Document {
	return Document{
		Tool: "strata", ToolVersion: "test",
		Image: Image{
			Repository: "localhost:5000/shop/app", Digest: digest.FromString("app"), Platform: "linux/amd64",
			Created: time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600)),
		},
		Found: inventory.Inventory{
			OS: inventory.OS{ID: "alpine", Version: "3.19.1", Name: "Alpine Linux v3.19"},
			Packages: []inventory.Package{
				{Kind: inventory.Apk, Name: "musl", Version: "1.2.4-r4", PURL: "pkg:apk/alpine/musl@1.2.4-r4", Licenses: []string{"MIT"}, Location: "lib/apk/db/installed"},
				{Kind: inventory.Go, Name: "github.com/a/b", Version: "1.0.0", PURL: "pkg:golang/github.com/a/b@1.0.0", Location: "usr/bin/x"},
				{Kind: inventory.Go, Name: "github.com/a/b", Version: "1.0.0", PURL: "pkg:golang/github.com/a/b@1.0.0", Location: "usr/bin/y"},
				{Kind: inventory.RPM, Name: "old", Version: "1-1", Licenses: []string{"GPLv2+ and (Something else)"}, Location: "var/lib/rpm/Packages"},
			},
		},
	}
}

func written(t *testing.T, d Document, format Format) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := d.Write(&out, format); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestSameImageSameBytes(t *testing.T) {
	for _, format := range Formats() {
		if a, b := written(t, document(), format), written(t, document(), format); !bytes.Equal(a, b) {
			t.Errorf("%s differs:\n%s\n%s", format, a, b)
		}
	}
}

func TestUnknownFormat(t *testing.T) {
	if err := document().Write(&bytes.Buffer{}, "xml"); err == nil {
		t.Error("a format that does not exist was written")
	}
}

func checkSPDX(t *testing.T, doc *spdx.Document) {
	t.Helper()
	if err := spdxlib.ValidateDocument(doc); err != nil {
		t.Error(err)
	}
	var got []string
	ids := map[string]bool{}
	for _, p := range doc.Packages {
		got = append(got, p.PackageName+" "+p.PackageVersion)
		ids[string(p.PackageSPDXIdentifier)] = true
	}
	want := []string{
		"localhost:5000/shop/app " + digest.FromString("app").String(), "alpine 3.19.1",
		"musl 1.2.4-r4", "github.com/a/b 1.0.0", "github.com/a/b 1.0.0", "old 1-1",
	}
	if !slices.Equal(got, want) {
		t.Errorf("packages are %q, want %q", got, want)
	}
	if len(ids) != len(want) {
		t.Errorf("identifiers are not distinct: %v", ids)
	}
	if doc.CreationInfo.Created != "2026-01-02T02:04:05Z" {
		t.Errorf("it was created at %s", doc.CreationInfo.Created)
	}
	if got := doc.Packages[2].PackageLicenseDeclared; got != "MIT" {
		t.Errorf("the license of musl is %s", got)
	}
}

func TestSPDXJSON(t *testing.T) {
	data := written(t, document(), SPDXJSON)
	validateSPDX(t, data)
	doc, err := spdxjson.Read(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	checkSPDX(t, doc)
	declared := doc.Packages[5].PackageLicenseDeclared
	for _, l := range doc.OtherLicenses {
		if !strings.Contains(declared, l.LicenseIdentifier) {
			t.Errorf("license %s is not in %s", l.LicenseIdentifier, declared)
		}
	}
	if len(doc.OtherLicenses) != 2 {
		t.Errorf("licenses with other names: %d", len(doc.OtherLicenses))
	}
}

func TestSPDXTagValue(t *testing.T) {
	doc, err := tagvalue.Read(bytes.NewReader(written(t, document(), SPDXTagValue)))
	if err != nil {
		t.Fatal(err)
	}
	checkSPDX(t, doc)
}

func TestCycloneDX(t *testing.T) {
	data := written(t, document(), CycloneDXJSON)
	validateCycloneDX(t, data)
	var bom cdx.BOM
	if err := cdx.NewBOMDecoder(bytes.NewReader(data), cdx.BOMFileFormatJSON).Decode(&bom); err != nil {
		t.Fatal(err)
	}
	refs := map[string]bool{}
	for _, c := range *bom.Components {
		refs[c.BOMRef] = true
	}
	if len(refs) != 5 {
		t.Errorf("references are %v", refs)
	}
	want := "pkg:oci/app@" + digest.FromString("app").String() + "?arch=amd64&repository_url=localhost:5000%2Fshop%2Fapp"
	if got := bom.Metadata.Component.PackageURL; got != want {
		t.Errorf("the image is %s, want %s", got, want)
	}
	if bom.SpecVersion != cdx.SpecVersion1_6 || bom.Metadata.Timestamp != "2026-01-02T02:04:05Z" {
		t.Errorf("version %s, time %s", bom.SpecVersion, bom.Metadata.Timestamp)
	}
}

// validate holds a document against a schema, and makes sure that the schema
// would refuse another one.
func validate(t *testing.T, data []byte, l loader, url string, spoil func(doc map[string]any)) {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.UseLoader(l)
	schema, err := c.Compile(url)
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(doc); err != nil {
		t.Errorf("%#v", err)
	}
	spoil(doc)
	if schema.Validate(doc) == nil {
		t.Error("the schema accepts everything")
	}
}

func validateSPDX(t *testing.T, data []byte) {
	t.Helper()
	validate(t, data, loader{"testdata"}, "http://spdx.org/rdf/terms/2.3/spdx-schema-2.3.json", func(doc map[string]any) {
		delete(doc, "creationInfo")
	})
}

// validateCycloneDX takes the schemas that come with the standard's library.
func validateCycloneDX(t *testing.T, data []byte) {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/CycloneDX/cyclonedx-go").Output()
	if err != nil {
		t.Fatal(err)
	}
	l := loader{filepath.Join(strings.TrimSpace(string(out)), "schema")}
	validate(t, data, l, "http://cyclonedx.org/schema/bom-1.6.schema.json", func(doc map[string]any) {
		doc["serialNumber"] = "7"
	})
}

// loader finds the schemas that refer to each other in a folder.
type loader struct{ dir string }

func (l loader) Load(url string) (any, error) {
	name := filepath.Base(url)
	if name == "jsf-0.82.schema.json" {
		name = "jsf-0.82.schemax.json"
	}
	f, err := os.Open(filepath.Join(l.dir, name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return jsonschema.UnmarshalJSON(f)
}

func TestTable(t *testing.T) {
	got := strings.Split(string(written(t, document(), Table)), "\n")
	want := "musl            1.2.4-r4  apk     lib/apk/db/installed"
	if got[1] != want {
		t.Errorf("it is %q, want %q", got[1], want)
	}
}

// TestEmptyImage has no packages, no name and no time.
func TestEmptyImage(t *testing.T) {
	d := Document{Tool: "strata", ToolVersion: "test", Image: Image{Digest: digest.FromString("empty")}}
	validateSPDX(t, written(t, d, SPDXJSON))
	validateCycloneDX(t, written(t, d, CycloneDXJSON))
	for _, format := range Formats() {
		data := written(t, d, format)
		if format == CycloneDXJSON && !strings.Contains(string(data), `"name": "`+d.Image.Digest.String()+`"`) {
			t.Errorf("the image is called otherwise:\n%s", data)
		}
		if format != Table && !strings.Contains(string(data), "1970-01-01T00:00:00Z") {
			t.Errorf("%s has another time:\n%s", format, data)
		}
	}
}
