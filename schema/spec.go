package schema

import "fmt"

// Position is a place in a file that the user wrote. The zero Position is
// "unknown".
type Position struct {
	File   string // as the user named it, or relative to the working directory
	Line   int    // 1-based
	Column int    // 1-based, in bytes as CUE counts; 0 where only the line is known
}

// IsValid reports whether p names a place.
func (p Position) IsValid() bool { return p.Line > 0 }

func (p Position) String() string {
	if !p.IsValid() {
		return p.File
	}
	if p.Column == 0 {
		return fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Var is one name=value pair. Lists of Var keep the order of the source,
// which is the order in which the compiler applies them.
type Var struct {
	Name  string
	Value string
	// Unset is true where the source says null: an arg that is declared
	// without a default.
	Unset bool
	Pos   Position
}

// Spec is everything that one load of CUE describes: the requested images,
// in the order of the source.
type Spec struct {
	Images []*Image

	inputs []Input
}

// Image is an image to build or a stage of one. Images that are reached
// through references are the same *Image where the reference is to the same
// value of the same instance, so that a base shared by a hundred images is
// decoded and compiled once. Identity is never a name: equal Images compile
// to equal LLB.
type Image struct {
	// Name is the field's label below `images` or `stages`.
	Name string
	// Path is the CUE path of the value, for messages: images.api.stages.build.
	Path string
	// Package is the directory of the package that declares the image,
	// relative to the module root and slash-separated; "." at the root and
	// for a lone file.
	Package string
	Pos     Position

	Config Config

	From   *From // nil: scratch
	Steps  []*Step
	Stages []*Image // in the order of the source; private

	Dockerfile *Dockerfile // what the image starts from, instead of From

	// Context is the absolute directory that copies and bind mounts read.
	// Stages inherit it from the image that holds them.
	Context string

	Platform  string
	Platforms []string
	Args      []Var
	Tags      []string
}

// From is what an image, a copy or a mount starts from. Exactly one of Ref,
// Image, Source and Switch is set.
type From struct {
	Ref    string // a registry reference, or "scratch"
	Image  *Image
	Source *Source
	Switch *Switch
	Pos    Position
}

// Switch is a From that is known only when an image is compiled for a
// platform: Word is expanded, and is the Value of the case to take.
type Switch struct {
	Word    string
	Cases   []Case
	Default *From // nil: a word without a case is a mistake
	Pos     Position
}

// Case is what a Switch takes for one value of its word.
type Case struct {
	Value string
	From  *From
}

// Each calls fn for from and, where it is a switch, for all that it may take.
func (from *From) Each(fn func(*From)) {
	if from == nil {
		return
	}
	fn(from)
	if from.Switch == nil {
		return
	}
	for _, c := range from.Switch.Cases {
		c.From.Each(fn)
	}
	from.Switch.Default.Each(fn)
}

// Source is a From that is no image. Exactly one of Local, Git, HTTP and OCI
// is set.
type Source struct {
	// Local is an absolute directory once loaded. In CUE a relative path is
	// relative to the context of the image, and a leading "/" is the root
	// of the CUE module (or, for a lone file, its directory).
	Local string
	Git   string
	HTTP  string
	OCI   string // an absolute OCI layout directory or docker/OCI archive once loaded, with an optional :tag or @digest

	Ref      string
	Checksum string
	Subdir   string
	Include  []string
	Exclude  []string
	Pos      Position
}

// Dockerfile builds a stage from a Dockerfile. Exactly one of Path and Text
// is set.
type Dockerfile struct {
	Path   string // absolute once loaded
	Text   string
	Target string
	Pos    Position
}

// Config is what the container runtime sees. Pointers and nil slices tell
// "not given" from "given as empty": an empty entrypoint resets the base's.
type Config struct {
	Env         []Var
	Workdir     *string
	Shell       []string
	User        *string
	Entrypoint  *Command
	Cmd         *Command
	Expose      []string
	Volumes     []string
	Labels      []Var
	Annotations []Var
	StopSignal  *string
	Healthcheck *Healthcheck
	OnBuild     []string
	Author      *string

	// Pos is where each field was given, by its CUE name: "workdir".
	Pos map[string]Position
}

// Command is a shell command (Shell is true and Args has one element) or an
// argument vector.
type Command struct {
	Shell bool
	Args  []string
}

// Healthcheck is a container's own test of its health.
type Healthcheck struct {
	Test          Command // no Args: disabled
	Interval      string  // Go durations, as in a Dockerfile
	Timeout       string
	StartPeriod   string
	StartInterval string
	Retries       int
	Pos           Position
}

// Verb is what a step does.
type Verb string

// The verbs, named as the fields of #Step.
const (
	VerbRun     Verb = "run"
	VerbCopy    Verb = "copy"
	VerbAdd     Verb = "add"
	VerbFile    Verb = "file"
	VerbMkdir   Verb = "mkdir"
	VerbRm      Verb = "rm"
	VerbSymlink Verb = "symlink"
	VerbSet     Verb = "set"
	VerbArg     Verb = "arg"
)

// Step is one step of an image. Verb says which of the groups below are
// meaningful; the loader refuses fields that the verb does not use.
type Step struct {
	Verb Verb
	Pos  Position
	Name string // shown in the progress instead of the command; never part of a key

	// run
	Run Command
	// copy and add: the sources go to To, or each to its own destination.
	// mkdir, rm: Paths. symlink: Paths[0] is the target, To the link.
	Paths []string
	Pairs []Pair // copy, add: {source: destination}; file: {path: content}

	From     *From  // copy, add, symlink
	To       string // copy, add, symlink
	Include  []string
	Exclude  []string
	Parents  bool
	Link     bool
	Checksum string
	Unpack   *bool
	// KeepGitDir keeps .git of a repository that add fetches.
	KeepGitDir bool
	Content    string // file with one path in Paths
	Files      []Pair // copy, add: {name: content} beside the sources

	Chown string
	Chmod string // octal digits or symbolic, as given

	Set *Config // set
	Arg []Var   // arg

	Env      []Var // run
	Workdir  *string
	User     *string
	Mounts   []*Mount // in the order of the source
	Cache    []string // targets of shared cache mounts
	Tmpfs    []string
	Secrets  []Secret
	SSH      []string // ids of agents, "default" for that without one
	Devices  []Device
	Network  string // "" , "default", "none", "host"
	Insecure bool
	Stdin    *string

	// Expand asks for $VAR expansion as in a Dockerfile.
	Expand bool

	// FieldPos is where each field of the step was given, by its CUE name.
	FieldPos map[string]Position
}

// Pair is one `source: destination` of a copy or `path: content` of a file.
type Pair struct {
	Key, Value string
	Pos        Position
}

// Secret is one entry of `secrets`: Target is an absolute path or the name
// of an environment variable.
type Secret struct {
	Target string
	ID     string
	// Required fails the step when the secret is not given.
	Required bool
	Pos      Position
}

// Device is one entry of `devices`, by its name in the Container Device
// Interface.
type Device struct {
	Name string
	// Required fails the step where there is no such device.
	Required bool
	Pos      Position
}

// Mount is one entry of `mounts`.
type Mount struct {
	Target   string
	Type     string // "bind" (the default), "cache", "tmpfs", "secret", "ssh"
	From     *From  // nil: the context
	Source   string
	RW       bool // `rw: true`: a writable bind mount
	ReadOnly bool // `rw: false`: a read-only cache or tmpfs mount
	ID       string
	Env      string // secret: the variable that has it too
	Sharing  string
	Size     int64
	Required bool
	UID      *int
	GID      *int
	Mode     string // octal digits, "" when not given
	Pos      Position
}
