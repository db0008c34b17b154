package image

import (
	"slices"

	"github.com/strata-build/strata/runtime/store"
)

// putRecord keeps an image under a name, or by its digest for as long as it has
// none: an image with a name is not dangling.
func (s *Store) putRecord(key string, rec record, refs []store.Ref) error {
	nameless := rec.Desc.Digest.String()
	if key == nameless {
		all, err := s.named(rec.Desc.Digest)
		if err != nil || slices.ContainsFunc(all, func(i Image) bool { return i.Name != "" }) {
			return err
		}
	}
	if err := s.blobs.PutRecord(Bucket, key, rec, refs...); err != nil || key == nameless {
		return err
	}
	return s.blobs.DeleteRecord(Bucket, nameless)
}
