package exporter

import (
	"encoding/json"
	"fmt"
	"strings"
)

// IDFile is the content of --iidfile: the config's digest, or the index's for
// several platforms; "" if no image was made.
func (r Result) IDFile() string {
	if r.ConfigDigest != "" {
		return r.ConfigDigest.String()
	}
	return r.Desc.Digest.String()
}

// Metadata is the content of --metadata-file, with buildx' keys.
func (r Result) Metadata() ([]byte, error) {
	m := map[string]any{}
	if r.Desc.Digest != "" {
		m["containerimage.digest"] = r.Desc.Digest
		m["containerimage.descriptor"] = r.Desc
	}
	if r.ConfigDigest != "" {
		m["containerimage.config.digest"] = r.ConfigDigest
	}
	if len(r.Names) > 0 {
		m["image.name"] = strings.Join(r.Names, ",")
	}
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write build metadata: %w", err)
	}
	return append(data, '\n'), nil
}
