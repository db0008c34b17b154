package main

import (
	"fmt"

	"github.com/distribution/reference"
)

// checkTarget refuses what cannot be given to an image as a name: what is no
// name, and a digest, which the content decides.
func checkTarget(name string) error {
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return misuse("%q is not an image name: %v", name, err)
	}
	if _, ok := ref.(reference.Digested); ok {
		return misuse("%q holds a digest, which the content decides: give a name, or NAME:TAG", name)
	}
	return nil
}

// fullTarget is the familiar name that a new image gets.
func fullTarget(name string) (string, error) {
	if err := checkTarget(name); err != nil {
		return "", err
	}
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return "", fmt.Errorf("image name: %w", err)
	}
	return reference.FamiliarString(reference.TagNameOnly(ref)), nil
}
