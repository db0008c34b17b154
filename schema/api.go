package schema

import (
	"context"
	"errors"
)

// LoadOptions say what to load.
type LoadOptions struct {
	// Args are .cue files, package directories ("./api", "./api:pkg") and
	// patterns ("./..."); none is the package in Dir.
	Args []string
	// Dir is the working directory: Args and the file names in messages are
	// relative to it.
	Dir string
	// Tags set @tag fields: "name=value".
	Tags []string
	// Targets are the images to decode: "api", "./services/api:api", or a
	// stage, "api.stages.build". None is every image.
	Targets []string
	// Overlay gives the contents of files by absolute path, in place of
	// those on the disk or besides them.
	Overlay map[string][]byte
	// Env is the environment in which CUE looks for its module registry.
	Env []string
}

var errPending = errors.New("schema is not loaded yet")

// Load evaluates the CUE that opts name and decodes the requested images.
// A user's mistake is an *Error or Errors.
func Load(ctx context.Context, opts LoadOptions) (*Spec, error) { return nil, errPending }

// Vet checks everything in the packages that opts name: it unifies them with
// the schema, requested or not, and decodes every image.
func Vet(ctx context.Context, opts LoadOptions) error { return errPending }

// Names lists the images that opts name, without decoding them.
func Names(ctx context.Context, opts LoadOptions) ([]string, error) { return nil, errPending }

// InitOptions are the settings of Init.
type InitOptions struct {
	// Module is the path of the CUE module; "" is made from the directory.
	Module string
	// Image names the image in the starting build.cue; "" is "app".
	Image string
}

// Init makes dir a place to build images from and returns the files that it
// wrote, relative to dir.
func Init(dir string, opts InitOptions) ([]string, error) { return nil, errPending }

// Format prints src, one CUE file, in the canonical form.
func Format(src []byte) ([]byte, error) { return nil, errPending }

// Node is what a comment of a Document belongs to: an *Image, a *Step or a
// Field.
type Node interface{ node() }

// Field is a field of an image, such as "expose".
type Field struct {
	Of   *Image
	Name string
}

func (*Image) node() {}
func (*Step) node()  {}
func (Field) node()  {}

// Param is a parameter of a Document: a field with a @tag attribute.
type Param struct {
	Name     string // as given with --set
	Default  string
	Required bool // there is no default
	Comment  string
}

// Document is a build file to print.
type Document struct {
	Package  string // the package clause; "" is "build"
	Comment  string // printed at the top
	Params   []Param
	Images   []*Image
	Comments map[Node]string
}

// ParamRef is a piece of any string in a Document that stands for the value
// of a parameter: Print makes an interpolation of it.
func ParamRef(name string) string { return "\x00" + name + "\x00" }

// Print prints doc as CUE that a person would have written.
func Print(doc *Document) ([]byte, error) { return nil, errPending }

// Error is a mistake of the user at a place in his own files.
type Error struct {
	Pos     Position
	Path    string // CUE path: images.api.steps[2].run
	Message string // what is wrong
	Hint    string // what is allowed, or what was probably meant
	Source  string // the line at Pos
	Width   int    // of what is underlined, in bytes; at least 1
}

func (e *Error) Error() string { return e.Message }

// Errors are several mistakes, in the order of the source.
type Errors []*Error

func (e Errors) Error() string { return "" }

// InputKind is the kind of an Input.
type InputKind string

// The kinds of inputs.
const (
	InputFile InputKind = "file" // its contents, or that it does not exist
	InputDir  InputKind = "dir"  // the names in it
)

// Input is something that the result of a load depends on.
type Input struct {
	Path string // absolute
	Kind InputKind
}

// Inputs are what the load of s depended on besides its options.
func (s *Spec) Inputs() []Input { return nil }

// Fingerprint hashes the present state of inputs.
func Fingerprint(inputs []Input) (string, error) { return "", errPending }
