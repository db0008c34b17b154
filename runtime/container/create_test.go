package container

import (
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestCommand is docker's table of what runs: CMD and ENTRYPOINT, each in shell
// and exec form, with --entrypoint and arguments.
func TestCommand(t *testing.T) {
	shell := func(text string) []string { return []string{"/bin/sh", "-c", text} }
	entry := func(text string) *string { return &text }
	for _, c := range []struct {
		name            string
		entrypoint, cmd []string
		flag            *string
		args            []string
		want            string
	}{
		{"exec CMD", nil, []string{"a", "b"}, nil, nil, "a b"},
		{"shell CMD", nil, shell("a b"), nil, nil, "/bin/sh -c 'a b'"},
		{"arguments replace CMD", nil, []string{"a"}, nil, []string{"x", "y"}, "x y"},
		{"exec ENTRYPOINT and exec CMD", []string{"e"}, []string{"a", "b"}, nil, nil, "e a b"},
		{"exec ENTRYPOINT and shell CMD", []string{"e"}, shell("a"), nil, nil, "e /bin/sh -c a"},
		{"shell ENTRYPOINT ignores CMD by way of the shell", shell("e"), []string{"a"}, nil, nil, "/bin/sh -c e a"},
		{"ENTRYPOINT alone", []string{"e", "f"}, nil, nil, nil, "e f"},
		{"arguments after ENTRYPOINT", []string{"e"}, []string{"a"}, nil, []string{"x"}, "e x"},
		{"--entrypoint drops CMD", []string{"e"}, []string{"a"}, entry("g"), nil, "g"},
		{"--entrypoint with arguments", []string{"e"}, []string{"a"}, entry("g"), []string{"x"}, "g x"},
		{"--entrypoint is one word", nil, []string{"a"}, entry("g h"), nil, "'g h'"},
		{"no entrypoint, and no CMD either", []string{"e"}, []string{"a"}, entry(""), nil, ""},
		{"no entrypoint, with arguments", []string{"e"}, []string{"a"}, entry(""), []string{"x"}, "x"},
		{"nothing", nil, nil, nil, nil, ""},
		{"empty arguments count", []string{"e"}, nil, nil, []string{""}, "e ''"},
	} {
		entrypoint, args := command(&Request{Entrypoint: c.flag, Args: c.args}, ocispec.ImageConfig{Entrypoint: c.entrypoint, Cmd: c.cmd})
		if got := quoted(append(slices.Clone(entrypoint), args...)); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

func quoted(args []string) string {
	all := make([]string, len(args))
	for i, a := range args {
		if all[i] = a; a == "" || strings.Contains(a, " ") {
			all[i] = "'" + a + "'"
		}
	}
	return strings.Join(all, " ")
}

func TestMergeEnv(t *testing.T) {
	for _, c := range []struct {
		lists [][]string
		want  []string
	}{
		{[][]string{{"A=1", "B=2"}, {"A=3"}}, []string{"A=3", "B=2"}},
		{[][]string{{"A=1", "B=2"}, {"A"}}, []string{"B=2"}},
		{[][]string{{"A=1"}, {"AB=2"}, {"A="}}, []string{"A=", "AB=2"}},
		{[][]string{{"A=1"}, {"UNKNOWN"}}, []string{"A=1"}},
		{[][]string{{"A=x=y"}, {"A=z=w"}}, []string{"A=z=w"}},
		{nil, nil},
	} {
		if got := mergeEnv(c.lists...); !slices.Equal(got, c.want) {
			t.Errorf("%v: got %q, want %q", c.lists, got, c.want)
		}
	}
}

// The environment is docker's: defaults, which the container's replace.
func TestEnvironment(t *testing.T) {
	c := &Config{Hostname: "h", Env: []string{"PATH=/bin", "A=1"}}
	want := []string{"PATH=/bin", "HOSTNAME=h", "HOME=/root", "A=1"}
	if got := environment(c, "/root"); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	c = &Config{Terminal: true, Env: []string{"HOME=/elsewhere", "TERM=dumb"}}
	want = []string{"PATH=" + defaultPath, "HOSTNAME=", "TERM=dumb", "HOME=/elsewhere"}
	if got := environment(c, ""); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What is mounted below something else comes after it, and the image's volumes
// before what the command line puts at the same depth.
func TestMountsInOrder(t *testing.T) {
	given := []Mount{{Target: "/a/b/c"}, {Target: "/x"}, {Target: "/a/b/"}, {Target: "a"}}
	volumes := map[string]struct{}{"/x/": {}, "/v": {}, "/a/w": {}}
	var got []string
	for _, m := range inOrder(withVolumes(given, volumes)) {
		got = append(got, m.Target)
	}
	if want := []string{"/v", "/x", "a", "/a/w", "/a/b/", "/a/b/c"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestHosts(t *testing.T) {
	const common = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
	for _, c := range []struct {
		config Config
		want   string
	}{
		{Config{Hostname: "h", Network: Network{Mode: NetworkPrivate}}, common + "10.0.2.100\th\n"},
		{Config{Hostname: "h.example.org", Network: Network{Mode: NetworkPrivate}}, common + "10.0.2.100\th.example.org h\n"},
		{Config{Hostname: "h", Network: Network{Mode: NetworkNone}}, common},
		{Config{ExtraHosts: []string{"db:10.0.0.7", "six:fd00::7"}, Network: Network{Mode: NetworkNone}}, common + "10.0.0.7\tdb\nfd00::7\tsix\n"},
	} {
		if got := hosts(&c.config); got != c.want {
			t.Errorf("%+v: got\n%swant\n%s", c.config, got, c.want)
		}
	}
}
