package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"

	"github.com/strata-build/strata/runtime/engine"
	"github.com/strata-build/strata/runtime/exporter"
	"github.com/strata-build/strata/runtime/layer"
)

// CommitRequest says what image a container is made into.
type CommitRequest struct {
	ID string
	// Names to give to the image; may be none.
	Names           []string
	Author, Message string
	// Pause freezes a running container meanwhile.
	Pause bool
	// Change changes the config last. May be nil.
	Change func(*dockerspec.DockerOCIImageConfig) error
	// Created is the time of the image.
	Created     time.Time
	Compression layer.Compression
}

// Commit makes an image of a container: its image, and one layer of what it has
// written. What is in its volumes is not part of it.
func (s *Set) Commit(ctx context.Context, req CommitRequest) (exporter.Result, error) {
	rec, err := s.Get(req.ID)
	if err != nil {
		return exporter.Result{}, err
	}
	parent, err := s.e.Images.Load(ctx, rec.Image.Manifest, nil, nil)
	if err != nil {
		return exporter.Result{}, fmt.Errorf("image of the container: %w", err)
	}
	var img dockerspec.DockerOCIImage
	if err := json.Unmarshal(parent.RawConfig, &img); err != nil {
		return exporter.Result{}, fmt.Errorf("image of the container: %w", err)
	}
	rec.Config.describe(&img.Config)
	if req.Change != nil {
		if err := req.Change(&img.Config); err != nil {
			return exporter.Result{}, err
		}
	}
	id, err := s.pack(ctx, &rec, &req)
	if err != nil {
		return exporter.Result{}, err
	}
	return s.e.AssembleImage(ctx, engine.AssembleRequest{
		Parent: &parent, Layers: []string{id}, Config: &img.Config, Author: req.Author, Comment: req.Message,
		CreatedBy: strings.Join(rec.Config.Args(), " "), Names: req.Names, Created: req.Created, Compression: req.Compression,
	})
}

// pack makes a layer of what the container has written. Times stay as they are.
func (s *Set) pack(ctx context.Context, rec *Record, req *CommitRequest) (id string, err error) {
	if req.Pause && rec.State.Live() {
		thaw, err := s.freeze(ctx, rec.ID)
		if err != nil {
			return "", err
		}
		defer func() { err = errors.Join(err, thaw()) }()
	}
	err = s.changed(ctx, rec.ID, func(dir string, _ []string) error {
		id, err = s.e.Layers.WithEpoch(time.Time{}).Pack(ctx, dir, req.Compression)
		return err
	})
	return id, err
}

// describe writes into an image's config what the container was run with, as
// docker does.
func (c *Config) describe(img *dockerspec.DockerOCIImageConfig) {
	img.Entrypoint, img.Cmd, img.Env = c.Entrypoint, c.Cmd, c.Env
	img.WorkingDir, img.User, img.StopSignal, img.Labels = c.Workdir, c.User, c.StopSignal, c.Labels
	for _, p := range c.Network.Ports {
		if img.ExposedPorts == nil {
			img.ExposedPorts = map[string]struct{}{}
		}
		img.ExposedPorts[p.Exposed()] = struct{}{}
	}
	img.Healthcheck = nil
	if h := c.Health; h != nil {
		img.Healthcheck = &dockerspec.HealthcheckConfig{
			Test: h.Test, Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod,
			StartInterval: h.StartInterval, Retries: h.Retries,
		}
	}
}
