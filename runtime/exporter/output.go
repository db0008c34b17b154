package exporter

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/buildkit/exporter/containerimage/exptypes"

	"github.com/strata-build/strata/internal/nearest"
	"github.com/strata-build/strata/runtime/layer"
)

// Type is the kind of an output.
type Type string

// The kinds of outputs.
const (
	// OCI is an OCI layout as a tar file, or with tar=false as a directory.
	OCI Type = "oci"
	// Docker is an archive for `docker load`; without a destination it is
	// loaded into a daemon.
	Docker Type = "docker"
	// Tar is the root file system as a tar file.
	Tar Type = "tar"
	// Local is the root file system as a directory.
	Local Type = "local"
	// ImageStore is Strata's own image store (type=image).
	ImageStore Type = "image"
	// RegistryPush pushes, and keeps no name (type=registry).
	RegistryPush Type = "registry"
	// CacheOnly writes nothing.
	CacheOnly Type = "cacheonly"
)

// Output is one -o option.
type Output struct {
	Type Type
	// Dest is a path, or "-" for standard output.
	Dest string
	// Names replace the image's names.
	Names []string
	// Push pushes an image of the store.
	Push bool
	// PushByDigest pushes without a tag.
	PushByDigest bool
	// Compression of the layers.
	Compression layer.Compression
	// OCITypes takes OCI's media types, or else docker's; nil means docker's
	// for type=docker only.
	OCITypes *bool
	// Directory writes an OCI layout as a directory (tar=false).
	Directory bool
	// PlatformSplit puts each platform into its own directory (tar, local);
	// nil means: if there are several.
	PlatformSplit *bool
	// Delete removes from a local destination what the result does not hold.
	Delete bool
	// Annotations to add, by platform ("" means all).
	Annotations map[string]Annotations
	// Epoch overrides that of the build; nil means it does not.
	Epoch *time.Time
}

// String names the output in messages.
func (o Output) String() string {
	s := "type=" + string(o.Type)
	if o.Dest != "" {
		s += ",dest=" + o.Dest
	}
	return s
}

// options lists the keys of each type, besides annotations.
var options = map[Type][]string{
	OCI:          {"dest", "name", "tar", "compression", "compression-level", "force-compression", "oci-mediatypes", "rewrite-timestamp", "source-date-epoch"},
	Docker:       {"dest", "name", "tar", "compression", "compression-level", "force-compression", "oci-mediatypes", "rewrite-timestamp", "source-date-epoch"},
	Tar:          {"dest", "platform-split", "source-date-epoch"},
	Local:        {"dest", "platform-split", "mode", "source-date-epoch"},
	ImageStore:   {"name", "push", "push-by-digest", "compression", "compression-level", "force-compression", "oci-mediatypes", "rewrite-timestamp", "source-date-epoch"},
	RegistryPush: {"name", "push", "push-by-digest", "compression", "compression-level", "force-compression", "oci-mediatypes", "rewrite-timestamp", "source-date-epoch"},
	CacheOnly:    {},
}

const typeNames = "oci, docker, tar, local, image, registry or cacheonly"

// ParseOutput reads one -o option by docker's rules: "type=oci,dest=x.tar", a
// lone path for type=local, "-" for a tar stream on standard output. The text
// is a line of CSV, so a value with a comma is quoted as a whole:
// `"name=a,b",type=image`.
func ParseOutput(s string) (Output, error) {
	fields, err := csv.NewReader(strings.NewReader(s)).Read()
	if errors.Is(err, io.EOF) {
		return Output{}, errors.New("an output is empty: give type=… or a directory")
	}
	if err != nil {
		return Output{}, fmt.Errorf("output %q is not a list of key=value: %w", s, err)
	}
	if len(fields) == 1 && fields[0] == s && !strings.HasPrefix(s, "type=") {
		if s == "-" {
			return Output{Type: Tar, Dest: "-"}, nil
		}
		return Output{Type: Local, Dest: s}, nil
	}
	out, err := parseFields(fields)
	if err != nil {
		return Output{}, fmt.Errorf("output %q: %w", s, err)
	}
	return out, nil
}

func parseFields(fields []string) (Output, error) {
	values := map[string]string{}
	for _, field := range fields {
		key, value, ok := strings.Cut(strings.TrimSpace(field), "=")
		if !ok {
			return Output{}, fmt.Errorf("%q is not key=value", field)
		}
		key = normalKey(key)
		if _, twice := values[key]; twice {
			return Output{}, fmt.Errorf("%s is given twice", key)
		}
		values[key] = value
	}
	out := Output{Type: Type(values["type"])}
	known, ok := options[out.Type]
	switch {
	case values["type"] == "":
		return out, fmt.Errorf("it has no type: give type=, one of %s", typeNames)
	case !ok:
		return out, fmt.Errorf("unknown type %q: it is one of %s", out.Type, typeNames)
	}
	delete(values, "type")
	for key, value := range values {
		if err := out.set(key, value, known); err != nil {
			return out, err
		}
	}
	return out, out.check()
}

// normalKey lowers a key as docker does, but not an annotation's own name.
func normalKey(key string) string {
	if strings.HasPrefix(strings.ToLower(key), "annotation") {
		return key
	}
	key = strings.ToLower(key)
	switch key {
	case "destination", "dst":
		return "dest"
	}
	return key
}

