package container

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/runtime/engine"
	"github.com/strata-build/strata/runtime/image"
	"github.com/strata-build/strata/runtime/network"
)

// Request is a container to be made. What is nil or empty is the image's.
type Request struct {
	// Image is a local image, of which Platform is taken; nil is the machine's.
	Image    string
	Platform *ocispec.Platform
	// Name is the container's, or "" for a random one.
	Name string
	// Args replace the image's command.
	Args []string
	// Entrypoint replaces the image's entrypoint, and drops its command; ""
	// removes it.
	Entrypoint *string
	// Health replaces the fields of the image's check that it sets; NoHealth
	// switches it off.
	Health   *Health
	NoHealth bool
	// Pending says that the container is started right after: one to be removed
	// at its end goes too if that never happens.
	Pending bool
	// PublishAll publishes the ports that the image exposes on any free ones.
	PublishAll bool
	// Config is the rest. Env and Labels are added to the image's, Mounts
	// replace the image's volumes of the same target; Entrypoint, Cmd and
	// Health are not looked at.
	Config Config
}

// Create makes a container, which Start then runs.
func (s *Set) Create(ctx context.Context, req Request) (Record, error) {
	rec := Record{ID: newID(), Created: time.Now().UTC(), Pending: req.Pending, Config: req.Config, State: State{Status: Created}}
	m, err := s.image(ctx, req)
	if err != nil {
		return rec, err
	}
	if err := rec.Config.combine(&req, m); err != nil {
		return rec, err
	}
	if err := rec.Config.checkText(); err != nil {
		return rec, err
	}
	layers, err := s.unpack(ctx, m, rec.Config.Mounts)
	if err != nil {
		return rec, fmt.Errorf("unpack image %s: %w", req.Image, err)
	}
	rec.Image = Image{
		Name: req.Image, Manifest: m.Desc, ID: m.ConfigDesc.Digest.String(), Blobs: []digest.Digest{m.ConfigDesc.Digest}, Layers: layers,
	}
	for _, l := range m.Layers {
		rec.Image.Blobs = append(rec.Image.Blobs, l.Digest)
	}
	if rec.Config.Hostname == "" && rec.Config.Network.Mode != NetworkHost && rec.Config.Network.Mode != NetworkContainer {
		rec.Config.Hostname = rec.ShortID()
	}
	if err := s.resolveNetwork(ctx, &rec.Config.Network); err != nil {
		return rec, err
	}
	return rec, s.place(ctx, &rec, req.Name)
}

// image finds the image.
func (s *Set) image(ctx context.Context, req Request) (image.Manifest, error) {
	img, err := s.e.Images.Resolve(ctx, req.Image)
	if err != nil {
		return image.Manifest{}, err
	}
	platform := s.e.Platform()
	if req.Platform != nil {
		platform = *req.Platform
	}
	m, err := s.e.Images.Load(ctx, img.Desc, &platform, nil)
	if err == nil && req.Platform != nil {
		err = m.RunsOn(platform)
	}
	if err != nil {
		return m, fmt.Errorf("image %s: %w", req.Image, err)
	}
	return m, nil
}

// unpack returns the layers that a container stands on: the image's, and at the
// bottom the mount points.
func (s *Set) unpack(ctx context.Context, m image.Manifest, mounts []Mount) ([]string, error) {
	points, err := s.mountPoints(ctx, mounts)
	if err != nil {
		return nil, err
	}
	layers, err := s.e.Images.Unpack(ctx, image.UnpackRequest{Manifest: m})
	return append([]string{points}, layers...), err
}

// place gives the container its name, tree, directory and record.
func (s *Set) place(ctx context.Context, rec *Record, name string) error {
	lock, err := s.e.Store.Lock(ctx, namesLock)
	if err != nil {
		return err
	}
	if rec.Name, err = s.name(ctx, name); err == nil {
		err = s.make(ctx, rec)
	}
	return errors.Join(err, lock.Unlock())
}

func (s *Set) name(ctx context.Context, name string) (string, error) {
	if name != "" {
		if err := checkName("container", name); err != nil {
			return "", err
		}
		return name, s.free(ctx, name)
	}
	names, err := s.names()
	return randomName(func(name string) bool { return names[name] }), err
}

// make makes what belongs to a container; what it made before it failed goes.
func (s *Set) make(ctx context.Context, rec *Record) (err error) {
	if err := s.e.Snapshots.Keep(ctx, rec.ID, rec.Image.Layers); err != nil {
		return err
	}
	var made []string
	defer func() {
		if err != nil {
			// The record first, which says that the volumes are in use.
			err = errors.Join(err, s.e.Store.DeleteRecord(engine.BucketContainers, rec.ID))
			for _, name := range made {
				err = errors.Join(err, s.RemoveVolume(context.WithoutCancel(ctx), name))
			}
			err = errors.Join(err, s.e.Snapshots.DropKept(rec.ID), s.removeDir(rec.ID))
		}
	}()
	if err := s.makeDir(rec.ID); err != nil {
		return err
	}
	if err := s.makeExit(rec.ID); err != nil {
		return err
	}
	for i := range rec.Config.Mounts {
		m := &rec.Config.Mounts[i]
		if m.Type == MountVolume && m.Source == "" {
			m.Source, m.Anonymous = newID(), true
		}
	}
	// From here on nobody removes the volumes, as `volume prune` would.
	if err := s.put(rec); err != nil {
		return err
	}
	for _, m := range rec.Config.Mounts {
		if m.Type != MountVolume {
			continue
		}
		isNew, err := s.ensureVolume(ctx, m.Source, m.Anonymous)
		if err != nil {
			return err
		}
		if isNew {
			made = append(made, m.Source)
		}
	}
	return nil
}

