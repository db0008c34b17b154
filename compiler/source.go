package compiler

import (
	"context"
	"encoding/json"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/dockerfile/dfgitutil"
	"github.com/moby/buildkit/frontend/dockerui"
	digest "github.com/opencontainers/go-digest"

	"github.com/strata-build/strata/schema"
)

// readPaths are the paths that a copy or mount reads of a source; nil when it
// is a base, of which everything is read.
type readPaths []string

// openSource makes a base of a source that is no image.
func (s *stage) openSource(ctx context.Context, src *schema.Source, at place) (*base, error) {
	return s.readSource(ctx, src, nil, at)
}

// readSource opens a source of which the given paths are read.
func (s *stage) readSource(ctx context.Context, src *schema.Source, paths readPaths, at place) (*base, error) {
	b := &base{config: emptyImage(at.platform), platform: at.platform}
	var err error
	switch {
	case src.Local != "":
		b.state, err = s.localSource(src, paths)
		return b, err
	case src.Git != "":
		b.state, err = s.gitSource(src)
	case src.HTTP != "":
		b.state, err = s.httpSource(src)
	case src.OCI != "":
		b, err = s.ociSource(ctx, src, at)
	default:
		return nil, mistake(src.Pos, "", "a source needs one of local, git, http and oci")
	}
	if err != nil {
		return nil, err
	}
	b.state, err = narrow(b.state, src, s)
	return b, err
}

// narrow applies subdir, include and exclude to a source whose op has no such
// option, by a copy.
func narrow(st llb.State, src *schema.Source, s *stage) (llb.State, error) {
	subdir := src.Subdir
	if src.Git != "" {
		subdir = "" // an attribute of the git source
	}
	if subdir == "" && len(src.Include) == 0 && len(src.Exclude) == 0 {
		return st, nil
	}
	if src.HTTP != "" {
		return st, mistake(src.Pos, "", "subdir, include and exclude do not apply to http, which is a single file")
	}
	return llb.Scratch().File(llb.Copy(st, path.Join("/", subdir), "/", &llb.CopyInfo{
		CopyDirContentsOnly: true,
		IncludePatterns:     src.Include,
		ExcludePatterns:     src.Exclude,
	}), s.c.sources.at(src.Pos)), nil
}

// localSource is a directory of this machine. The context of the image is
// the same source as what copies read by default.
func (s *stage) localSource(src *schema.Source, paths readPaths) (llb.State, error) {
	if src.Ref != "" || src.Checksum != "" {
		return llb.State{}, mistake(src.Pos, "", "ref and checksum do not apply to a local directory")
	}
	dir := filepath.Join(src.Local, filepath.FromSlash(path.Join("/", src.Subdir)))
	d, err := s.c.dirs.open(dir, s.c.marshal)
	if err != nil {
		return llb.State{}, because(src.Pos, err, "read the ignore file of %s", src.Local)
	}
	if dir == s.image.Context && len(src.Include) == 0 && len(src.Exclude) == 0 {
		s.usePaths(d, paths)
		return d.state, nil
	}
	follow := map[string]struct{}{}
	for _, p := range paths {
		follow[p] = struct{}{}
	}
	return llb.Local(d.name,
		llb.WithCustomName("[context "+d.name+"] load from client"),
		llb.SharedKeyHint("context:"+d.name+"-"),
		llb.IncludePatterns(src.Include),
		llb.ExcludePatterns(slices.Concat(d.excludes, src.Exclude)),
		llb.FollowPaths(followPaths(follow)),
		s.c.sources.at(src.Pos),
	), nil
}

// usePaths notes the paths that are read of a context; none is all of it.
func (s *stage) usePaths(d *directory, paths readPaths) {
	if paths == nil {
		s.use(d, "/")
	}
	for _, p := range paths {
		s.use(d, p)
	}
}

// gitSource is a repository, as ADD of it with the options in fields.
func (s *stage) gitSource(src *schema.Source) (llb.State, error) {
	ref, ok, err := dfgitutil.ParseGitRef(src.Git)
	if err != nil || !ok {
		e := because(src.Pos, err, "git %q", src.Git)
		e.Mistake.Hint = "write the URL of a repository, such as https://github.com/owner/name.git"
		return llb.State{}, e
	}
	if err := merge(&ref.Ref, src.Ref, "ref", src); err != nil {
		return llb.State{}, err
	}
	if err := merge(&ref.Checksum, src.Checksum, "checksum", src); err != nil {
		return llb.State{}, err
	}
	if err := merge(&ref.SubDir, src.Subdir, "subdir", src); err != nil {
		return llb.State{}, err
	}
	opts := gitOptions(ref, s.c.gitAdvice())
	if ref.MTime != "" {
		opts = append(opts, llb.GitMTime(ref.MTime))
	}
	opts = append(opts, dockerui.WithInternalName("load git source "+src.Git), s.c.sources.at(src.Pos))
	return llb.Git(ref.Remote, "", opts...), nil
}

// merge sets a part of a URL from the field for it.
func merge(part *string, field, name string, src *schema.Source) error {
	if field == "" {
		return nil
	}
	if *part != "" && *part != field {
		return mistake(src.Pos, "leave one of the two out", "%s %q contradicts %q in the URL", name, field, *part)
	}
	*part = field
	return nil
}

