package layer

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
)

func contentsOf(t *testing.T, layers ...[]byte) *Contents {
	t.Helper()
	var opens []func() (io.ReadCloser, error)
	for _, data := range layers {
		opens = append(opens, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil })
	}
	c, err := ReadContents(context.Background(), opens)
	must(t, err)
	return c
}

func (c Content) text() string {
	var out []string
	for _, list := range []struct {
		letter string
		files  []File
	}{{"A", c.Added}, {"C", c.Changed}, {"D", c.Hidden}} {
		for _, f := range list.files {
			out = append(out, fmt.Sprintf("%s%s=%d", list.letter, f.Path, f.Size))
		}
	}
	return strings.Join(out, " ")
}

func TestContents(t *testing.T) {
	c := contentsOf(t,
		makeTar(t, entry{name: "etc/"}, entry{name: "etc/a", data: "12345"}, entry{name: "var/"}, entry{name: "var/log/"},
			entry{name: "var/log/x", data: "123"}, entry{name: "var/log/y", data: "12"}, entry{name: "tool", data: "1234567"}),
		// etc is repeated, log goes with all that is in it, tool becomes a directory.
		makeTar(t, entry{name: "./etc/"}, entry{name: "./etc/a", data: "1234"}, entry{name: "var/.wh.log"}, entry{name: "new/sub/file", data: "1"},
			entry{name: "tool/"}, entry{name: "tool/part", data: "1"}),
		// An opaque directory hides what it does not have itself.
		makeTar(t, entry{name: "etc/", mode: 0o700}, entry{name: "etc/b", data: "123456"}, entry{name: "etc/.wh..wh..opq"},
			entry{name: ".wh.missing"}, entry{name: "../../tool/part", data: "22"}))
	want := []string{
		"A/etc/=0 A/etc/a=5 A/tool=7 A/var/=0 A/var/log/=0 A/var/log/x=3 A/var/log/y=2",
		"A/new/sub/file=1 A/tool/part=1 C/etc/a=4 C/tool/=0 D/var/log/=5",
		"A/etc/b=6 C/etc/=0 C/tool/part=2 D/etc/a=4",
	}
	for i, w := range want {
		if got := c.Layers[i].text(); got != w {
			t.Errorf("layer %d:\n\t%s\nwant\n\t%s", i+1, got, w)
		}
	}
	var wasted []string
	for _, w := range c.Wasted {
		wasted = append(wasted, fmt.Sprintf("%s=%d(%d,%d,%t)", w.Path, w.Size, w.Layer, w.By, w.Removed))
	}
	wantWaste := "/tool=7(1,2,false) /etc/a=5(1,2,false) /etc/a=4(2,3,true) /var/log/x=3(1,2,true) /var/log/y=2(1,2,true) /tool/part=1(2,3,false)"
	if got := strings.Join(wasted, " "); got != wantWaste {
		t.Errorf("wasted:\n\t%s\nwant\n\t%s", got, wantWaste)
	}
	if c.WastedBytes != 22 || c.Bytes != 31 {
		t.Errorf("%d of %d bytes are wasted, want 22 of 31", c.WastedBytes, c.Bytes)
	}
}

// Nothing is wasted where no layer hides anything.
func TestContentsWithoutWaste(t *testing.T) {
	c := contentsOf(t, makeTar(t, entry{name: "a", data: "x"}), makeTar(t, entry{name: "b", data: "y"}), makeTar(t))
	if c.Efficiency() != 1 || len(c.Wasted) != 0 || contentsOf(t).Efficiency() != 1 {
		t.Errorf("efficiency %v, wasted %v", c.Efficiency(), c.Wasted)
	}
}

func TestContentsOfDamagedLayer(t *testing.T) {
	data := makeTar(t, entry{name: "a", data: strings.Repeat("x", 2000)})[:1000]
	_, err := ReadContents(context.Background(), []func() (io.ReadCloser, error){
		func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil },
	})
	if err == nil || !strings.Contains(err.Error(), "layer 1 of 1") {
		t.Errorf("err = %v", err)
	}
}
