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
package dockerfilecompat
