package main

import (
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
)

func TestBook(t *testing.T) {
	file := filepath.Join(t.TempDir(), "book.json")
	b, err := open(file)
	if err != nil {
		t.Fatal(err)
	}
	b.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/?name=ann&text=hi", nil))
	if b, err = open(file); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	b.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if !strings.Contains(w.Body.String(), "ann: hi") {
		t.Errorf("it says %q", w.Body)
	}
}
