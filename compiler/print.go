package compiler

import "io"

// Text prints the plan for people.
func (p *Plan) Text(w io.Writer) error { return nil }

// JSON prints one object with the definition and config of each target.
func (p *Plan) JSON(w io.Writer) error { return nil }

// Dot prints the graph of all targets for graphviz.
func (p *Plan) Dot(w io.Writer) error { return nil }

// LLB writes the marshalled pb.Definition of the only target, as `buildctl
// debug dump-llb` reads it.
func (p *Plan) LLB(w io.Writer) error { return nil }