// combine adds what the image says to what the command line says.
func (c *Config) combine(req *Request, m image.Manifest) error {
	var img dockerspec.DockerOCIImage
	if err := json.Unmarshal(m.RawConfig, &img); err != nil {
		return fmt.Errorf("config of image %s: %w", req.Image, err)
	}
	of := img.Config
	c.Entrypoint, c.Cmd = command(req, of.ImageConfig)
	if len(c.Args()) == 0 {
		return fmt.Errorf("%s: %w", req.Image, ErrNoCommand)
	}
	c.Env = mergeEnv(of.Env, req.Config.Env)
	c.Workdir = cmp.Or(c.Workdir, of.WorkingDir)
	c.User = cmp.Or(c.User, of.User)
	c.StopSignal = cmp.Or(c.StopSignal, of.StopSignal)
	c.Labels = mergeLabels(of.Labels, req.Config.Labels)
	c.Health = combineHealth(of.Healthcheck, req)
	c.Mounts = inOrder(withVolumes(c.Mounts, of.Volumes))
	if !req.PublishAll {
		return nil
	}
	ports, err := network.ParseExposed(slices.Sorted(maps.Keys(of.ExposedPorts)))
	c.Network.Ports = append(c.Network.Ports, ports...)
	return err
}

// checkText refuses what a record would not give back as it was: its JSON is
// UTF-8, and another path would be mounted, say.
func (c *Config) checkText() error {
	kinds := map[string][]string{
		"argument": c.Args(), "variable": c.Env, "working directory": {c.Workdir}, "user": append([]string{c.User}, c.Groups...),
		"host name": {c.Hostname},
	}
	for _, m := range c.Mounts {
		kinds["mount"] = append(kinds["mount"], m.Source, m.Target)
	}
	for name, value := range c.Labels {
		kinds["label"] = append(kinds["label"], name+"="+value)
	}
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		if i := slices.IndexFunc(kinds[kind], func(text string) bool { return !utf8.ValidString(text) }); i >= 0 {
			return fmt.Errorf("the %s %q is not UTF-8: a container's record cannot hold it", kind, kinds[kind][i])
		}
	}
	return nil
}

// command joins entrypoint and arguments by docker's rules: an entrypoint from
// the command line drops the image's command as well.
func command(req *Request, config ocispec.ImageConfig) (entrypoint, args []string) {
	entrypoint, args = config.Entrypoint, config.Cmd
	if req.Entrypoint != nil {
		entrypoint, args = nil, nil
		if *req.Entrypoint != "" {
			entrypoint = []string{*req.Entrypoint}
		}
	}
	if len(req.Args) > 0 {
		args = req.Args
	}
	return entrypoint, args
}

// mergeEnv joins lists of variables; later values take the place of earlier
// ones, and a name without a value removes one.
func mergeEnv(lists ...[]string) []string {
	var env []string
	for _, kv := range slices.Concat(lists...) {
		name, _, hasValue := strings.Cut(kv, "=")
		i := slices.IndexFunc(env, func(have string) bool { return strings.HasPrefix(have, name+"=") })
		switch {
		case i >= 0 && hasValue:
			env[i] = kv
		case i >= 0:
			env = slices.Delete(env, i, i+1)
		case hasValue:
			env = append(env, kv)
		}
	}
	return env
}

func mergeLabels(a, b map[string]string) map[string]string {
	all := map[string]string{}
	maps.Copy(all, a)
	maps.Copy(all, b)
	return all
}

// withVolumes adds an anonymous volume for each volume of the image at whose
// target nothing else is mounted. They come first: a mount of the command line
// may get to the same place by a link.
func withVolumes(mounts []Mount, volumes map[string]struct{}) []Mount {
	var all []Mount
	for _, target := range slices.Sorted(maps.Keys(volumes)) {
		if !slices.ContainsFunc(mounts, func(m Mount) bool { return clean(m.Target) == clean(target) }) {
			all = append(all, Mount{Type: MountVolume, Target: clean(target)})
		}
	}
	return append(all, mounts...)
}

// inOrder puts mounts below others behind them, which would hide them.
func inOrder(mounts []Mount) []Mount {
	depth := func(m Mount) int { return strings.Count(clean(m.Target), "/") }
	slices.SortStableFunc(mounts, func(a, b Mount) int { return depth(a) - depth(b) })
	return mounts
}

// resolveNetwork finds the container whose network is to be joined.
func (s *Set) resolveNetwork(ctx context.Context, n *Network) error {
	if n.Mode != NetworkContainer {
		return nil
	}
	if len(n.Ports) > 0 {
		return errors.New("ports cannot be published for a container that uses another one's network: publish them there")
	}
	other, err := s.Find(ctx, n.Container)
	if err != nil {
		return fmt.Errorf("network of container %w", err)
	}
	n.Container = other.ID
	return nil
}
