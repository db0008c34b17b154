// Package dockerfilecompat builds Dockerfiles as BuildKit does, and turns them
// into CUE that is proven to mean the same.
//
// BuildKit's own packages do the translating: parser, instructions, linter,
// dockerui and dockerfile2llb. They expect a daemon behind a gateway; what
// they ask of it is answered here, from directories of this machine:
//
//	Dockerfile ─▶ dockerui ─▶ dockerfile2llb ─▶ LLB + image config
//	                 │ Solve (read a file of a context)
//	                 │ ResolveImageConfig
//	                 ▼
//	              gateway (this package) ─▶ directories, MetaResolver, Remote
//
// So named contexts, ignore files, build arguments, targets and platforms mean
// here what they mean to BuildKit, because it is the same code that reads them.
//
// # Converting
//
// Convert proposes CUE and then proves it, so that nothing in the proposal has
// to be right for the result to be:
//
//	Dockerfile ─┬─ parser, instructions ─▶ lift ─▶ Document ─▶ CUE
//	            │                           ▲                   │ schema.Load
//	            │                           │ keep              │ compiler.Compile
//	            ▼                           │                   ▼
//	         Compile, each stage ──────▶ compiler.Equal, each stage ──▶ all equal: done
//
// A stage that has no native form (lift), that the schema refuses (Load), or
// that means something else (Equal) is kept: its image has a `dockerfile` with
// the text of the stage and of those that it needs. Of several that differ,
// those are kept first that are made of none of the others. Each round keeps
// one more, so it ends; a kept stage that still differs is a DifferenceError.
//
// What is compared: every stage as a target, with the arguments, platforms and
// base images that were given; and, where the Dockerfile has arguments or
// names platforms, once more with another value for every argument, on another
// platform, with base images that have a user and a directory. So a value that
// only happens to be right does not pass.
//
// Arguments become fields with a @tag where one value can stand for all their
// declarations: the global ones, and those with the same default in every
// stage. They are also `args` of the stages that declare them. So a build
// argument has to be given both ways, as an argument and as a tag, to mean
// what it does to the Dockerfile.
//
// Where all that an instruction expands are such arguments, the CUE
// interpolates the fields instead: "/src/\(VERSION)". A FROM that names a stage
// by arguments is stages["base-\(VARIANT)"] for one parameter, and a switch
// between stages for what the platform decides, or what may be an image as
// well (see pick and choice).
//
// Comments stand where they stood: above a stage or an instruction, between the
// lines of a command, at a variable of ENV, below the last instruction of a
// stage. The text has the format of `strata fmt`.
//
// Instructions at the beginning and at the end of a stage become fields of the
// image where they are in the order in which those apply; all others are
// steps, since the history of the image tells the order.
//
// ConvertTree does the same for all Dockerfiles below a directory. Each is
// proven by itself, with the configs of the images of the tree as a registry
// would give them. Then references take the place of names, also of those that
// arguments have by default.
package dockerfilecompat
