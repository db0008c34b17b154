package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
)

// FsckOptions say what Fsck does.
type FsckOptions struct {
	// Policy names the caches; see Collect.
	Policy Policy
	// Repair removes what is damaged, and cache records without their
	// content. What is lost is made or fetched again when it is needed.
	Repair bool
}

// Problem is something that Fsck found.
type Problem struct {
	Ref Ref
	// What is wrong, as the end of a sentence that begins with the ref.
	What string
	// Repaired says that it was removed.
	Repaired bool
}

// Fsck reads everything in the store and compares it with its digests and
// checksums. What a power loss made doubtful is reported, too.
func (s *Store) Fsck(ctx context.Context, o FsckOptions, owners ...Owner) ([]Problem, error) {
	g, err := s.load(ctx, o.Policy, owners)
	if err != nil {
		return nil, fmt.Errorf("check store: %w", err)
	}
	var problems []Problem
	for _, t := range g.damaged {
		problems = append(problems, Problem{Ref: Ref(recordPrefix + t.Type), What: "holds a damaged or doubtful record, " + t.path})
	}
	for _, t := range g.things {
		what, err := g.inspect(ctx, t)
		if err != nil {
			return problems, fmt.Errorf("check %s: %w", t.Ref, err)
		}
		if what != "" {
			problems = append(problems, Problem{Ref: t.Ref, What: what})
		}
	}
	if !o.Repair {
		return problems, nil
	}
	err = s.exclusively(ctx, func() error { return s.repair(ctx, o, owners, problems) })
	if err != nil {
		return problems, fmt.Errorf("repair store: %w", err)
	}
	return problems, nil
}

// inspect returns what is wrong with a thing, or nothing.
func (g *graph) inspect(ctx context.Context, t *thing) (string, error) {
	if t.Ref.prefix() == recordPrefix && g.broken(t) {
		return "refers to something that is gone", nil
	}
	if t.Ref.prefix() != blobPrefix {
		return "", nil
	}
	f, err := os.Open(t.path)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, readerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return f.Read(p)
	}))
	if err == nil && hex.EncodeToString(h.Sum(nil)) != hexOf(t.Ref) {
		return "has content of another digest", nil
	}
	return "", err
}

// repair looks at what was found again, now that nobody can be replacing it,
// and removes it.
func (s *Store) repair(ctx context.Context, o FsckOptions, owners []Owner, problems []Problem) error {
	g, err := s.load(ctx, o.Policy, owners)
	if err != nil {
		return err
	}
	var errs []error
	for _, t := range g.damaged {
		errs = append(errs, removeFile(t.path))
	}
	for i, p := range problems {
		t := g.things[p.Ref]
		if t == nil {
			problems[i].Repaired = true
			continue
		}
		if t.role == always {
			continue // a user's own: only they can say what it was
		}
		what, err := g.inspect(ctx, t)
		if err == nil && what != "" {
			problems[i].Repaired, err = g.removeThing(ctx, t)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
