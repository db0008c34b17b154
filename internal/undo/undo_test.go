package undo_test

import (
	"errors"
	"testing"

	"github.com/strata-build/strata/internal/undo"
)

func TestLastToFirst(t *testing.T) {
	var s undo.Stack
	var order string
	failed := errors.New("failed")
	for _, name := range []string{"a", "b", "c"} {
		s.Add(func() error {
			order += name
			if name == "b" {
				return failed
			}
			return nil
		})
	}
	if err := s.Close(); !errors.Is(err, failed) || order != "cba" {
		t.Errorf("undone in order %q: %v", order, err)
	}
	if err := s.Close(); err != nil || order != "cba" {
		t.Errorf("a second time: %q, %v", order, err)
	}
}
