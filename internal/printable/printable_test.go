package printable

import "testing"

func TestPrintable(t *testing.T) {
	for text, want := range map[string]struct{ text, quoted string }{
		"größe a":        {"größe a", "größe a"},
		"a\x1b[2J\tb\nc": {"a?[2J?b?c", `"a\x1b[2J\tb\nc"`},
		"d\u202ee\u009b": {"d?e?", `"d\u202ee\u009b"`},
	} {
		if got := Text(text, '?'); got != want.text {
			t.Errorf("Text(%q) = %q, want %q", text, got, want.text)
		}
		if got := Quoted(text); got != want.quoted {
			t.Errorf("Quoted(%q) = %q, want %q", text, got, want.quoted)
		}
	}
}