// gitOptions are the LLB options for a parsed URL.
func gitOptions(ref *dfgitutil.GitRef, advice bool) []llb.GitOption {
	opts := []llb.GitOption{llb.GitRef(ref.Ref)}
	if advice {
		opts = append(opts, llb.GitAdvice(true))
	}
	if ref.KeepGitDir != nil && *ref.KeepGitDir {
		opts = append(opts, llb.KeepGitDir())
	}
	if ref.Checksum != "" {
		opts = append(opts, llb.GitChecksum(ref.Checksum))
	}
	if ref.SubDir != "" {
		opts = append(opts, llb.GitSubDir(ref.SubDir))
	}
	if ref.Submodules != nil && !*ref.Submodules {
		opts = append(opts, llb.GitSkipSubmodules())
	}
	if ref.FetchByCommit {
		opts = append(opts, llb.GitFetchByCommit())
	}
	return opts
}

// httpSource is a file by its URL, which has the last part of the URL's path
// as its name.
func (s *stage) httpSource(src *schema.Source) (llb.State, error) {
	if src.Ref != "" {
		return llb.State{}, mistake(src.Pos, "", "ref does not apply to http")
	}
	sum, err := parseDigest(src.Checksum)
	if err != nil {
		return llb.State{}, because(src.Pos, err, "checksum %q", src.Checksum)
	}
	return llb.HTTP(src.HTTP,
		llb.Filename(urlFile(src.HTTP)),
		llb.Checksum(sum),
		dockerui.WithInternalName("load "+src.HTTP),
		s.c.sources.at(src.Pos)), nil
}

// urlFile is the name of the file that a URL is saved as.
func urlFile(rawURL string) string {
	if u, err := url.Parse(rawURL); err == nil {
		if name := path.Base(u.Path); name != "." && name != "/" {
			return name
		}
	}
	return "__unnamed__"
}

func parseDigest(sum string) (digest.Digest, error) {
	if sum == "" {
		return "", nil
	}
	return digest.Parse(sum)
}

// ociSource is an image of a layout or archive on this machine.
func (s *stage) ociSource(ctx context.Context, src *schema.Source, at place) (*base, error) {
	if s.c.opts.Layouts == nil {
		return nil, mistake(src.Pos, "", "OCI layouts cannot be read here")
	}
	file, ref, err := layoutRef(src)
	if err != nil {
		return nil, err
	}
	dgst, dt, err := s.c.opts.Layouts.Image(ctx, file, ref, at.platform)
	if err != nil {
		return nil, because(src.Pos, err, "open the image in %s", file)
	}
	if src.Checksum != "" && src.Checksum != dgst.String() {
		return nil, mistake(src.Pos, "", "the image in %s is %s, not %s", file, dgst, src.Checksum)
	}
	b := &base{platform: at.platform}
	if err := json.Unmarshal(dt, &b.config); err != nil {
		return nil, because(src.Pos, err, "parse the image config in %s", file)
	}
	below := cloneImage(b.config)
	b.below, b.config.Created = &below, nil
	b.state, err = s.layoutState(src, s.c.stores.name(file), dgst, at)
	return b, err
}

// layoutState is the LLB source of an image in a layout. The reference is
// only shown; what counts is the digest.
func (s *stage) layoutState(src *schema.Source, store string, dgst digest.Digest, at place) (llb.State, error) {
	named, err := reference.ParseNormalizedNamed(store)
	if err != nil {
		return llb.State{}, because(src.Pos, err, "name the layout %s", store)
	}
	ref, err := reference.WithDigest(named, dgst)
	if err != nil {
		return llb.State{}, because(src.Pos, err, "pin the image in %s", store)
	}
	return llb.OCILayout(ref.String(),
		llb.OCIStore("", store),
		llb.Platform(at.platform),
		s.fromTitle(store),
		s.c.sources.at(src.Pos)), nil
}

// layoutRef splits "/path:tag" and "/path@digest"; the field ref says the
// same. A colon counts only behind the last slash.
func layoutRef(src *schema.Source) (file, ref string, err error) {
	file = src.OCI
	base := strings.LastIndex(file, "/") + 1
	if i := strings.IndexByte(file[base:], '@'); i >= 0 {
		file, ref = file[:base+i], file[base+i+1:]
	} else if i := strings.IndexByte(file[base:], ':'); i >= 0 {
		file, ref = file[:base+i], file[base+i+1:]
	}
	err = merge(&ref, src.Ref, "ref", src)
	return file, ref, err
}

// stores gives each OCI layout of a plan its name.
type stores struct {
	byPath map[string]string
	byName map[string]string
	taken  nameSet
}

func newStores() *stores {
	return &stores{byPath: map[string]string{}, byName: map[string]string{}, taken: nameSet{}}
}

// name returns the name of the layout at a path.
func (st *stores) name(file string) string {
	name, ok := st.byPath[file]
	if !ok {
		name = st.taken.add(filepath.Base(file))
		st.byPath[file], st.byName[name] = name, file
	}
	return name
}

// rename maps the store names of another plan to those of this one.
func (st *stores) rename(other map[string]Store) map[string]string {
	out := make(map[string]string, len(other))
	for name, s := range other {
		out[name] = st.name(s.Path)
	}
	return out
}

// used returns the layouts of the given store names.
func (st *stores) used(names map[string]bool) map[string]Store {
	out := make(map[string]Store, len(names))
	for name := range names {
		if file, ok := st.byName[name]; ok {
			out[name] = Store{Path: file}
		}
	}
	return out
}
