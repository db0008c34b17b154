package exporter

import (
	"reflect"
	"testing"
	"time"

	"github.com/strata-build/strata/runtime/layer"
)

func TestParseOutput(t *testing.T) {
	yes, epoch := true, time.Unix(7, 0).UTC()
	for in, want := range map[string]Output{
		"-":                   {Type: Tar, Dest: "-"},
		"out":                 {Type: Local, Dest: "out"},
		"./a/b":               {Type: Local, Dest: "./a/b"},
		"type=local,dest=out": {Type: Local, Dest: "out"},
		"type=local,dest=out,mode=delete,platform-split=true": {Type: Local, Dest: "out", Delete: true, PlatformSplit: &yes},
		"type=tar,dest=-":           {Type: Tar, Dest: "-"},
		"dest=x.tar,type=oci":       {Type: OCI, Dest: "x.tar"},
		"type=oci,dest=d,tar=false": {Type: OCI, Dest: "d", Directory: true},
		"type=OCI":                  {},
		"type=docker":               {Type: Docker},
		"type=docker,oci-mediatypes=true,compression=zstd,compression-level=19": {Type: Docker, OCITypes: &yes, Compression: layer.Compression{Type: layer.Zstd, Level: 19}},
		"type=image,name=a,push=true":                                           {Type: ImageStore, Names: []string{"a"}, Push: true},
		`type=image,"name=a,b:2"`:                                               {Type: ImageStore, Names: []string{"a", "b:2"}},
		"type=registry,name=r/a":                                                {Type: RegistryPush, Names: []string{"r/a"}, Push: true},
		"TYPE=image,Compression=uncompressed,force-compression=1":               {},
		"type=image,Compression=uncompressed,force-compression=1":               {Type: ImageStore, Compression: layer.Compression{Type: layer.None, Force: true}},
		"type=image,source-date-epoch=7,rewrite-timestamp=true":                 {Type: ImageStore, Epoch: &epoch},
		"type=cacheonly":              {Type: CacheOnly},
		"type=oci,annotation.a.B=c=d": {Type: OCI, Annotations: map[string]Annotations{"": {Manifest: map[string]string{"a.B": "c=d"}}}},
		"type=oci,annotation-index.x=y,annotation-manifest[linux/arm64].z=w": {Type: OCI, Annotations: map[string]Annotations{
			"": {Index: map[string]string{"x": "y"}}, "linux/arm64": {Manifest: map[string]string{"z": "w"}},
		}},
	} {
		got, err := ParseOutput(in)
		if want.Type == "" {
			if err == nil && in == "type=OCI" {
				t.Errorf("%s was accepted as %+v", in, got)
			}
			continue
		}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %+v, %v\nwant %+v", in, got, err, want)
		}
	}
}

func TestParseOutputErrors(t *testing.T) {
	for in, says := range map[string][]string{
		"":                                      {"empty"},
		"type=":                                 {"no type", "oci"},
		"dest=x":                                nil, // a directory of that name
		"dest=x,name=y":                         {"no type"},
		"type=ocy":                              {`"ocy"`, "oci, docker"},
		"type=oci,compresion=gzip":              {`"compresion"`, `did you mean "compression"`, "dest"},
		"type=oci,push=true":                    {"type=oci", `"push"`},
		"type=local":                            {"dest=DIR"},
		"type=local,dest=-":                     {"dest=DIR"},
		"type=oci,tar=false":                    {"dest=DIR"},
		"type=oci,tar=maybe":                    {"tar=maybe", "true or false"},
		"type=oci,dest":                         {`"dest" is not key=value`},
		"type=oci,dest=a,dest=b":                {"dest is given twice"},
		"type=oci,compression=estargz":          {"estargz", "gzip, zstd"},
		"type=oci,compression-level=x":          {"compression-level=x"},
		"type=oci,compression-level=12":         {"gzip has levels up to 9"},
		"type=docker,compression=zstd":          {"oci-mediatypes=true"},
		"type=image,push-by-digest=1":           {"push=true"},
		"type=image,dest=x":                     {`"dest"`},
		"type=local,dest=x,mode=sync":           {"mode=sync"},
		"type=tar,annotation.a=b":               {"type=tar makes no image"},
		"type=oci,annotation-foo.a=b":           {"annotation"},
		"type=oci,rewrite-timestamp=0":          {"SOURCE_DATE_EPOCH"},
		`type=oci,"dest=a`:                      {"key=value"},
		"type=image,source-date-epoch=tomorrow": {"seconds since 1970"},
	} {
		_, err := ParseOutput(in)
		if says == nil {
			if err != nil {
				t.Errorf("%s: %v", in, err)
			}
			continue
		}
		wantError(t, err, says...)
	}
}

func TestOutputsAtTheSamePlace(t *testing.T) {
	s := newSetup(t)
	_, err := s.export(t, s.image(t, "linux/amd64"), "type=oci,dest=x.tar", "type=docker,dest=./x.tar")
	wantError(t, err, "same place")
}

func FuzzParseOutput(f *testing.F) {
	for _, seed := range []string{"-", "dir", "type=oci,dest=x,tar=false", `type=image,"name=a,b",push=true`, "type=oci,annotation-manifest[linux/arm64].a=b", "type=local,dest=x,mode=delete"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		out, err := ParseOutput(s)
		if err != nil {
			return
		}
		if _, ok := options[out.Type]; !ok {
			t.Errorf("%q gave the type %q", s, out.Type)
		}
		if out.Type == Local && out.Dest == "" {
			t.Errorf("%q gave no destination", s)
		}
	})
}
