package main

import (
	"context"
	"fmt"

	"github.com/distribution/reference"
	"github.com/spf13/cobra"

	"github.com/strata-build/strata/runtime/engine"
)

func (a *app) tagCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "tag SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
		Short: "Give an image another name",
		Long:  "Give an image a further name. What had the name before loses it.",
		Args:  exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkTarget(args[1]); err != nil {
				return err
			}
			return a.withEngine(cmd.Context(), func(e *engine.Engine) error { return tag(cmd.Context(), e, args[0], args[1]) })
		},
	}
}

func tag(ctx context.Context, e *engine.Engine, source, target string) error {
	img, err := e.Images.Resolve(ctx, source)
	if err != nil {
		return err
	}
	_, err = e.Images.Put(ctx, target, img.Desc)
	return err
}

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
