package container

import (
	"errors"
	"strings"
	"testing"
)

func TestCheckName(t *testing.T) {
	for _, name := range []string{"a", "A1", "0", "a_b.c-d", strings.Repeat("x", 128)} {
		if err := checkName("container", name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"", ".", "..", "-a", "_a", ".a", "a/b", "../a", "a b", "a\n", "a\x00", "ä", "a:b", strings.Repeat("x", 129)} {
		if checkName("container", name) == nil {
			t.Errorf("%q was taken", name)
		}
	}
}

// A random name is a new one, also when most are taken.
func TestRandomName(t *testing.T) {
	asked := 0
	name := randomName(func(string) bool { asked++; return asked <= 25 })
	if err := checkName("container", name); err != nil {
		t.Error(err)
	}
	if asked < 26 {
		t.Errorf("%s was given after %d names were taken", name, asked)
	}
	seen := map[string]bool{}
	for range 500 {
		name := randomName(func(n string) bool { return seen[n] })
		if seen[name] {
			t.Fatalf("%s was given twice", name)
		}
		seen[name] = true
	}
}

func TestChoose(t *testing.T) {
	id := func(prefix string) string { return prefix + strings.Repeat("0", 64-len(prefix)) }
	all := []Record{{ID: id("abc1"), Name: "one"}, {ID: id("abc2"), Name: "two"}, {ID: id("def"), Name: "abc1"}}
	for name, want := range map[string]string{
		"one": id("abc1"), "two": id("abc2"), "abc2": id("abc2"), id("abc2")[:12]: id("abc2"), "d": id("def"),
		"abc1": id("def"), // a name comes before an id
	} {
		got, err := choose(all, name)
		if err != nil || got.ID != want {
			t.Errorf("%s: got %s, %v, want %s", name, got.ID, err, want)
		}
	}
	for name, text := range map[string]string{
		"abc": "stands for several containers", "": "an empty name", "ons": "did you mean one?", "../one": "`strata ps -a` lists them",
		"ABC2": "no such container", "zzzzzzzz": "`strata ps -a` lists them",
	} {
		_, err := choose(all, name)
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%q: got %v, want %q", name, err, text)
		}
	}
	if _, err := choose(nil, "x"); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

// What belongs to a container is never outside of its directory.
func TestDirOfHostileIDs(t *testing.T) {
	s := &Set{}
	for _, id := range []string{"", ".", "..", "../x", "a/b", "/etc", "a\x00"} {
		if dir, err := s.dir(id); err == nil {
			t.Errorf("%q has the directory %s", id, dir)
		}
		if dir, err := s.VolumeDir(id); err == nil {
			t.Errorf("the volume %q has the directory %s", id, dir)
		}
	}
}
