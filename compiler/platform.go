package compiler

import (
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/schema"
)

// platforms are the platforms that an image is built for as a target; none
// when neither the options nor the image name one.
func (c *compilation) platforms(img *schema.Image) ([]ocispecs.Platform, error) {
	if len(c.opts.Platforms) > 0 {
		return c.opts.Platforms, nil
	}
	list := make([]ocispecs.Platform, 0, len(img.Platforms))
	for _, name := range img.Platforms {
		p, err := c.parsePlatform(img, name, c.opts.BuildPlatform)
		if err != nil {
			return nil, err
		}
		list = append(list, platforms.Normalize(p))
	}
	return list, nil
}

// parsePlatform reads a platform: "build", "target", a name like
// "linux/arm64", or one with platform arguments like "$BUILDPLATFORM".
func (c *compilation) parsePlatform(img *schema.Image, name string, target ocispecs.Platform) (ocispecs.Platform, error) {
	switch {
	case name == "build" && c.args["BUILDPLATFORM"] != "":
		name = "$BUILDPLATFORM" // a build argument has another one
	case name == "build":
		return c.opts.BuildPlatform, nil
	case name == "target" && c.args["TARGETPLATFORM"] != "":
		name = "$TARGETPLATFORM"
	case name == "target":
		return target, nil
	}
	pos := c.fieldPos(img.Config.Pos["platform"], img.Pos)
	word, err := c.expandGlobal(img, name, target)
	if err != nil {
		return ocispecs.Platform{}, because(pos, err, "expand platform %q", name)
	}
	p, err := platforms.Parse(word)
	if err != nil {
		e := because(pos, err, "platform %q", name)
		e.Mistake.Hint = `write os/arch, such as "linux/arm64", or "build" for the platform that the build runs on`
		return p, e
	}
	return p, nil
}

// fieldPos is the position of a field, or of what holds it.
func (c *compilation) fieldPos(field, holder schema.Position) schema.Position {
	if field.IsValid() {
		return field
	}
	return holder
}

// expandGlobal expands $VAR in the from and platform of an image, which see
// the platform arguments and the arguments of the image.
func (c *compilation) expandGlobal(img *schema.Image, word string, target ocispecs.Platform) (string, error) {
	if !strings.Contains(word, "$") {
		return word, nil
	}
	env := c.platformArgs(target)
	for _, arg := range img.Args {
		if v, ok := c.args[arg.Name]; ok {
			env = env.AddOrReplace(arg.Name, v)
		} else if !arg.Unset {
			env = env.AddOrReplace(arg.Name, arg.Value)
		}
	}
	out, _, err := shell.NewLex('\\').ProcessWord(word, env)
	return out, err
}

// platformArgs are the arguments that every stage may declare without a
// value.
func (c *compilation) platformArgs(target ocispecs.Platform) *llb.EnvList {
	build := c.opts.BuildPlatform
	env := &llb.EnvList{}
	for _, kv := range [...][2]string{
		{"BUILDPLATFORM", platforms.Format(build)},
		{"BUILDOS", build.OS},
		{"BUILDOSVERSION", build.OSVersion},
		{"BUILDARCH", build.Architecture},
		{"BUILDVARIANT", build.Variant},
		{"TARGETPLATFORM", platforms.FormatAll(target)},
		{"TARGETOS", target.OS},
		{"TARGETOSVERSION", target.OSVersion},
		{"TARGETARCH", target.Architecture},
		{"TARGETVARIANT", target.Variant},
		{"TARGETSTAGE", "default"},
	} {
		v := kv[1]
		if given, ok := c.args[kv[0]]; ok {
			v = given
		}
		env = env.AddOrReplace(kv[0], v)
	}
	return env
}

// setPlatform makes p the platform of an image config, as the Dockerfile
// front end does for a platform that was asked for: what it leaves out is
// kept from the base where that is for the same machine.
func setPlatform(config *ocispecs.Platform, p ocispecs.Platform) {
	same := p.OS == config.OS && p.Architecture == config.Architecture
	config.OS, config.Architecture = p.OS, p.Architecture
	if p.Variant != "" || !same {
		config.Variant = p.Variant
	}
	if p.OSVersion != "" || !same {
		config.OSVersion = p.OSVersion
	}
	if p.OSFeatures != nil {
		config.OSFeatures = slices.Clone(p.OSFeatures)
	}
}
