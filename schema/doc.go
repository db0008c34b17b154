// Package schema turns CUE into a Spec: it holds the CUE schema of the
// language, loads a user's files, checks them, and prints a Spec as CUE.
//
// # Loading
//
// The schema only constrains, it has no defaults and adds no fields. So a
// valid build file has the same value with and without it, and loading does
// not need to evaluate it:
//
//	arguments ─▶ groups (one per CUE module) ─▶ CUE packages ─▶ survey of the syntax
//	                                                                │
//	        ┌───────────────────────────────────────────────────────┘
//	        ▼
//	  evaluate with the *hollow* schema ─▶ decode in Go, strictly ─▶ Spec
//	        │ error                              │ error
//	        └──────────────┬─────────────────────┘
//	                       ▼
//	  evaluate with the *real* schema ─▶ decode in Go ─▶ Spec, or the errors
//
// In the hollow schema every definition is an open struct, so `b.#Image & {…}`
// costs nothing (1,000 images: 0.1 s of evaluation against 3.4 s), and no
// error of CUE's ever points into the schema. The Go decoder refuses all that
// the schema refuses, at the place where the user wrote it. The second
// evaluation is there because a program can observe constraints: a
// disjunction may be resolved by them. Files that compare with bottom, or
// that have a disjunction of structs, are evaluated with the real schema at
// once. Vet always does both.
//
// # References
//
// `from: stages.build` is a CUE reference. The decoder follows it to a
// location, (package, path), and decodes each location once; so a base that
// a thousand images share is one *Image. A location below `images` or
// `stages` declares an image, which brings its own context. What is declared
// anywhere else, a definition or a hidden field, takes the context of its
// file when it is referred to, and that of the image around it when it is
// instantiated there, by a unification or as a stage.
//
// CUE evaluates two fields that are nothing but a reference to the same
// template as one shared node; within such a node references resolve to the
// template's path, which the decoder maps back to the image that it is
// decoding (see scope).
//
// # Errors
//
// A user's mistake is an *Error with the place in the user's own files. Where
// a value went through a template, the place is the last one on the way that
// lies in the packages that were asked for.
package schema
