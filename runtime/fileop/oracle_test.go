package fileop_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/continuity/fs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/go-archive"
	"github.com/moby/go-archive/chrootarchive"
	fscopy "github.com/tonistiigi/fsutil/copy"
)

// The oracle is BuildKit's own copy: fsutil/copy, called as BuildKit v0.33.1's
// solver/llbsolver/file does it (which cannot be imported: it needs a cache
// manager around it).

func oracleTime(ts int64) *time.Time {
	if ts == -1 {
		return nil
	}
	tm := time.Unix(ts/1e9, ts%1e9)
	return &tm
}

func oracleClean(s string) string {
	clean := filepath.Join("/", s)
	switch {
	case strings.HasSuffix(s, "/.") && clean == "/":
		return "/."
	case strings.HasSuffix(s, "/."):
		return clean + "/."
	case strings.HasSuffix(s, "/") && clean != "/":
		return clean + "/"
	}
	return clean
}

func oracleChowner(o *pb.ChownOpt) fscopy.Chowner {
	if o == nil {
		return func(old *fscopy.User) (*fscopy.User, error) { return old, nil }
	}
	uid := int(o.User.GetByID())
	gid := uid
	if o.Group != nil {
		gid = int(o.Group.GetByID())
	}
	return func(*fscopy.User) (*fscopy.User, error) { return &fscopy.User{UID: uid, GID: gid}, nil }
}

func oracleCopy(src, dst string, a *pb.FileActionCopy) error {
	if !a.CreateDestPath {
		p, err := fs.RootPath(dst, filepath.Join("/", a.Dest))
		if err != nil {
			return err
		}
		if _, err := os.Lstat(filepath.Dir(p)); err != nil {
			return err
		}
	}
	opt := func(ci *fscopy.CopyInfo) {
		ci.IncludePatterns, ci.ExcludePatterns = a.IncludePatterns, a.ExcludePatterns
		ci.Chown = oracleChowner(a.Owner)
		ci.Utime = oracleTime(a.Timestamp)
		if a.ModeStr != "" {
			ci.ModeStr = a.ModeStr
		} else if m := int(a.Mode); m != -1 {
			ci.Mode = &m
		}
		ci.CopyDirContents = a.DirCopyContents
		ci.FollowLinks = a.FollowSymlink
		ci.AlwaysReplaceExistingDestPaths = a.AlwaysReplaceExistingDestPaths
	}
	matches := []string{oracleClean(a.Src)}
	if a.AllowWildcard {
		var err error
		if matches, err = fscopy.ResolveWildcards(src, matches[0], a.FollowSymlink); err != nil {
			return err
		}
		if len(matches) == 0 && !a.AllowEmptyWildcard {
			return fmt.Errorf("%s not found", a.Src)
		}
	}
	for _, m := range matches {
		if a.AttemptUnpackDockerCompatibility {
			done, err := oracleUnpack(src, m, dst, a)
			if err != nil {
				return err
			}
			if done {
				continue
			}
		}
		err := fscopy.Copy(context.Background(), src, m, dst, oracleClean(a.Dest), opt, fscopy.AllowXAttrErrors)
		if err != nil {
			return err
		}
	}
	return nil
}

func oracleUnpack(src, match, dst string, a *pb.FileActionCopy) (bool, error) {
	p, err := fs.RootPath(src, match)
	if err != nil {
		return false, err
	}
	if fi, err := os.Lstat(p); err != nil || !fi.Mode().IsRegular() || !archive.IsArchivePath(p) {
		return false, nil
	}
	into, err := fs.RootPath(dst, oracleClean(a.Dest))
	if err != nil {
		return false, err
	}
	ch := oracleChowner(a.Owner)
	if _, err := fscopy.MkdirAll(into, 0o755, ch, oracleTime(a.Timestamp)); err != nil {
		return false, err
	}
	f, err := os.Open(p)
	if err != nil {
		return false, err
	}
	defer f.Close()
	opts := &archive.TarOptions{BestEffortXattrs: true}
	if a.Owner != nil {
		u, _ := ch(nil)
		opts.ChownOpts = &archive.ChownOpts{UID: u.UID, GID: u.GID}
	}
	return true, chrootarchive.Untar(f, into, opts)
}
