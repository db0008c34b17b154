package nearest

import "testing"

func TestName(t *testing.T) {
	candidates := []string{"entrypoint", "expose", "env", "no-cache"}
	for name, want := range map[string]string{
		"entrypiont": "entrypoint", "Expose": "expose", "nocache": "no-cache", "evn": "env", "volume": "", "env": "",
	} {
		if got := Name(name, candidates); got != want {
			t.Errorf("Name(%q) = %q, want %q", name, got, want)
		}
	}
}
