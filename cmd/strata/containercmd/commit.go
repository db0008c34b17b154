package containercmd

import (
	"context"
	"fmt"
	"io"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/strata-build/strata/cmd/strata/cli"
	dockerfilecompat "github.com/strata-build/strata/dockerfile-compat"
	"github.com/strata-build/strata/internal/printable"
	"github.com/strata-build/strata/runtime/container"
	"github.com/strata-build/strata/runtime/layer"
)

func (a *app) commitCommand() *cobra.Command {
	var req container.CommitRequest
	var changes []string
	cmd := &cobra.Command{
		Use:   "commit [flags] CONTAINER [REPOSITORY[:TAG]]",
		Short: "Make an image of a container's changes",
		Long: "Make an image of a container: its image, and one layer of what it has written. What is in its\n" +
			"volumes is not part of it.",
		Args: cli.Between(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, name := range args[1:] {
				full, err := cli.FullImageName(name)
				if err != nil {
					return err
				}
				req.Names = append(req.Names, full)
			}
			if err := dockerfilecompat.ApplyChanges(&dockerspec.DockerOCIImageConfig{}, changes); err != nil {
				return cli.Misuse("--change: %v", err)
			}
			if len(changes) > 0 {
				req.Change = func(config *dockerspec.DockerOCIImageConfig) error {
					return dockerfilecompat.ApplyChanges(config, changes)
				}
			}
			return a.commit(cmd.Context(), args[0], req)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&req.Author, "author", "a", "", "author, such as \"Ann <ann@example.org>\"")
	f.StringVarP(&req.Message, "message", "m", "", "message for the history")
	f.StringArrayVarP(&changes, "change", "c", nil, "Dockerfile instruction to apply, such as 'CMD [\"httpd\", \"-f\"]'")
	f.BoolVarP(&req.Pause, "pause", "p", true, "pause the container meanwhile")
	return cmd
}

func (a *app) commit(ctx context.Context, name string, req container.CommitRequest) error {
	var err error
	if req.Created, err = a.commitTime(); err != nil {
		return err
	}
	return a.withContainers(ctx, "", func(s *container.Set) error {
		rec, err := s.Find(ctx, name)
		if err != nil {
			return err
		}
		req.ID = rec.ID
		result, err := s.Commit(ctx, req)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(a.Stdout, result.ConfigDigest)
		return err
	})
}

func (a *app) diffCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "diff CONTAINER",
		Short: "List what a container has added (A), changed (C) and deleted (D)",
		Args:  cli.Exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withContainers(cmd.Context(), "", func(s *container.Set) error {
				rec, err := s.Find(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				return s.Changes(cmd.Context(), rec.ID, func(c layer.Change) error { return writeChange(a.Stdout, c) })
			})
		},
	}
}

func writeChange(w io.Writer, c layer.Change) error {
	if c.Path == "/" {
		return nil
	}
	_, err := fmt.Fprintf(w, "%c %s\n", c.Kind, printable.Quoted(c.Path))
	return err
}

// commitTime is SOURCE_DATE_EPOCH where it is set, and otherwise now: a
// container's state is nothing that could be made again.
func (a *app) commitTime() (time.Time, error) {
	if a.Env["SOURCE_DATE_EPOCH"] == "" {
		return time.Now().UTC(), nil
	}
	return a.Epoch(nil)
}
