package imagecmd

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/distribution/reference"
	digest "github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/cmd/strata/output"
	"github.com/strata-build/strata/runtime/engine"
)

type imagesOptions struct {
	all, quiet, noTrunc, digests bool
	filters                      []string
	format                       string
}

func (a *app) imagesCommand() *cobra.Command {
	var o imagesOptions
	cmd := &cobra.Command{
		Use:   "images [flags] [REPOSITORY[:TAG]]",
		Short: "List images",
		Long: "List the images of the store, the newest first. The size is that of the uncompressed layers,\n" +
			"each counted once; `strata du -v` tells what images share.",
		Args: cli.AtMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			filter, err := parseImageFilter(o.filters, args)
			if err != nil {
				return err
			}
			return a.WithEngine(cmd.Context(), func(e *engine.Engine) error { return a.images(cmd.Context(), e, o, filter) })
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.all, "all", "a", false, "list all images; there are no hidden ones, so this changes nothing")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "print ids only")
	f.BoolVar(&o.noTrunc, "no-trunc", false, "print whole ids")
	f.BoolVar(&o.digests, "digests", false, "print digests")
	f.StringArrayVarP(&o.filters, "filter", "f", nil, "dangling=true, label=NAME[=VALUE], before=IMAGE, since=IMAGE, until=TIME, reference=PATTERN")
	f.StringVar(&o.format, "format", "", "table, json, or a Go template for each image")
	return cmd
}

// imageRow is what --format can name.
type imageRow struct {
	Containers, CreatedAt, CreatedSince, Digest, ID, Repository, SharedSize, Size, Tag, UniqueSize string
}

var imageHeaders = map[string]string{
	"Containers": "CONTAINERS", "CreatedAt": "CREATED AT", "CreatedSince": "CREATED", "Digest": "DIGEST", "ID": "IMAGE ID",
	"Repository": "REPOSITORY", "SharedSize": "SHARED SIZE", "Size": "SIZE", "Tag": "TAG", "UniqueSize": "UNIQUE SIZE",
}

func (a *app) images(ctx context.Context, e *engine.Engine, o imagesOptions, filter *imageFilter) error {
	all, err := e.ImageList(ctx)
	if err != nil {
		return err
	}
	if all, err = filter.apply(ctx, e, all); err != nil {
		return err
	}
	sortImages(all)
	l := output.Listing{Table: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}", Headers: imageHeaders}
	if o.digests {
		l.Table = strings.Replace(l.Table, "{{.Tag}}", "{{.Tag}}\t{{.Digest}}", 1)
	}
	for _, f := range all {
		if f.Damage != nil {
			fmt.Fprintf(a.Stderr, "strata: image %s is damaged (%v): pull or build it again, or remove it\n", displayName(f), f.Damage)
		}
		l.Rows = append(l.Rows, rowOf(f, o.id()))
	}
	if o.quiet && o.format == "" {
		return a.printIDs(all, o.id())
	}
	return l.Print(a.Stdout, o.format)
}

// printIDs prints each id once.
func (a *app) printIDs(all []engine.ImageFacts, id idForm) error {
	seen := map[digest.Digest]bool{}
	for _, f := range all {
		if seen[f.ID] {
			continue
		}
		seen[f.ID] = true
		if _, err := fmt.Fprintln(a.Stdout, id(f.ID)); err != nil {
			return err
		}
	}
	return nil
}

// displayName names an image in a message.
func displayName(f engine.ImageFacts) string {
	if f.Name != "" {
		return f.Name
	}
	return f.ID.String()
}

// sortImages puts the newest first.
func sortImages(all []engine.ImageFacts) {
	slices.SortStableFunc(all, func(a, b engine.ImageFacts) int {
		if n := b.Created().Compare(a.Created()); n != 0 {
			return n
		}
		return strings.Compare(a.Name, b.Name)
	})
}

// none stands where docker has nothing to show.
const none = "<none>"

func rowOf(f engine.ImageFacts, id idForm) imageRow {
	repository, tag := splitName(f.Name)
	r := imageRow{
		Containers: "N/A", Repository: repository, Tag: tag, Digest: f.Desc.Digest.String(), ID: id(f.ID),
		CreatedAt: f.Created().Local().Format("2006-01-02 15:04:05 -0700 MST"), CreatedSince: output.Since(f.Created()),
		Size: output.Size(f.Size), SharedSize: output.Size(f.Shared), UniqueSize: output.Size(f.Unique()),
	}
	if f.Damage != nil {
		r.Size, r.SharedSize, r.UniqueSize = "N/A", "N/A", "N/A"
	}
	return r
}

