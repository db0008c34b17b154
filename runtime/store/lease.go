package store

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
)

// Lease keeps things from collection until it is closed, or its process dies.
type Lease struct {
	s  *Store
	mu sync.Mutex
	f  *os.File
	// refs are those that the file holds.
	refs map[Ref]bool
}

// NewLease makes an empty lease.
func (s *Store) NewLease(ctx context.Context) (*Lease, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l, err := s.newLease()
	if err != nil {
		return nil, fmt.Errorf("create lease: %w", err)
	}
	return l, nil
}

func (s *Store) newLease() (*Lease, error) {
	name, err := s.ownedName()
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(s.path(dirLeases, name), os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, s.Explain(err)
	}
	return &Lease{s: s, f: f, refs: make(map[Ref]bool)}, nil
}

// Add keeps refs. They need not exist yet; what exists must be found and
// added within one Acquire, or a collection may come between.
func (l *Lease) Add(refs ...Ref) error {
	if err := checkRefs(refs); err != nil {
		return fmt.Errorf("add to lease: %w", err)
	}
	return l.s.Acquire(func() error {
		if err := l.add(refs); err != nil {
			return fmt.Errorf("add to lease: %w", l.s.Explain(err))
		}
		return nil
	})
}

func (l *Lease) add(refs []Ref) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return os.ErrClosed
	}
	// The empty line ends what a full disk may have left of an earlier Add.
	lines := bytes.NewBufferString("\n")
	fresh := make(map[Ref]bool)
	for _, r := range refs {
		if !l.refs[r] && !fresh[r] {
			fresh[r] = true
			lines.WriteString(string(r) + "\n")
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	if _, err := l.f.Write(lines.Bytes()); err != nil {
		return err
	}
	for r := range fresh {
		l.refs[r] = true
	}
	return nil
}

// Close lets go of everything. Closing again does nothing.
func (l *Lease) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return nil
	}
	err := errors.Join(removeFile(l.f.Name()), l.f.Close())
	l.f = nil
	if err != nil {
		return fmt.Errorf("close lease: %w", err)
	}
	return nil
}

// LeaseMade adds refs to the lease that holds what this process made. Blobs
// and layers enter it in the step that commits them, so nothing is lost
// between being made and being referred to by a record.
func (s *Store) LeaseMade(refs ...Ref) error {
	l, err := s.madeLease()
	if err != nil {
		return err
	}
	return l.Add(refs...)
}

func (s *Store) madeLease() (*Lease, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.made == nil {
		l, err := s.newLease()
		if err != nil {
			return nil, fmt.Errorf("create lease: %w", err)
		}
		s.made = l
	}
	return s.made, nil
}

// ReleaseMade lets go of what this process made so far. Close does it, too;
// a process that collects after its own builds calls it first.
func (s *Store) ReleaseMade() error {
	s.mu.Lock()
	l := s.made
	s.made = nil
	s.mu.Unlock()
	if l == nil {
		return nil
	}
	return l.Close()
}

// leased returns the refs of all leases whose process lives. It must be
// called exclusively (see Collect), as nobody can then be adding.
func (s *Store) leased() ([]Ref, error) {
	entries, err := os.ReadDir(s.path(dirLeases))
	if err != nil {
		return nil, err
	}
	var refs []Ref
	for _, e := range entries {
		owner, _, _ := strings.Cut(e.Name(), ".")
		alive, err := s.OwnerAlive(owner)
		if err != nil {
			return nil, err
		}
		if !alive {
			continue
		}
		more, err := readLease(s.path(dirLeases, e.Name()))
		if err != nil {
			return nil, err
		}
		refs = append(refs, more...)
	}
	return refs, nil
}

func readLease(path string) ([]Ref, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // closed meanwhile
	}
	if err != nil {
		return nil, err
	}
	var refs []Ref
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, len(data)+1)
	for lines.Scan() {
		if lines.Text() != "" {
			refs = append(refs, Ref(lines.Text()))
		}
	}
	return refs, lines.Err()
}
