package gitsource

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strings"

	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/gitutil"
	"github.com/moby/buildkit/util/sshutil"
)

// Source is a parsed LLB git source.
type Source struct {
	// Remote is the URL, credentials included: never log it, log String().
	Remote string
	Ref    string
	Subdir string
	// Checksum is the (abbreviated) commit that Ref must be.
	Checksum string
	// KeepGitDir keeps .git, unless there is a Subdir.
	KeepGitDir bool
	// SkipSubmodules leaves submodules empty.
	SkipSubmodules bool
	// FetchByCommit fetches Checksum without asking what Ref is.
	FetchByCommit bool
	// CommitMTime gives every file the time of the commit.
	CommitMTime      bool
	AuthTokenSecret  string
	AuthHeaderSecret string
	KnownSSHHosts    string
	// MountSSHSock is the id of the ssh agent.
	MountSSHSock string
}

// Parse reads an LLB source identifier ("git://…") and its attributes.
// Attributes that this package cannot honour are refused by name.
func Parse(identifier string, attrs map[string]string) (*Source, error) {
	id, ok := strings.CutPrefix(identifier, "git://")
	if !ok {
		return nil, fmt.Errorf("%q is not the identifier of a git source", identifier)
	}
	u, err := parseURL(id)
	if err != nil {
		return nil, fmt.Errorf("git source: %w", err)
	}
	s := &Source{Remote: u.Remote}
	if u.Opts != nil {
		s.Ref, s.Subdir = u.Opts.Ref, u.Opts.Subdir
	}
	for name, value := range attrs {
		if err := s.set(name, value, u); err != nil {
			return nil, fmt.Errorf("git source %s: %w", s, err)
		}
	}
	return s, s.validate()
}

// parseURL reads a URL, whose messages must not show credentials.
func parseURL(s string) (*gitutil.GitURL, error) {
	if !gitutil.IsGitTransport(s) {
		s = "https://" + s
	}
	u, err := gitutil.ParseURL(s)
	if err != nil {
		return nil, errors.New("the URL is malformed")
	}
	return u, nil
}

func (s *Source) set(name, value string, id *gitutil.GitURL) (err error) {
	on := value == "true"
	switch name {
	case pb.AttrFullRemoteURL:
		s.Remote, err = fullRemote(id, value)
	case pb.AttrKeepGitDir:
		s.KeepGitDir = on
	case pb.AttrGitSkipSubmodules:
		s.SkipSubmodules = on
	case pb.AttrGitFetchByCommit:
		s.FetchByCommit = on
	case pb.AttrGitChecksum:
		s.Checksum = value
	case pb.AttrGitMTime:
		s.CommitMTime, err = commitMTime(value)
	case pb.AttrAuthTokenSecret:
		s.AuthTokenSecret = value
	case pb.AttrAuthHeaderSecret:
		s.AuthHeaderSecret = value
	case pb.AttrKnownSSHHosts:
		s.KnownSSHHosts = value
	case pb.AttrMountSSHSock:
		s.MountSSHSock = value
	case pb.AttrGitAdvice: // only changes what git says
	default:
		err = fmt.Errorf("the attribute %q is not supported by the local engine; --engine buildkit may know it", name)
	}
	return err
}

func commitMTime(value string) (bool, error) {
	switch value {
	case "", "checkout":
		return false, nil
	case "commit":
		return true, nil
	}
	return false, fmt.Errorf("%s: %q is neither \"checkout\" nor \"commit\"", pb.AttrGitMTime, value)
}

// fullRemote returns the URL to use: that of the attribute, which must be of
// the repository that the identifier names.
func fullRemote(id *gitutil.GitURL, value string) (string, error) {
	u, err := parseURL(value)
	if err != nil {
		return "", fmt.Errorf("%s: %w", pb.AttrFullRemoteURL, err)
	}
	if !strings.EqualFold(id.Host, u.Host) || repository(id.Path) != repository(u.Path) {
		return "", fmt.Errorf("%s does not match the source identifier", pb.AttrFullRemoteURL)
	}
	p := path.Join("/", id.Path)
	if strings.HasPrefix(strings.ToLower(u.Remote), u.Scheme+"://") {
		return (&url.URL{Scheme: u.Scheme, User: u.User, Host: u.Host, Path: p}).String(), nil
	}
	if !strings.HasPrefix(u.Path, "/") {
		p = strings.TrimPrefix(p, "/")
	}
	return (&sshutil.SCPStyleURL{User: u.User, Host: u.Host, Path: p}).String(), nil
}

// repository is what two URLs of one repository have in common.
func repository(p string) string { return strings.TrimSuffix(path.Join("/", p), ".git") }

var hexadecimal = regexp.MustCompile(`^[a-fA-F0-9]+$`)

// validate refuses what git could take for an option or for another command.
func (s *Source) validate() error {
	if strings.HasPrefix(s.Ref, "-") || strings.ContainsAny(s.Ref, "\x00\n:^~?*[\\ ") || strings.Contains(s.Ref, "..") {
		return fmt.Errorf("git source %s: %q is not the name of a ref", s, s.Ref)
	}
	if strings.HasPrefix(s.Remote, "-") || strings.ContainsAny(s.Remote, "\x00\n") {
		return errors.New("git source: the URL is malformed")
	}
	if s.Checksum != "" && !hexadecimal.MatchString(s.Checksum) {
		return fmt.Errorf("git source %s: the checksum %q is not a commit id", s, s.Checksum)
	}
	if gitutil.IsCommitSHA(s.Ref) && !strings.HasPrefix(s.Ref, s.Checksum) {
		return s.mismatch(s.Ref)
	}
	return nil
}

// mismatch says that a ref is not what the checksum promises.
func (s *Source) mismatch(got ...string) error {
	return fmt.Errorf("git source %s: the checksum is %s, but the ref is at %s", s, s.Checksum, strings.Join(got, " or "))
}

// String is the source without credentials.
func (s *Source) String() string {
	remote, _ := splitCredentials(s.Remote)
	if s.Ref != "" || s.Subdir != "" {
		remote += "#" + s.Ref
	}
	if s.Subdir != "" {
		remote += ":" + s.Subdir
	}
	return remote
}

// splitCredentials returns a URL without what could be secret, and that. A
// user name is kept for ssh only, where it is part of the address.
func splitCredentials(remote string) (string, *url.Userinfo) {
	u, err := url.Parse(remote)
	if err != nil || u.User == nil || u.Host == "" {
		if name, rest, ok := strings.Cut(remote, "@"); ok && err != nil {
			// An address as in scp: the name can hold no password.
			name, _, _ = strings.Cut(name, ":")
			return name + "@" + rest, nil
		}
		return remote, nil
	}
	user := u.User
	u.User = nil
	if u.Scheme == gitutil.SSHProtocol {
		u.User = url.User(user.Username())
		return u.String(), nil
	}
	return u.String(), user
}

// Key is the identity of the checked-out files.
func (s *Source) Key(r Resolved) string {
	key := r.Commit
	if r.Peeled != "" && !s.KeepGitDir {
		key = r.Peeled
	}
	if s.KeepGitDir {
		key += ".git#" + r.Ref
	}
	if s.Subdir != "" {
		key += ":" + s.Subdir
	}
	if s.SkipSubmodules {
		key += "(skip-submodules)"
	}
	if s.CommitMTime {
		key += "(mtime=commit)"
	}
	return key
}
