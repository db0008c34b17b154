package dockerfilecompat

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// changing are the instructions that import and commit take with --change:
// docker's, those that change nothing but the config.
var changing = []string{
	"cmd", "entrypoint", "env", "expose", "healthcheck", "label", "onbuild", "stopsignal", "user", "volume", "workdir",
}

// ApplyChanges changes an image's config by Dockerfile instructions, each a
// text of its own, as `docker import --change` and `docker commit --change`
// do. They mean what they mean behind a FROM of that image: variables are
// those of the config, and an ENTRYPOINT drops the image's CMD unless one is
// among the changes.
func ApplyChanges(config *dockerspec.DockerOCIImageConfig, changes []string) error {
	if len(changes) == 0 {
		return nil
	}
	for _, change := range changes {
		if err := checkChange(change); err != nil {
			return fmt.Errorf("change %q: %w", change, err)
		}
	}
	// The triggers are for those who build on the image, not for this.
	base := *config
	base.OnBuild = nil
	changed, err := behindFrom(base, changes)
	if err != nil {
		return err
	}
	changed.Env = withoutDefaultPath(config.Env, changed.Env)
	changed.OnBuild = append(slices.Clone(config.OnBuild), changed.OnBuild...)
	*config = changed
	return nil
}

// checkChange makes sure that a text is one instruction of those allowed: it
// goes into a Dockerfile, where more would be more.
func checkChange(change string) error {
	ast, err := parser.Parse(strings.NewReader(change))
	if err != nil {
		return errors.New(plainMessage(err))
	}
	if len(ast.AST.Children) != 1 || strings.HasPrefix(strings.TrimSpace(change), "#") {
		return errors.New("it is not exactly one instruction, such as CMD [\"/bin/httpd\", \"-f\"]")
	}
	node := ast.AST.Children[0]
	if name := strings.ToLower(node.Value); !slices.Contains(changing, name) {
		return fmt.Errorf("%s does not change an image's config: the instructions that do are %s",
			strings.ToUpper(name), strings.ToUpper(strings.Join(changing, ", ")))
	}
	if _, err := instructions.ParseInstruction(node); err != nil {
		return errors.New(plainMessage(err))
	}
	return nil
}

// plainMessage is a parser's message without its place, which means nothing
// to somebody who gave a single line.
func plainMessage(err error) string { return parsePrefix.ReplaceAllString(err.Error(), "") }

// changeBase is the name of the image that the changes are made to.
const changeBase = "image"

// behindFrom compiles the changes as a Dockerfile on top of the image.
func behindFrom(base dockerspec.DockerOCIImageConfig, changes []string) (dockerspec.DockerOCIImageConfig, error) {
	text := []byte("FROM " + changeBase + "\n")
	ends := make([]int, len(changes)) // the last line of each change
	for i, change := range changes {
		text = append(append(text, change...), '\n')
		ends[i] = bytes.Count(text, []byte("\n"))
	}
	platform := ocispecs.Platform{OS: "linux", Architecture: "amd64"} // no instruction here depends on it
	image := dockerspec.DockerOCIImage{Image: ocispecs.Image{Platform: platform}, Config: base}
	raw, err := json.Marshal(image)
	if err != nil {
		return base, fmt.Errorf("write image config: %w", err)
	}
	res, err := dockerfile2llb.Dockerfile2LLB(context.Background(), text, dockerfile2llb.ConvertOpt{
		TargetPlatform: &platform, MetaResolver: configResolver(raw),
	})
	if err != nil {
		return base, changeError(err, changes, ends)
	}
	return res.Image.Config, nil
}

// changeError says which change an error is about.
func changeError(err error, changes []string, ends []int) error {
	var at *parser.LocationError
	if errors.As(err, &at) && len(at.Locations) > 0 && len(at.Locations[0]) > 0 {
		line := at.Locations[0][0].Start.Line
		if i := slices.IndexFunc(ends, func(end int) bool { return line <= end }); i >= 0 {
			return fmt.Errorf("change %q: %s", changes[i], plainMessage(err))
		}
	}
	return fmt.Errorf("apply changes: %w", err)
}

// withoutDefaultPath takes back the PATH that a build adds to an image that
// has none.
func withoutDefaultPath(before, after []string) []string {
	at := len(before)
	hasPath := slices.ContainsFunc(before, func(kv string) bool { return strings.HasPrefix(kv, "PATH=") })
	if hasPath || at >= len(after) || after[at] != defaultPath {
		return after
	}
	return slices.Delete(slices.Clone(after), at, at+1)
}

// defaultPath is what BuildKit adds.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// configResolver answers with one config, whatever the image.
type configResolver []byte

// ResolveImageConfig implements llb.ImageMetaResolver.
func (c configResolver) ResolveImageConfig(_ context.Context, ref string, _ sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	return ref, "", c, nil
}
