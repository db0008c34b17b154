package compiler

import (
	"context"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/util/system"

	"github.com/strata-build/strata/schema"
)

// mount is a mount of a command, as RUN --mount has it, but with what it
// reads as a `from`.
type mount struct {
	instructions.Mount
	from *schema.From // nil: the context, or nothing for a cache
	pos  schema.Position
}

// stepMounts are the mounts of a step: mounts, cache, tmpfs, secrets and ssh.
func stepMounts(step *schema.Step, x expander) ([]mount, error) {
	var list []mount
	for _, m := range step.Mounts {
		mnt, err := schemaMount(m)
		if err != nil {
			return nil, err
		}
		list = append(list, mnt)
	}
	for _, target := range step.Cache {
		list = append(list, simpleMount(instructions.MountTypeCache, target, step.FieldPos["cache"]))
	}
	for _, target := range step.Tmpfs {
		list = append(list, simpleMount(instructions.MountTypeTmpfs, target, step.FieldPos["tmpfs"]))
	}
	for _, sec := range step.Secrets {
		list = append(list, secretMount(sec))
	}
	for _, id := range step.SSH {
		m := simpleMount(instructions.MountTypeSSH, "", step.FieldPos["ssh"])
		if id != "default" {
			m.CacheID = id
		}
		list = append(list, m)
	}
	for i := range list {
		m := &list[i]
		words := []*string{&m.Target, &m.Source, &m.CacheID}
		if m.Env != nil {
			words = append(words, m.Env)
		}
		if err := x.inPlace(words...); err != nil {
			return nil, because(m.pos, err, "mount %s", m.Target)
		}
	}
	return list, nil
}

func simpleMount(kind instructions.MountType, target string, pos schema.Position) mount {
	return mount{Mount: instructions.Mount{Type: kind, Target: target}, pos: pos}
}

// secretMount is a file for an absolute path, else a variable.
func secretMount(sec schema.Secret) mount {
	m := mount{pos: sec.Pos, Mount: instructions.Mount{
		Type: instructions.MountTypeSecret, CacheID: sec.ID, Required: sec.Required,
	}}
	if path.IsAbs(sec.Target) {
		m.Target = sec.Target
	} else {
		name := sec.Target
		m.Env = &name
	}
	return m
}

// schemaMount reads an entry of `mounts`.
func schemaMount(m *schema.Mount) (mount, error) {
	kind := instructions.MountType(m.Type)
	if kind == "" {
		kind = instructions.MountTypeBind
	}
	out := mount{from: m.From, pos: m.Pos, Mount: instructions.Mount{
		Type: kind, Source: m.Source, Target: m.Target,
		SizeLimit: m.Size, CacheID: m.ID, CacheSharing: instructions.ShareMode(m.Sharing),
		Required: m.Required, UID: id(m.UID), GID: id(m.GID),
		ReadOnly: m.ReadOnly || kind == instructions.MountTypeBind && !m.RW,
	}}
	if m.Env != "" {
		env := m.Env
		out.Env = &env
	}
	if m.Mode != "" {
		mode, err := strconv.ParseUint(m.Mode, 8, 32)
		if err != nil {
			return out, mistake(m.Pos, `octal digits, such as "0755"`, "mode %q of a mount is not valid", m.Mode)
		}
		out.Mode = &mode
	}
	return out, checkMount(m, kind)
}

func id(n *int) *uint64 {
	if n == nil {
		return nil
	}
	u := uint64(*n)
	return &u
}

