package tree_test

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/tree"
)

func TestOverride(t *testing.T) {
	for text, want := range map[string]tree.Override{
		"1000:100:100644":         {UID: 1000, GID: 100, Mode: unix.S_IFREG | 0o644},
		"0:0:41777":               {Mode: unix.S_IFDIR | 0o1777},
		"4294967294:0:20666:1:3":  {UID: 4294967294, Mode: unix.S_IFCHR | 0o666, Major: 1, Minor: 3},
		"1:2:60660:4294967295:70": {UID: 1, GID: 2, Mode: unix.S_IFBLK | 0o660, Major: 4294967295, Minor: 70},
	} {
		got, err := tree.ParseOverride(text)
		if err != nil || got != want || got.String() != text {
			t.Errorf("%s: %+v (%s), %v", text, got, got, err)
		}
	}
	for _, text := range []string{
		"", "1", "1:2", "1:2:3", "1:2:100644:1:3", "1:2:20666", "1:2:20666:1", "-1:2:100644", "1:2:100648", "01:2:100644",
		"4294967295:0:100644", "4294967296:0:100644", "1:2:120777", "1:2:10644", "1:2:3100644", "1:2:100644:", " 1:2:100644", "+1:2:100644",
	} {
		if got, err := tree.ParseOverride(text); !errors.Is(err, tree.ErrOverride) {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}

func TestOverrideApply(t *testing.T) {
	device := unix.Stat_t{Mode: unix.S_IFREG | 0o600, Size: 5}
	tree.Override{UID: 7, GID: 8, Mode: unix.S_IFCHR | 0o666, Major: 1, Minor: 3}.Apply(&device)
	if device.Mode != unix.S_IFCHR|0o600 || device.Rdev != unix.Mkdev(1, 3) || device.Size != 0 || device.Uid != 7 || device.Gid != 8 {
		t.Errorf("device: %+v", device)
	}
	if o := tree.OverrideOf(&device); o.String() != "7:8:20600:1:3" {
		t.Errorf("back: %s", o)
	}
	// A later chmod counts, and what is copied to the wrong kind of file does not.
	dir := unix.Stat_t{Mode: unix.S_IFDIR | 0o711}
	tree.Override{UID: 7, Mode: unix.S_IFDIR | 0o755}.Apply(&dir)
	if dir.Mode != unix.S_IFDIR|0o711 || dir.Uid != 7 {
		t.Errorf("directory: %+v", dir)
	}
	tree.Override{UID: 9, Mode: unix.S_IFCHR | 0o755}.Apply(&dir)
	if dir.Mode != unix.S_IFDIR|0o711 || dir.Uid != 7 {
		t.Errorf("a device override changed a directory: %+v", dir)
	}
}

func FuzzParseOverride(f *testing.F) {
	f.Add("1000:100:100644")
	f.Add("1:2:20666:1:3")
	f.Fuzz(func(t *testing.T, text string) {
		o, err := tree.ParseOverride(text)
		if err == nil && o.String() != text {
			t.Errorf("%q is read as %+v, which is %q", text, o, o)
		}
	})
}
