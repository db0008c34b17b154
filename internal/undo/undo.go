// Package undo collects what has to be undone at the end of something that was
// built up step by step: mounts to take down, files to close, locks to release.
package undo

import (
	"errors"
	"slices"
)

// Stack is what has to be undone, in the order in which it was done. The zero
// value has nothing.
type Stack []func() error

// Add puts one more thing on top.
func (s *Stack) Add(fn func() error) { *s = append(*s, fn) }

// Close undoes everything, last to first, whatever fails. A second Close does
// nothing.
func (s *Stack) Close() error {
	var errs []error
	for _, fn := range slices.Backward(*s) {
		errs = append(errs, fn())
	}
	*s = nil
	return errors.Join(errs...)
}
