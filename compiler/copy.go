package compiler

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/dockerfile/dfgitutil"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/buildkit/util/system"
	mode "github.com/tonistiigi/dchapes-mode"

	"github.com/strata-build/strata/schema"
)

// copying is one COPY or ADD.
type copying struct {
	pos      schema.Position
	title    string
	add      bool
	from     *schema.From // nil: the context
	sources  []string
	contents []instructions.SourceContent // heredocs
	dest     string

	include, exclude []string
	chown, chmod     string
	link, parents    bool
	keepGitDir       *bool
	unpack           *bool
	checksum         string
}

// copyStep translates copy and add: one COPY for `to`, and one for each pair.
func (s *stage) copyStep(ctx context.Context, step *schema.Step) error {
	c := stepCopying(step)
	if len(step.Pairs) == 0 {
		if step.To == "" {
			return mistake(step.Pos, "give `to`, or write {source: destination}", "%s has no destination", step.Verb)
		}
		c.sources, c.dest = step.Paths, step.To
		for _, f := range step.Files {
			c.contents = append(c.contents, instructions.SourceContent{Path: f.Key, Data: f.Value})
		}
		return s.copyExpanded(ctx, step, c)
	}
	if step.To != "" || len(step.Paths)+len(step.Files) > 0 {
		return mistake(step.FieldPos["to"], "leave `to` out", "the destination is given twice")
	}
	for _, pair := range step.Pairs {
		c := c
		c.sources, c.dest = []string{pair.Key}, pair.Value
		c.pos = s.c.fieldPos(pair.Pos, step.Pos)
		if err := s.copyExpanded(ctx, step, c); err != nil {
			return locate(c.pos, string(step.Verb), err)
		}
	}
	return nil
}

// stepCopying takes over the fields that a copy, add or file has.
func stepCopying(step *schema.Step) copying {
	c := copying{
		pos: step.Pos, title: step.Name, add: step.Verb == schema.VerbAdd, from: step.From,
		include: step.Include, exclude: step.Exclude,
		chown: step.Chown, chmod: step.Chmod,
		link: step.Link, parents: step.Parents,
		unpack: step.Unpack, checksum: step.Checksum,
	}
	if step.KeepGitDir {
		keep := true
		c.keepGitDir = &keep
	}
	return c
}

// copyExpanded expands the words of a copy, and adds it.
func (s *stage) copyExpanded(ctx context.Context, step *schema.Step, c copying) error {
	x, err := s.expander(ctx, step)
	if err != nil {
		return err
	}
	if c.sources, err = x.list(c.sources); err != nil {
		return err
	}
	if err := x.inPlace(&c.dest, &c.chown, &c.chmod, &c.checksum); err != nil {
		return err
	}
	c.contents = slices.Clone(c.contents)
	for i := range c.contents {
		if c.contents[i].Data, err = x.text(c.contents[i].Data); err != nil {
			return err
		}
	}
	return s.copy(ctx, c)
}

// fileStep translates file: `COPY <<EOF path` for each path, or, with `to`,
// one COPY of heredocs with the names that the paths give.
func (s *stage) fileStep(ctx context.Context, step *schema.Step) error {
	pairs := step.Pairs
	switch {
	case len(pairs) > 0 && step.Content != "":
		return mistake(step.FieldPos["content"], "leave `content` out", "the content is given twice")
	case len(pairs) == 0 && len(step.Paths) == 1:
		pairs = []schema.Pair{{Key: step.Paths[0], Value: step.Content, Pos: step.Pos}}
	case len(pairs) == 0:
		return mistake(step.Pos, "", "file needs a path")
	}
	if step.To != "" {
		return s.filesTo(ctx, step, pairs)
	}
	for _, pair := range pairs {
		c := stepCopying(step)
		c.dest, c.pos = pair.Key, s.c.fieldPos(pair.Pos, step.Pos)
		c.contents = []instructions.SourceContent{{Path: inlineName, Data: pair.Value}}
		if c.title == "" {
			c.title = "FILE " + pair.Key
		}
		if err := s.copyExpanded(ctx, step, c); err != nil {
			return locate(c.pos, "file", err)
		}
	}
	return nil
}