// checkMount refuses fields that the type of a mount would ignore.
func checkMount(m *schema.Mount, kind instructions.MountType) error {
	const bind, cache, tmpfs, secret, ssh = instructions.MountTypeBind, instructions.MountTypeCache,
		instructions.MountTypeTmpfs, instructions.MountTypeSecret, instructions.MountTypeSSH
	type kinds []instructions.MountType
	if all := (kinds{bind, cache, tmpfs, secret, ssh}); !slices.Contains(all, kind) {
		return mistake(m.Pos, "bind, cache, tmpfs, secret or ssh", "unknown type %q of a mount", m.Type)
	}
	for _, f := range []struct {
		name  string
		given bool
		used  kinds
	}{
		{"from", m.From != nil, kinds{bind, cache}},
		{"source", m.Source != "", kinds{bind, cache, secret}},
		{"rw", m.RW, kinds{bind, cache, tmpfs}},
		{"rw", m.ReadOnly, kinds{bind, cache, tmpfs}},
		{"id", m.ID != "", kinds{cache, secret, ssh}},
		{"env", m.Env != "", kinds{secret}},
		{"sharing", m.Sharing != "", kinds{cache}},
		{"size", m.Size != 0, kinds{tmpfs}},
		{"required", m.Required, kinds{secret, ssh}},
		{"uid", m.UID != nil, kinds{cache, secret, ssh}},
		{"gid", m.GID != nil, kinds{cache, secret, ssh}},
		{"mode", m.Mode != "", kinds{cache, secret, ssh}},
	} {
		if f.given && !slices.Contains(f.used, kind) {
			return mistake(m.Pos, "", "%s does not apply to a mount of type %s", f.name, kind)
		}
	}
	switch m.Sharing {
	case "", "shared", "private", "locked":
	default:
		return mistake(m.Pos, "shared, private or locked", "unknown sharing %q", m.Sharing)
	}
	return nil
}

// mountOptions are the options for all mounts of a command.
func (s *stage) mountOptions(ctx context.Context, r run, dir string) ([]llb.RunOption, error) {
	opts := make([]llb.RunOption, 0, len(r.mounts))
	for _, m := range r.mounts {
		o, err := s.mountOption(ctx, m, dir)
		if err != nil {
			return nil, locate(s.c.fieldPos(m.pos, r.pos), "mount "+m.Target, err)
		}
		opts = append(opts, o)
	}
	return opts, nil
}

func (s *stage) mountOption(ctx context.Context, m mount, dir string) (llb.RunOption, error) {
	switch m.Type {
	case instructions.MountTypeSecret:
		return secretOption(m)
	case instructions.MountTypeSSH:
		return sshOption(m), nil
	}
	target := m.Target
	if !system.IsAbsolutePath(filepath.Clean(target)) {
		target = filepath.Join("/", dir, target)
	}
	if target == "/" {
		return nil, mistake(m.pos, "", "a mount cannot take the place of the root directory")
	}
	st, err := s.mountSource(ctx, m)
	if err != nil {
		return nil, err
	}
	var opts []llb.MountOption
	if m.ReadOnly {
		opts = append(opts, llb.Readonly)
	} else if m.Type == instructions.MountTypeBind {
		opts = append(opts, llb.ForceNoOutput)
	}
	switch m.Type {
	case instructions.MountTypeTmpfs:
		opts = append(opts, llb.Tmpfs(llb.TmpfsSize(m.SizeLimit)))
	case instructions.MountTypeCache:
		opts = append(opts, s.c.cacheOption(m))
	}
	if src := path.Join("/", m.Source); src != "/" {
		opts = append(opts, llb.SourcePath(src))
	} else if m.UID != nil || m.GID != nil || m.Mode != nil {
		st = cacheOwner(m, st)
		opts = append(opts, llb.SourcePath("/cache"))
	}
	return llb.AddMount(target, st, opts...), nil
}

// mountSource is what a mount shows. The front end counts the context as
// read for a tmpfs too, which the paths of the context tell.
func (s *stage) mountSource(ctx context.Context, m mount) (llb.State, error) {
	source := path.Join("/", filepath.ToSlash(m.Source))
	switch {
	case m.Type == instructions.MountTypeTmpfs:
		if s.image.Context != "" {
			s.use(s.c.dirs.named(s.image.Context), source)
		}
		return llb.Scratch(), nil
	case m.from != nil:
		return s.read(ctx, m.from, readPaths{source})
	case m.Type == instructions.MountTypeCache:
		return llb.Scratch(), nil
	}
	d, err := s.mainContext(m.pos)
	if err != nil {
		return llb.State{}, err
	}
	s.use(d, source)
	return d.state, nil
}

