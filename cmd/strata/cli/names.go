package cli

import (
	"fmt"

	"github.com/distribution/reference"
	digest "github.com/opencontainers/go-digest"

	"github.com/strata-build/strata/runtime/registry"
)

// CheckImageName refuses what cannot be given to an image as a name: what is no
// name, and a digest, which the content decides.
func CheckImageName(name string) error {
	ref, err := registry.ParseName(name)
	if err != nil {
		return &ExitError{ExitMisuse, err}
	}
	if _, ok := ref.(reference.Digested); ok {
		return Misuse("%q holds a digest, which the content decides: give a name, or NAME:TAG", name)
	}
	if reference.FamiliarName(ref) == digest.Canonical.String() {
		return Misuse("%q would be taken for a digest: choose another name than %s", name, digest.Canonical)
	}
	return nil
}

// FullImageName is the familiar name that a new image gets.
func FullImageName(name string) (string, error) {
	if err := CheckImageName(name); err != nil {
		return "", err
	}
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return "", fmt.Errorf("image name: %w", err)
	}
	return reference.FamiliarString(reference.TagNameOnly(ref)), nil
}