// filesTo copies several inline files to one destination.
func (s *stage) filesTo(ctx context.Context, step *schema.Step, pairs []schema.Pair) error {
	c := stepCopying(step)
	c.dest = step.To
	for _, pair := range pairs {
		if strings.ContainsRune(pair.Key, '/') {
			return mistake(s.c.fieldPos(pair.Pos, step.Pos), "leave `to` out to give paths", "with `to`, %q has to be a plain file name", pair.Key)
		}
		c.contents = append(c.contents, instructions.SourceContent{Path: pair.Key, Data: pair.Value})
	}
	return s.copyExpanded(ctx, step, c)
}

// copy adds the file op of a copy.
func (s *stage) copy(ctx context.Context, c copying) error {
	if len(c.sources)+len(c.contents) == 0 {
		return mistake(c.pos, "", "there is nothing to copy")
	}
	b, err := s.newCopyOp(ctx, c)
	if err != nil {
		return err
	}
	for _, src := range c.sources {
		if err := b.source(src); err != nil {
			return err
		}
	}
	for _, content := range c.contents {
		if err := b.content(content); err != nil {
			return err
		}
	}
	s.copyState(c, b)
	s.history(stepLayer, "%s", c.history())
	return nil
}

// copyState applies the copy to the state: on top of it, or apart from it
// and merged. Like the front end, a chmod cannot be linked.
func (s *stage) copyState(c copying, b *copyOp) {
	opts := []llb.ConstraintsOpt{b.name, s.c.sources.at(c.pos)}
	if s.noCache {
		opts = append(opts, llb.IgnoreCache)
	}
	if !c.link || c.chmod != "" {
		s.state = s.state.File(b.action, opts...)
		return
	}
	group := fmt.Sprintf("link:%s:%d", s.label, len(s.config.History))
	title := b.title
	alone := llb.Scratch().File(b.action, append([]llb.ConstraintsOpt{llb.Platform(s.platform)},
		append(slices.Clone(opts), llb.ProgressGroup(group, title, true))...)...)
	merged := llb.Merge([]llb.State{s.state, alone}, append(slices.Clone(opts),
		llb.ProgressGroup(group, title, false), llb.WithCustomName("LINK "+title))...)
	s.state = s.state.WithOutput(merged.Output())
}

// history is the copy as the history records it.
func (c *copying) history() string {
	words := []string{"COPY"}
	if c.add {
		words[0] = "ADD"
	}
	if c.parents {
		words = append(words, "--parents")
	}
	if c.chown != "" {
		words = append(words, "--chown="+c.chown)
	}
	if c.chmod != "" {
		words = append(words, "--chmod="+c.chmod)
	}
	words = append(words, c.sources...)
	for _, content := range c.contents {
		words = append(words, "<<"+content.Path)
	}
	return strings.Join(append(words, c.dest), " ")
}

// copyOp collects the actions of a copy.
type copyOp struct {
	copying
	stage  *stage
	state  llb.State // what the sources are read from
	dest   string    // absolute
	info   llb.CopyInfo
	owner  []llb.CopyOption
	title  string
	name   llb.ConstraintsOpt
	action *llb.FileAction
}

func (s *stage) newCopyOp(ctx context.Context, c copying) (*copyOp, error) {
	b := &copyOp{copying: c, stage: s}
	var err error
	if b.dest, err = s.inStage(ctx, c.dest); err != nil {
		return nil, fmt.Errorf("destination %q: %w", c.dest, err)
	}
	b.info = llb.CopyInfo{CreateDestPath: true}
	if b.info.Mode, err = chmodOption(c.chmod); err != nil {
		return nil, err
	}
	if c.chown != "" {
		b.owner = append(b.owner, llb.WithUser(c.chown))
	}
	if len(c.exclude) > 0 {
		b.owner = append(b.owner, llb.WithExcludePatterns(c.exclude))
	}
	if err := b.check(); err != nil {
		return nil, err
	}
	if b.state, err = s.copySource(ctx, c); err != nil {
		return nil, err
	}
	b.title = c.title
	if b.title == "" {
		b.title = c.history()
	}
	b.name = s.title(b.title)
	return b, nil
}

