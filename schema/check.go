package schema

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/token"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/sys/signal"
	digest "github.com/opencontainers/go-digest"
)

// filled is a string that is not empty.
func (d *decoder) filled(v cue.Value) string {
	s, ok := d.strOK(v)
	if ok && s == "" {
		d.fail(v, "the string is empty", "")
	}
	return s
}

// variable reports whether s has a $VARIABLE, whose value is known later.
func variable(s string) bool { return strings.Contains(s, "$") }

// registryRef checks a reference to an image in a registry.
func (d *decoder) registryRef(v cue.Value, ref string, s *scope) string {
	switch {
	case ref == "":
		d.fail(v, "the string is empty", `write "scratch" to start from nothing`)
	case ref == "scratch" || variable(ref):
	case d.looksLikeStage(ref, s):
		name := ref
		if !strings.HasPrefix(ref, "stages.") {
			name = "stages." + ref
		}
		d.fail(v, fmt.Sprintf("%q in quotes is an image of a registry, not the stage", ref),
			fmt.Sprintf("write %s without quotes, or %q for the registry's", name, ref+":latest"))
	default:
		if _, err := reference.ParseNormalizedNamed(ref); err != nil {
			d.fail(v, fmt.Sprintf("%q is no image reference: %s", ref, refReason(err)), "")
		}
	}
	return ref
}

// refReason is what a parser of references complains about, without its
// prefix.
func refReason(err error) string {
	return strings.TrimPrefix(err.Error(), "invalid reference format: ")
}

// looksLikeStage reports whether ref, in quotes, was meant as a stage.
func (d *decoder) looksLikeStage(ref string, s *scope) bool {
	name, prefixed := strings.CutPrefix(ref, "stages.")
	if strings.ContainsAny(name, ":/@") {
		return false
	}
	for outer := s; outer != nil; outer = outer.outer {
		own := outer.at.path.Selectors()
		if len(own) > 0 && selectorName(own[len(own)-1]) == ref && !prefixed {
			return false // stages: debian: from: "debian"
		}
		stage := d.rootOf(outer.at.inst).LookupPath(outer.at.path.Append(cue.Str("stages"), cue.Str(name)))
		if stage.Exists() {
			return true
		}
	}
	return false
}

// tagName checks a name to push or load an image as.
func (d *decoder) tagName(v cue.Value) string {
	s, ok := d.strOK(v)
	if !ok {
		return ""
	}
	named, err := reference.ParseNormalizedNamed(s)
	switch {
	case err != nil:
		d.fail(v, fmt.Sprintf("%q is no name for an image: %s", s, refReason(err)), `write for example "registry.example.com/team/app:1.0"`)
	default:
		if _, ok := named.(reference.Digested); ok {
			d.fail(v, "an image cannot be given its digest", "leave out the part from @ on")
		}
	}
	return s
}

// platform checks a platform: "build", "target" or os/arch[/variant].
func (d *decoder) platform(v cue.Value) string {
	s, ok := d.strOK(v)
	if !ok || s == "build" || s == "target" || variable(s) {
		return s
	}
	if !strings.Contains(s, "/") {
		d.fail(v, fmt.Sprintf("%q is no platform", s), `write os/architecture, for example "linux/amd64"`)
		return s
	}
	if _, err := platforms.Parse(s); err != nil {
		d.fail(v, fmt.Sprintf("%q is no platform", s), `write os/architecture, for example "linux/amd64"`)
	}
	return s
}

// duration checks a duration of a healthcheck.
func (d *decoder) duration(v cue.Value) string {
	s, ok := d.strOK(v)
	if !ok {
		return ""
	}
	t, err := time.ParseDuration(s)
	switch {
	case err != nil:
		d.fail(v, fmt.Sprintf("%q is no duration", s), `write for example "10s", "1m30s" or "500ms"`)
	case t < 0:
		d.fail(v, fmt.Sprintf("the duration %q is below 0", s), "")
	case t > 0 && t < time.Millisecond:
		d.fail(v, fmt.Sprintf("the duration %q is below 1ms", s), "")
	}
	return s
}

// stopSignal checks the name or number of a signal.
func (d *decoder) stopSignal(v cue.Value) *string {
	s := d.optional(v)
	if s != nil && !variable(*s) {
		if _, err := signal.ParseSignal(*s); err != nil {
			d.fail(v, fmt.Sprintf("%q is no signal", *s), `write for example "SIGTERM" or "15"`)
		}
	}
	return s
}

var portForm = regexp.MustCompile(`^([0-9]+)(?:-([0-9]+))?(?:/(?i:tcp|udp|sctp))?$`)

// ports decodes `expose`: numbers, or "80", "80/udp", "8000-8010/tcp".
func (d *decoder) ports(v cue.Value) []string {
	list := []string{}
	d.items(v, "a list of ports", func(item cue.Value) {
		settled, k := d.settle(item)
		switch k {
		case cue.IntKind:
			n, _ := settled.Int64()
			list = append(list, strconv.FormatInt(n, 10))
		case cue.StringKind:
			list = append(list, d.str(settled))
		case cue.BottomKind:
			return
		default:
			d.mistyped(settled, k, `a port: 80, "80/udp" or "8000-8010"`)
			return
		}
		if port := list[len(list)-1]; !variable(port) && !validPort(port) {
			d.fail(item, fmt.Sprintf("%s is no port", describe(settled, k)), `write 1 to 65535, "53/udp" or "8000-8010"`)
		}
	})
	return list
}