// splitName splits a familiar name into repository and tag.
func splitName(name string) (repository, tag string) {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return none, none
	}
	tag = none
	if tagged, ok := named.(reference.Tagged); ok {
		tag = tagged.Tag()
	}
	return reference.FamiliarName(named), tag
}

// shortDigits is how many digits of an id are shown.
const shortDigits = 12

// idForm writes an id in one of two ways.
type idForm func(digest.Digest) string

func shortID(id digest.Digest) string { return id.Encoded()[:shortDigits] }

func wholeID(id digest.Digest) string { return id.String() }

func (o imagesOptions) id() idForm {
	if o.noTrunc {
		return wholeID
	}
	return shortID
}

// imageFilter is what --filter and a name select.
type imageFilter struct {
	dangling      *bool
	labels        []string
	without       []string // labels that an image must not have
	before, since []string
	until         time.Time
	references    []string
}

// parseImageFilter reads docker's filters. A name is a reference filter, too.
func parseImageFilter(filters, names []string) (*imageFilter, error) {
	f := &imageFilter{references: names}
	for _, text := range filters {
		key, value, ok := strings.Cut(text, "=")
		if !ok {
			return nil, cli.Misuse("--filter %s: it is NAME=VALUE, such as dangling=true", text)
		}
		if err := f.set(key, value); err != nil {
			return nil, err
		}
	}
	for _, pattern := range f.references {
		if _, err := path.Match(pattern, ""); err != nil {
			return nil, cli.Misuse("%q is no pattern of image names: %v", pattern, err)
		}
	}
	return f, nil
}

func (f *imageFilter) set(key, value string) error {
	switch key {
	case "dangling":
		on, err := strconv.ParseBool(value)
		if err != nil {
			return cli.Misuse("--filter dangling=%s: it is true or false", value)
		}
		f.dangling = &on
	case "label":
		f.labels = append(f.labels, value)
	case "label!":
		f.without = append(f.without, value)
	case "before":
		f.before = append(f.before, value)
	case "since":
		f.since = append(f.since, value)
	case "until":
		t, err := parseUntil(value)
		if err != nil {
			return err
		}
		f.until = t
	case "reference":
		f.references = append(f.references, value)
	default:
		return cli.Misuse("--filter %s: the filters are dangling, label, before, since, until and reference", key)
	}
	return nil
}

// parseUntil reads a time, or how long ago it was.
func parseUntil(text string) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil {
		return time.Now().Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return time.Unix(n, 0), nil
	}
	return time.Time{}, cli.Misuse("--filter until=%s: it is a duration such as 24h, or a time such as 2026-01-31T12:00:00", text)
}

// apply keeps what the filter selects.
func (f *imageFilter) apply(ctx context.Context, e *engine.Engine, all []engine.ImageFacts) ([]engine.ImageFacts, error) {
	earliest, latest, err := f.bounds(ctx, e)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(i engine.ImageFacts) bool {
		made := i.Created()
		return f.dangling != nil && *f.dangling != (i.Name == "") ||
			!earliest.IsZero() && !made.After(earliest) || !latest.IsZero() && !made.Before(latest) ||
			!cli.HasLabels(i.Main.Config.Config.Labels, f.labels) || f.excludes(i.Main.Config.Config.Labels) || !matchesAny(i.Name, f.references)
	}), nil
}

// bounds are the times that before, since and until set.
func (f *imageFilter) bounds(ctx context.Context, e *engine.Engine) (earliest, latest time.Time, err error) {
	latest = f.until
	created := func(ref string) (time.Time, error) {
		img, err := e.Images.Resolve(ctx, ref)
		if err != nil {
			return time.Time{}, err
		}
		facts, err := e.ImageFacts(ctx, img, nil)
		return facts.Created(), err
	}
	for _, ref := range f.before {
		t, err := created(ref)
		if err != nil {
			return earliest, latest, err
		}
		if latest.IsZero() || t.Before(latest) {
			latest = t
		}
	}
	for _, ref := range f.since {
		t, err := created(ref)
		if err != nil {
			return earliest, latest, err
		}
		if t.After(earliest) {
			earliest = t
		}
	}
	return earliest, latest, nil
}

// excludes reports whether labels have one of those that must not be.
func (f *imageFilter) excludes(labels map[string]string) bool {
	return slices.ContainsFunc(f.without, func(label string) bool { return cli.HasLabels(labels, []string{label}) })
}

// matchesAny matches a name with docker's patterns: of the repository, or of
// the repository with its tag.
func matchesAny(name string, patterns []string) bool {
	if len(patterns) == 0 {
		return true
	}
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		if full, err := reference.ParseNormalizedNamed(pattern); err == nil { // docker.io/library/debian
			pattern = reference.FamiliarString(full)
		}
		ok, err := reference.FamiliarMatch(pattern, named)
		return ok && err == nil
	})
}
