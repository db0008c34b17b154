package exporter

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/containerd/platforms"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/runtime/layer"
)

// historyComment marks history that the exporter had to make up. It is
// BuildKit's, for the same digest.
const historyComment = "buildkit.exporter.image.v0"

// defaultPath is the PATH of an image whose front end gives no config.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// config makes the image config: what the front end gave, with the layers'
// diff ids, a history that has one entry for each layer, and times up to the
// epoch. Fields that are not known here stay as they are.
func (j *job) config(p PlatformImage, layers []layer.Info) ([]byte, error) {
	raw := p.Config
	if len(raw) == 0 {
		var err error
		if raw, err = defaultConfig(p.Platform); err != nil {
			return nil, err
		}
	}
	img, fields, err := parseConfig(raw)
	if err != nil {
		return nil, err
	}
	base, err := parseBase(p.BaseConfig)
	if err != nil {
		return nil, err
	}
	history := alignHistory(img.History, p, len(layers), j.epoch)
	clampHistory(history, base, j.epoch)
	rootfs := ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{}}
	for _, info := range layers {
		rootfs.DiffIDs = append(rootfs.DiffIDs, info.DiffID)
	}
	values := map[string]any{"rootfs": rootfs, "history": history}
	if _, ok := fields["created"]; !ok {
		values["created"] = lastTime(history)
	} else if img.Created != nil && img.Created.After(j.epoch) {
		values["created"] = &j.epoch
	}
	if err := setFields(fields, values); err != nil {
		return nil, err
	}
	return json.Marshal(fields)
}

func parseConfig(raw []byte) (ocispec.Image, map[string]json.RawMessage, error) {
	var img ocispec.Image
	if err := json.Unmarshal(raw, &img); err != nil {
		return img, nil, fmt.Errorf("read image config: %w", err)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return img, nil, fmt.Errorf("read image config: %w", err)
	}
	switch {
	case fields == nil:
		return img, nil, fmt.Errorf("the image config is null")
	case img.OS == "":
		return img, nil, fmt.Errorf("the image config names no os")
	case img.Architecture == "":
		return img, nil, fmt.Errorf("the image config names no architecture")
	}
	return img, fields, nil
}

func parseBase(raw []byte) (ocispec.Image, error) {
	var base ocispec.Image
	if len(raw) == 0 {
		return base, nil
	}
	if err := json.Unmarshal(raw, &base); err != nil {
		return base, fmt.Errorf("read config of the base image: %w", err)
	}
	return base, nil
}

func setFields(fields map[string]json.RawMessage, values map[string]any) error {
	for key, value := range values {
		data, err := json.Marshal(value)
		if err != nil {
			return fmt.Errorf("write image config: %w", err)
		}
		fields[key] = data
	}
	return nil
}

// lastTime is the time of the last step that has one.
func lastTime(history []ocispec.History) *time.Time {
	var last *time.Time
	for _, h := range history {
		if h.Created != nil {
			last = h.Created
		}
	}
	return last
}

// alignHistory makes the history have exactly one entry that is not empty for
// each layer, as BuildKit's normalizeLayersAndHistory does.
func alignHistory(given []ocispec.History, p PlatformImage, layers int, epoch time.Time) []ocispec.History {
	history := slices.Clone(given) // nil stays nil: the config then says null
	used := 0
	for i := range history {
		// More steps than layers should not happen; the last ones lose.
		if used >= layers {
			history[i].EmptyLayer = true
		}
		if !history[i].EmptyLayer {
			used++
		}
	}
	for ; used < layers; used++ {
		history = append(history, ocispec.History{Created: &epoch, CreatedBy: description(p, used), Comment: historyComment})
	}
	for i, h := range history {
		if !h.EmptyLayer && h.Created == nil {
			history[i].Created = &epoch
		}
	}
	fillTimes(history)
	return history
}

func description(p PlatformImage, i int) string {
	if i < len(p.Descriptions) && p.Descriptions[i] != "" {
		return p.Descriptions[i]
	}
	return "created by strata"
}

// fillTimes gives entries without a time that of the first new layer after
// them, or else of the layer before.
func fillTimes(history []ocispec.History) {
	var created *time.Time
	gap := false
	for _, h := range history {
		if h.Created == nil {
			gap = true
			continue
		}
		created = h.Created
		if gap {
			break
		}
	}
	gap = false
	for i, h := range history {
		switch {
		case h.Created == nil:
			gap = true
			history[i].Created = created
		case gap:
			created = h.Created
		}
	}
}

// clampHistory cuts times at the epoch, but for the entries that are the base
// image's: those were not made by this build.
func clampHistory(history []ocispec.History, base ocispec.Image, epoch time.Time) {
	ours := false
	for i, h := range history {
		if !ours && i < len(base.History) && reflect.DeepEqual(h, base.History[i]) {
			continue
		}
		ours = true
		if h.Created == nil || h.Created.After(epoch) {
			history[i].Created = &epoch
		}
	}
}

// defaultConfig is the config of a result whose front end gave none.
func defaultConfig(p ocispec.Platform) ([]byte, error) {
	img := ocispec.Image{Platform: platforms.Normalize(p)}
	img.RootFS.Type = "layers"
	img.Config.WorkingDir = "/"
	if img.OS != "windows" {
		img.Config.Env = []string{defaultPath}
	}
	data, err := json.Marshal(img)
	if err != nil {
		return nil, fmt.Errorf("write image config: %w", err)
	}
	return data, nil
}