// check refuses what a copy cannot have.
func (b *copyOp) check() error {
	if b.parents && len(b.include) > 0 {
		return mistake(b.pos, "", "include cannot be combined with parents, which selects by the source's path")
	}
	if b.checksum == "" {
		return nil
	}
	if len(b.sources) != 1 || !isHTTP(b.sources[0]) && !isGit(b.sources[0]) {
		return mistake(b.pos, "", "checksum needs exactly one source, a URL or a git repository")
	}
	return nil
}

// copySource opens what the paths of a copy are read from, and notes them.
func (s *stage) copySource(ctx context.Context, c copying) (llb.State, error) {
	paths := c.readPaths()
	if c.from != nil {
		return s.read(ctx, c.from, paths)
	}
	if len(paths) == 0 {
		return llb.Scratch(), nil // URLs and inline files
	}
	d, err := s.mainContext(c.pos)
	if err != nil {
		return llb.State{}, err
	}
	s.usePaths(d, paths)
	return d.state, nil
}

// readPaths are the paths that a copy reads of its source. The front end
// takes everything but http for a path.
func (c *copying) readPaths() readPaths {
	paths := readPaths{}
	for _, src := range c.sources {
		if c.add && (strings.HasPrefix(src, "http://") || strings.HasPrefix(src, "https://")) {
			continue
		}
		paths = append(paths, path.Join("/", filepath.ToSlash(src)))
	}
	return paths
}

// source copies one source.
func (b *copyOp) source(src string) error {
	if !mayBeURL(src) {
		return b.path(src)
	}
	ref, isGitRef, err := dfgitutil.ParseGitRef(src)
	if err != nil && isGitRef {
		return fmt.Errorf("source %q: %w", src, err)
	}
	remote := err == nil && !ref.IndistinguishableFromLocal
	if (remote || isHTTP(src)) && (!b.add || b.from != nil) {
		return mistake(b.pos, "use add, without from", "%q is a URL, which only add can fetch", src)
	}
	switch {
	case remote:
		return b.git(ref)
	case isHTTP(src):
		return b.http(src)
	}
	return b.path(src)
}

// mayBeURL is false for what is certainly a path: no URL and no user@host:path
// is without a colon.
func mayBeURL(src string) bool {
	return strings.Contains(src, ":") || strings.HasPrefix(src, "github.com/")
}

// then appends a copy to the actions.
func (b *copyOp) then(from llb.State, src string, info llb.CopyInfo) {
	opts := append([]llb.CopyOption{&info}, b.owner...)
	if b.action == nil {
		b.action = llb.Copy(from, src, b.dest, opts...)
		return
	}
	b.action = b.action.Copy(from, src, b.dest, opts...)
}

// git copies a repository.
func (b *copyOp) git(ref *dfgitutil.GitRef) error {
	if b.keepGitDir != nil {
		if ref.KeepGitDir != nil && *ref.KeepGitDir != *b.keepGitDir {
			return mistake(b.pos, "", "keepGitDir contradicts the URL")
		}
		ref.KeepGitDir = b.keepGitDir
	}
	if b.checksum != "" {
		if ref.Checksum != "" && ref.Checksum != b.checksum {
			return mistake(b.pos, "", "checksum %q contradicts %q in the URL", b.checksum, ref.Checksum)
		}
		ref.Checksum = b.checksum
	}
	opts := append(gitOptions(ref, b.stage.c.gitAdvice()), b.name, b.stage.c.sources.at(b.pos))
	b.then(llb.Git(ref.Remote, "", opts...), "/", b.included())
	return nil
}

