package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/platforms"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/runtime/exporter"
	"github.com/strata-build/strata/runtime/image"
	"github.com/strata-build/strata/runtime/layer"
)

// AssembleRequest describes an image of layers that were not made by a build:
// those of `import` and of `commit`.
type AssembleRequest struct {
	// Parent is the image below; nil makes an image from nothing.
	Parent *image.Manifest
	// Layers are ids, bottom first, that go on top of the parent's; may be
	// none.
	Layers []string
	// Platform is that of an image from nothing; the zero value is this
	// machine's. Otherwise it is the parent's.
	Platform ocispec.Platform
	// Config replaces the parent's; nil keeps it.
	Config *dockerspec.DockerOCIImageConfig
	// Author replaces the parent's; "" keeps it.
	Author string
	// CreatedBy and Comment are what the history says of the layers.
	CreatedBy, Comment string
	// Names to give to the image; without one it is known by its digest.
	Names []string
	// Created is the time in config and history; the zero value is the epoch,
	// so that the same content gives the same digest.
	Created     time.Time
	Compression layer.Compression
}

// AssembleImage makes an image in the store of a parent, layers and a config.
func (e *Engine) AssembleImage(ctx context.Context, req AssembleRequest) (exporter.Result, error) {
	p := exporter.PlatformImage{Platform: req.Platform}
	if p.Platform.OS == "" {
		p.Platform = e.Platform()
	}
	if req.Parent != nil {
		below, err := e.Images.Unpack(ctx, image.UnpackRequest{Manifest: *req.Parent})
		if err != nil {
			return exporter.Result{}, err
		}
		p.Platform, p.BaseConfig, p.Layers = req.Parent.Platform(), req.Parent.RawConfig, below
	}
	p.Layers = append(p.Layers, req.Layers...)
	var err error
	if p.Config, err = req.config(p.Platform); err != nil {
		return exporter.Result{}, err
	}
	return e.Exporter.Export(ctx,
		exporter.Image{Names: req.Names, Platforms: []exporter.PlatformImage{p}, Epoch: req.Created},
		[]exporter.Output{{Type: exporter.ImageStore, Compression: req.Compression}}, nil)
}

// config is the image config that the exporter completes with layers. Fields
// of the parent's that are not known here stay.
func (req AssembleRequest) config(platform ocispec.Platform) ([]byte, error) {
	fields, history, err := req.parentConfig()
	if err != nil {
		return nil, err
	}
	created := exporter.Epoch(req.Created)
	history = append(history, ocispec.History{
		Created: &created, CreatedBy: req.CreatedBy, Comment: req.Comment, Author: req.Author, EmptyLayer: len(req.Layers) == 0,
	})
	values := map[string]any{"created": created, "history": history}
	if req.Parent == nil {
		platform = platforms.Normalize(platform)
		values["os"], values["architecture"] = platform.OS, platform.Architecture
		if platform.Variant != "" {
			values["variant"] = platform.Variant
		}
	}
	if req.Config != nil {
		values["config"] = req.Config
	} else if req.Parent == nil {
		values["config"] = dockerspec.DockerOCIImageConfig{}
	}
	if req.Author != "" {
		values["author"] = req.Author
	}
	return withFields(fields, values)
}

// parentConfig returns the fields of the parent's config, without those of the
// container that docker once made it in, and its history.
func (req AssembleRequest) parentConfig() (map[string]json.RawMessage, []ocispec.History, error) {
	fields := map[string]json.RawMessage{}
	if req.Parent == nil {
		return fields, nil, nil
	}
	if err := json.Unmarshal(req.Parent.RawConfig, &fields); err != nil {
		return nil, nil, fmt.Errorf("read config of the image below: %w", err)
	}
	if fields == nil {
		return nil, nil, errors.New("read config of the image below: it is null")
	}
	delete(fields, "container")
	delete(fields, "container_config")
	return fields, req.Parent.Config.History[:len(req.Parent.Config.History):len(req.Parent.Config.History)], nil
}

func withFields(fields map[string]json.RawMessage, values map[string]any) ([]byte, error) {
	for name, value := range values {
		data, err := json.Marshal(value)
		if err != nil {
			return nil, fmt.Errorf("write image config: %w", err)
		}
		fields[name] = data
	}
	return json.Marshal(fields)
}
