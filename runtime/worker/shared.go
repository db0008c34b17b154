package worker

import (
	"errors"
	"os"
	"sync"

	"github.com/strata-build/strata/runtime/mount"
)

// sharedFiles holds the small read-only files that steps see, one for each
// content: nearly all steps of a build have the same /etc/hosts.
type sharedFiles struct {
	mu    sync.Mutex
	files map[string]*os.File
}

// open returns a mount of a file with that content.
func (s *sharedFiles) open(data []byte) (*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, ok := s.files[string(data)]
	if !ok {
		var err error
		if f, err = mount.File(mount.FileOptions{Data: data, Mode: 0o644}); err != nil {
			return nil, err
		}
		if s.files == nil {
			s.files = map[string]*os.File{}
		}
		s.files[string(data)] = f
	}
	return mount.Bind(f, mount.BindOptions{})
}

func (s *sharedFiles) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, f := range s.files {
		errs = append(errs, f.Close())
	}
	clear(s.files)
	return errors.Join(errs...)
}