// http copies a file by its URL.
func (b *copyOp) http(src string) error {
	sum, err := parseDigest(b.checksum)
	if err != nil {
		return fmt.Errorf("checksum %q: %w", b.checksum, err)
	}
	name := urlFile(src)
	st := llb.HTTP(src, llb.Filename(name), llb.Checksum(sum), b.name, b.stage.c.sources.at(b.pos))
	info := b.included()
	info.AttemptUnpack = b.unpack != nil && *b.unpack
	b.then(st, name, info)
	return nil
}

// included is the copy info with the patterns of the step.
func (b *copyOp) included() llb.CopyInfo {
	info := b.info
	info.IncludePatterns = slices.Clone(b.include)
	return info
}

// path copies a path of the source.
func (b *copyOp) path(src string) error {
	goos := b.stage.platform.OS
	info := b.included()
	info.FollowSymlinks, info.CopyDirContentsOnly = true, true
	info.AllowWildcard, info.AllowEmptyWildcard = true, true
	info.AttemptUnpack = b.add
	if b.unpack != nil {
		info.AttemptUnpack = *b.unpack
	}
	if b.parents {
		var err error
		if src, err = parentsOf(&info, src, goos); err != nil {
			return fmt.Errorf("source %q: %w", src, err)
		}
	}
	src, err := system.NormalizePath("/", src, goos, false)
	if err != nil {
		return fmt.Errorf("source %q: %w", src, err)
	}
	b.then(b.state, src, info)
	return nil
}

// parentsOf selects a path with its parents: what is copied is the root, or
// what stands before a `/./`, and the rest is a pattern that has to match
// when it is no wildcard.
func parentsOf(info *llb.CopyInfo, src, goos string) (string, error) {
	root, pattern, ok := strings.Cut(src, "/./")
	if !ok {
		root, pattern = "/", src
	}
	pattern, err := system.NormalizePath("/", pattern, goos, false)
	if err != nil {
		return src, err
	}
	info.IncludePatterns = []string{strings.TrimPrefix(pattern, "/")}
	if hasWildcard(root) || hasWildcard(pattern) {
		return root, nil
	}
	required, err := system.NormalizePath("/", filepath.Join(root, pattern), goos, false)
	if err != nil {
		return src, err
	}
	info.RequiredPaths = []string{required}
	return root, nil
}

// content copies an inline file.
func (b *copyOp) content(c instructions.SourceContent) error {
	goos := b.stage.platform.OS
	name, err := system.CheckSystemDriveAndRemoveDriveLetter(c.Path, goos, false)
	if err != nil {
		return fmt.Errorf("file %q: %w", c.Path, err)
	}
	st := llb.Scratch().File(
		llb.Mkfile(name, 0o644, []byte(c.Data)),
		dockerui.WithInternalName("preparing inline document"),
		llb.Platform(b.stage.platform))
	b.then(st, system.ToSlash(name, goos), b.info)
	return nil
}

// chmodOption reads octal digits or a symbolic mode.
func chmodOption(text string) (*llb.ChmodOpt, error) {
	if text == "" {
		return nil, nil
	}
	p, err := strconv.ParseUint(text, 8, 32)
	switch {
	case err == nil && p <= 0o7777:
		return &llb.ChmodOpt{Mode: os.FileMode(p)}, nil
	case err == nil:
	default:
		if _, err := mode.Parse(text); err == nil {
			return &llb.ChmodOpt{ModeStr: text}, nil
		}
	}
	return nil, mistake(schema.Position{}, `octal digits up to "7777", or symbolic as "u+x"`, "chmod %q is not valid", text)
}

// isHTTP reports whether a source is a URL of a file. A URL that ends in .git
// is a repository.
func isHTTP(src string) bool {
	return (strings.HasPrefix(src, "http://") || strings.HasPrefix(src, "https://")) && !isGit(src)
}

func isGit(src string) bool {
	ref, ok, err := dfgitutil.ParseGitRef(src)
	return ref != nil && ok && err == nil
}

// hasWildcard reports whether a pattern is more than a path.
func hasWildcard(pattern string) bool {
	for i := 0; i < len(pattern); i++ {
		switch pattern[i] {
		case '*', '?', '[':
			return true
		case '\\':
			i++
		}
	}
	return false
}