func (o *Output) set(key, value string, known []string) error {
	if note, ok, err := exptypes.ParseAnnotationKey(key); ok {
		if err != nil {
			return fmt.Errorf("annotation: %w", err)
		}
		return o.Annotate(note, value)
	}
	if !slices.Contains(known, key) {
		return fmt.Errorf("type=%s has no option %q%s; its options are %s", o.Type, key, meant(key, known), strings.Join(known, ", "))
	}
	if set, ok := setters[key]; ok {
		return set(o, value)
	}
	return o.setBool(key, value)
}

// setters read the options that are not booleans.
var setters = map[string]func(*Output, string) error{
	"dest": func(o *Output, v string) error { o.Dest = v; return nil },
	"name": func(o *Output, v string) error {
		o.Names = strings.FieldsFunc(v, func(r rune) bool { return r == ',' })
		return nil
	},
	"compression": func(o *Output, v string) error {
		kind, ok := compressions[v]
		if !ok {
			return fmt.Errorf("compression=%s: it is one of gzip, zstd or uncompressed", v)
		}
		o.Compression.Type = kind
		return nil
	},
	"compression-level": func(o *Output, v string) (err error) {
		if o.Compression.Level, err = strconv.Atoi(v); err != nil || o.Compression.Level < 0 || o.Compression.Level > 22 {
			return fmt.Errorf("compression-level=%s: it is a number from 0 to 9 for gzip, to 22 for zstd", v)
		}
		return nil
	},
	"mode": func(o *Output, v string) error {
		if v != "copy" && v != "delete" {
			return fmt.Errorf("mode=%s: it is copy, or delete to remove what the result does not hold", v)
		}
		o.Delete = v == "delete"
		return nil
	},
	"source-date-epoch": func(o *Output, v string) error {
		seconds, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return fmt.Errorf("source-date-epoch=%s: it is a number of seconds since 1970", v)
		}
		epoch := time.Unix(seconds, 0).UTC()
		o.Epoch = &epoch
		return nil
	},
}

var compressions = map[string]layer.Type{"gzip": layer.Gzip, "zstd": layer.Zstd, "uncompressed": layer.None}

func (o *Output) setBool(key, value string) error {
	on, err := strconv.ParseBool(value)
	if err != nil {
		return fmt.Errorf("%s=%s: it is true or false", key, value)
	}
	switch key {
	case "push":
		o.Push = on
	case "push-by-digest":
		o.PushByDigest = on
	case "force-compression":
		o.Compression.Force = on
	case "oci-mediatypes":
		o.OCITypes = &on
	case "tar":
		o.Directory = !on
	case "platform-split":
		o.PlatformSplit = &on
	case "rewrite-timestamp":
		if !on {
			return errors.New("rewrite-timestamp=false: the times of new layers are always cut at SOURCE_DATE_EPOCH, so that a build can be repeated")
		}
	}
	return nil
}

// Annotate adds an annotation of one kind, for one platform or all.
func (o *Output) Annotate(note exptypes.AnnotationKey, value string) error {
	if !o.MakesImage() {
		return fmt.Errorf("type=%s makes no image to annotate", o.Type)
	}
	var add Annotations
	switch entry := map[string]string{note.Key: value}; note.Type {
	case exptypes.AnnotationManifest:
		add.Manifest = entry
	case exptypes.AnnotationManifestDescriptor:
		add.ManifestDescriptor = entry
	case exptypes.AnnotationIndex:
		add.Index = entry
	case exptypes.AnnotationIndexDescriptor:
		add.IndexDescriptor = entry
	default:
		return fmt.Errorf("annotation-%s: it is manifest, manifest-descriptor, index or index-descriptor", note.Type)
	}
	o.Annotations = merged(o.Annotations, map[string]Annotations{note.PlatformString(): add})
	return nil
}

// dockerTypes tells whether docker's media types are to be used.
func (o *Output) dockerTypes() bool {
	if o.OCITypes != nil {
		return !*o.OCITypes
	}
	return o.Type == Docker
}

// MakesImage tells outputs that are images from those that are files, or
// nothing.
func (o Output) MakesImage() bool {
	return o.Type != Tar && o.Type != Local && o.Type != CacheOnly
}

// check refuses combinations that make no sense.
func (o *Output) check() error {
	gzip := o.Compression.Type == "" || o.Compression.Type == layer.Gzip
	switch {
	case o.Type == Local && (o.Dest == "" || o.Dest == "-"):
		return errors.New("type=local needs a directory: give dest=DIR")
	case o.Directory && (o.Dest == "" || o.Dest == "-"):
		return errors.New("tar=false needs a directory: give dest=DIR")
	case o.dockerTypes() && o.Compression.Type == layer.Zstd:
		return errors.New("compression=zstd needs OCI's media types: give oci-mediatypes=true")
	case gzip && o.Compression.Level > 9:
		return fmt.Errorf("compression-level=%d: gzip has levels up to 9", o.Compression.Level)
	case o.PushByDigest && !o.Push && o.Type == ImageStore:
		return errors.New("push-by-digest needs push=true")
	}
	if o.Type == RegistryPush {
		o.Push = true
	}
	return nil
}

// distinct refuses two outputs at one place.
func distinct(outputs []Output) error {
	taken := map[string]Output{}
	for _, out := range outputs {
		if out.Dest == "" {
			continue
		}
		place := out.Dest
		if place != "-" {
			place = filepath.Clean(place)
		}
		if other, ok := taken[place]; ok {
			return fmt.Errorf("outputs %s and %s go to the same place", other, out)
		}
		taken[place] = out
	}
	return nil
}

// meant proposes the known word that is spelled most alike.
func meant(word string, known []string) string {
	best := nearest.Name(word, known)
	if best == "" {
		return ""
	}
	return fmt.Sprintf(", did you mean %q?", best)
}