// read opens a `from` of which the given paths are read.
func (s *stage) read(ctx context.Context, from *schema.From, paths readPaths) (llb.State, error) {
	at := place{target: s.at.target, platform: s.at.target, implicit: s.at.implicit}
	from, err := s.c.decide(s.image, from, at.target)
	if err != nil {
		return llb.State{}, err
	}
	if other := s.c.override(from.Ref); other != nil {
		from = other
	}
	var b *base
	if from.Source != nil {
		b, err = s.readSource(ctx, from.Source, paths, at)
	} else {
		b, err = s.open(ctx, from, at)
	}
	if err != nil {
		return llb.State{}, err
	}
	return b.state, nil
}

// cacheOption makes a mount a cache, which has its target as its name by
// default.
func (c *compilation) cacheOption(m mount) llb.MountOption {
	sharing := llb.CacheMountShared
	switch m.CacheSharing {
	case instructions.MountSharingPrivate:
		sharing = llb.CacheMountPrivate
	case instructions.MountSharingLocked:
		sharing = llb.CacheMountLocked
	}
	name := m.CacheID
	if name == "" {
		name = path.Clean(m.Target)
	}
	return llb.AsPersistentCacheDir(c.args["BUILDKIT_CACHE_MOUNT_NS"]+"/"+name, sharing)
}

// cacheOwner gives the root of a new cache its owner and mode.
func cacheOwner(m mount, st llb.State) llb.State {
	mode := os.FileMode(0o755)
	if m.Mode != nil {
		mode = os.FileMode(*m.Mode)
	}
	owner := llb.WithUIDGID(number(m.UID), number(m.GID))
	return st.File(llb.Mkdir("/cache", mode, owner),
		llb.WithCustomName("[internal] setting cache mount permissions"))
}

func number(n *uint64) int {
	if n == nil {
		return 0
	}
	return int(*n)
}

// fileMode is the owner and mode that a secret or socket is to have; ok is
// false when all three are left to the engine.
func fileMode(m mount, mode int) (uid, gid, perm int, ok bool) {
	if m.Mode != nil {
		mode = int(*m.Mode)
	}
	return number(m.UID), number(m.GID), mode, m.UID != nil || m.GID != nil || m.Mode != nil
}

// secretOption mounts a secret as a file, or sets a variable from it.
func secretOption(m mount) (llb.RunOption, error) {
	name := m.CacheID
	if m.Source != "" {
		name = m.Source
	}
	if name == "" {
		if m.Target == "" {
			return nil, mistake(m.pos, "", "a secret needs an id or a path")
		}
		name = path.Base(m.Target)
	}
	var target *string
	if m.Target != "" {
		target = &m.Target
	} else if m.Env == nil {
		dest := "/run/secrets/" + path.Base(name)
		target = &dest
	}
	opts := []llb.SecretOption{llb.SecretID(name)}
	if !m.Required {
		opts = append(opts, llb.SecretOptional)
	}
	if m.Env != nil {
		opts = append(opts, llb.SecretAsEnvName(*m.Env))
	}
	if uid, gid, mode, ok := fileMode(m, 0o400); ok {
		opts = append(opts, llb.SecretFileOpt(uid, gid, mode))
	}
	return llb.AddSecretWithDest(name, target, opts...), nil
}

// sshOption forwards an agent.
func sshOption(m mount) llb.RunOption {
	opts := []llb.SSHOption{llb.SSHID(m.CacheID)}
	if m.Target != "" {
		opts = append(opts, llb.SSHSocketTarget(m.Target))
	}
	if !m.Required {
		opts = append(opts, llb.SSHOptional)
	}
	if uid, gid, mode, ok := fileMode(m, 0o600); ok {
		opts = append(opts, llb.SSHSocketOpt(m.Target, uid, gid, mode))
	}
	return llb.AddSSHSocket(opts...)
}
