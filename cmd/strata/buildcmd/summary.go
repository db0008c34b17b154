package buildcmd

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/distribution/reference"

	"github.com/strata-build/strata/runtime/engine"
	"github.com/strata-build/strata/solver"
)

// summary ends a build that went well: a line for a person on stderr, or with
// -q the image's id on stdout.
func (a *app) summary(o *buildOptions, req engine.Request, res engine.Result, took time.Duration) error {
	if o.progressMode() == "quiet" {
		for _, img := range res.Images {
			if img.Desc.Digest != "" {
				fmt.Fprintln(a.Stdout, img.Desc.Digest)
			}
		}
		return nil
	}
	_, err := fmt.Fprintln(a.Stderr, summaryLine(req, res, took))
	return err
}

func summaryLine(req engine.Request, res engine.Result, took time.Duration) string {
	steps, cached := 0, 0
	if res.Report != nil {
		for _, s := range res.Report.Steps {
			steps++
			if s.Verdict == solver.Cached {
				cached++
			}
		}
	}
	work := fmt.Sprintf("%d steps, %d cached", steps, cached)
	if steps > 0 && steps == cached {
		work = "nothing changed"
	}
	what := "built"
	switch len(res.Images) {
	case 0:
	case 1:
		what = strings.TrimSpace(what + " " + imageText(res.Images[0]))
	default:
		what += fmt.Sprintf(" %d images", len(res.Images))
	}
	return fmt.Sprintf("%s (%s, %s)", what, work, roundTime(took))
}

func imageText(b engine.Built) string {
	var parts []string
	if len(b.Names) > 0 {
		parts = append(parts, familiar(b.Names[0]))
	} else if b.Image != "" {
		parts = append(parts, strings.TrimPrefix(b.Image, "images."))
	}
	if b.Desc.Digest != "" {
		parts = append(parts, b.Desc.Digest.String())
	}
	return strings.Join(parts, " ")
}

// familiar shortens a name as docker shows it.
func familiar(name string) string {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name
	}
	return reference.FamiliarString(named)
}

func roundTime(d time.Duration) time.Duration {
	if d < time.Second {
		return d.Round(time.Millisecond)
	}
	return d.Round(100 * time.Millisecond)
}

// metadata is the content of --metadata-file: that of the image, or an object
// of images by name where several were built.
func metadata(res engine.Result) ([]byte, error) {
	if len(res.Images) == 1 {
		return res.Images[0].Metadata()
	}
	all := map[string]json.RawMessage{}
	for _, img := range res.Images {
		data, err := img.Metadata()
		if err != nil {
			return nil, err
		}
		all[img.Image] = data
	}
	return json.MarshalIndent(all, "", "  ")
}