func validPort(s string) bool {
	m := portForm.FindStringSubmatch(s)
	if m == nil {
		return false
	}
	first, err := strconv.ParseUint(m[1], 10, 16)
	if err != nil || first == 0 {
		return false
	}
	if m[2] == "" {
		return true
	}
	last, err := strconv.ParseUint(m[2], 10, 16)
	return err == nil && last >= first
}

var symbolicMode = regexp.MustCompile(`^[ugoa]*(?:[-+=](?:[rwxXst]*|[ugo]))+(?:,[ugoa]*(?:[-+=](?:[rwxXst]*|[ugo]))+)*$`)

// mode decodes a file mode into octal digits. CUE's integers are decimal
// unless they say 0o, so `755` is a mistake for 0o755.
func (d *decoder) mode(v cue.Value, symbolic bool) string {
	settled, k := d.settle(v)
	switch k {
	case cue.BottomKind:
		return ""
	case cue.StringKind:
		s := d.str(settled)
		if !octalMode(s) && !(symbolic && (symbolicMode.MatchString(s) || variable(s))) {
			d.fail(v, fmt.Sprintf("%q is no file mode", s), `write for example "0755"`+orSymbolic(symbolic))
		}
		return s
	case cue.IntKind:
	default:
		d.mistyped(settled, k, `a file mode, "0755" or 0o755`)
		return ""
	}
	n, err := settled.Int64()
	text, decimal := d.decimalLiteral(v)
	switch {
	case decimal && octalMode(text) && n > 0:
		d.fail(v, fmt.Sprintf("%s is a decimal number", text), fmt.Sprintf("write 0o%s or %q", text, text))
	case err != nil || n < 0 || n > 0o7777:
		d.fail(v, fmt.Sprintf("%s is no file mode", literal(settled)), "write 0 to 0o7777")
	}
	return fmt.Sprintf("%04o", n)
}

func orSymbolic(symbolic bool) string {
	if symbolic {
		return ` or "u+x"`
	}
	return ""
}

// octalMode reports whether s is octal digits of a mode.
func octalMode(s string) bool {
	n, err := strconv.ParseUint(s, 8, 32)
	return err == nil && n <= 0o7777
}

// decimalLiteral is the text of a number that the user wrote in decimal.
func (d *decoder) decimalLiteral(v cue.Value) (string, bool) {
	for range maxChain {
		for _, n := range d.nodes(v) {
			if f, ok := n.(*ast.Field); ok {
				n = f.Value
			}
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.INT {
				return lit.Value, !strings.HasPrefix(lit.Value, "0")
			}
		}
		next := cue.Dereference(v)
		if next == v {
			break
		}
		v = next
	}
	return "", false
}

// checksum checks a digest, or a commit where commits are allowed.
func (d *decoder) checksum(v cue.Value, variables bool) string {
	s, ok := d.strOK(v)
	if !ok || variables && variable(s) {
		return s
	}
	if digest.Digest(s).Validate() != nil && !commitForm.MatchString(s) {
		d.fail(v, fmt.Sprintf("%q is no checksum", s), `write "sha256:" and 64 hexadecimal digits, or a git commit`)
	}
	return s
}

var commitForm = regexp.MustCompile(`^[0-9a-f]{7,64}$`)

// url checks the URL of a download.
func (d *decoder) url(v cue.Value) string {
	s, ok := d.strOK(v)
	if ok && !strings.HasPrefix(s, "http://") && !strings.HasPrefix(s, "https://") {
		d.fail(v, fmt.Sprintf("%q is no URL", s), "it begins with https:// or http://")
	}
	return s
}

// enum checks that a string is one of a few.
func (d *decoder) enum(v cue.Value, allowed ...string) string {
	s, ok := d.strOK(v)
	if !ok {
		return ""
	}
	for _, a := range allowed {
		if s == a {
			return s
		}
	}
	e := d.fail(v, fmt.Sprintf("%q is not allowed", s), didYouMean(s, allowed))
	e.Allowed = quoted(allowed)
	return s
}

var argName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)

func (d *decoder) checkArgName(name string, v cue.Value) {
	if !argName.MatchString(name) {
		d.failLabel(v, fmt.Sprintf("%q is no name for an argument", name), "use letters, digits and _")
	}
}

func (d *decoder) checkEnvName(name string, v cue.Value) {
	if name == "" || strings.ContainsAny(name, "=\x00") {
		d.failLabel(v, fmt.Sprintf("%q is no name for a variable", name), "")
	}
}

func (d *decoder) checkKey(name string, v cue.Value) {
	if name == "" {
		d.failLabel(v, "the name is empty", "")
	}
}
