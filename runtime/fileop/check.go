package fileop

import (
	"errors"
	"fmt"
	"path"

	"github.com/moby/buildkit/solver/pb"

	"github.com/strata-build/strata/runtime/fileop/pattern"
)

// Check refuses what a copy could do, but BuildKit does not get to: it takes
// the digest of what is selected first. Digest refuses the same.
func Check(src Tree, a *pb.FileActionCopy) error {
	if err := wellFormed(a); err != nil {
		return err
	}
	if path.Join("/", a.GetSrc()) != "/" || !a.GetFollowSymlink() {
		return nil
	}
	filter, err := pattern.New(a.GetIncludePatterns(), a.GetExcludePatterns())
	if err != nil || filter.All() {
		return err
	}
	top, err := src.Root()
	if err != nil {
		return err
	}
	return errors.Join(checkLinks(src, top, filter), top.Close())
}

// wellFormed refuses a malformed wildcard, whether there is something that it
// could match or not. The copy itself takes it for one that matches nothing.
func wellFormed(a *pb.FileActionCopy) error {
	src := path.Join("/", a.GetSrc())
	if !a.GetAllowWildcard() || !hasWildcard(src) {
		return nil
	}
	if _, err := path.Match(src, ""); err != nil {
		return fmt.Errorf("match %q: %w", src, err)
	}
	return nil
}

// checkLinks refuses a symlink at the top that is selected and leads nowhere.
// It would be copied as it is, but BuildKit, where a filter selects from the
// top of a tree, takes the digest of what is behind the links there.
func checkLinks(src Tree, top Dir, filter *pattern.Filter) error {
	names, err := top.Names()
	if err != nil {
		return err
	}
	for _, name := range names {
		v, _, err := filter.Match(name, pattern.State{})
		if err == nil && v.Selected {
			err = checkLink(src, top, name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func checkLink(src Tree, top Dir, name string) error {
	n, err := top.Lookup(name)
	if err != nil || !n.IsLink() {
		return err
	}
	return leads(src, top, "/"+name)
}

// leads refuses a symlink that leads nowhere.
func leads(src Tree, top Dir, link string) error {
	resolved, err := resolve(top, link, true)
	if err != nil {
		return notFound(link, err)
	}
	dir, _, err := lookup(src, resolved)
	if errors.Is(err, ErrNotFound) {
		return fmt.Errorf("%q is a symlink to %q, which is not there: exclude it, or copy without a filter", link, resolved)
	}
	if err != nil {
		return err
	}
	return dir.Close()
}
