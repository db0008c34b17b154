package bounded

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestReader(t *testing.T) {
	reason := errors.New("enough")
	ctx, end := context.WithCancelCause(t.Context())
	r := Reader(ctx, strings.NewReader("abc"))
	p := make([]byte, 2)
	if n, err := r.Read(p); n != 2 || err != nil {
		t.Fatalf("got %d, %v", n, err)
	}
	end(reason)
	if n, err := io.Copy(io.Discard, r); n != 0 || !errors.Is(err, reason) {
		t.Errorf("after the end: got %d, %v", n, err)
	}
}

func TestHead(t *testing.T) {
	h := Head{Max: 4}
	for range 3 {
		if n, err := h.Write([]byte("abc")); n != 3 || err != nil {
			t.Errorf("got %d, %v", n, err)
		}
	}
	if h.String() != "abca" {
		t.Errorf("kept %q", h.String())
	}
}
