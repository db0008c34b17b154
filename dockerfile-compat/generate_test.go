package dockerfilecompat

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"

	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// generator writes Dockerfiles of everything that a Dockerfile can say, in
// combinations that nobody would write. Most of them BuildKit accepts.
type generator struct {
	*rand.Rand
	stages []string
	escape string
	b      strings.Builder
}

// TestGenerated converts generated Dockerfiles; GENERATED is how many, and
// GENERATED_SEED where to begin.
func TestGenerated(t *testing.T) {
	n, seed := 300, uint64(1)
	if text := os.Getenv("GENERATED"); text != "" {
		n, _ = strconv.Atoi(text)
	}
	if text := os.Getenv("GENERATED_SEED"); text != "" {
		s, _ := strconv.Atoi(text)
		seed = uint64(s)
	}
	corpus := map[string]string{}
	flags := map[string]func(*Request){}
	for i := range uint64(n) {
		g := &generator{Rand: rand.New(rand.NewPCG(seed+i, 0))}
		name := fmt.Sprintf("seed %d", seed+i)
		corpus[name], flags[name] = g.dockerfile(), g.flagsOf()
	}
	tally := convertWith(t, corpus, flags)
	t.Logf("%d of %d Dockerfiles accepted by BuildKit, %d of %d stages native, %s", tally.accepted, n, tally.native, tally.stages, tally.took)
	if tally.accepted*5 < n*2 {
		t.Errorf("BuildKit accepts only %d of %d Dockerfiles", tally.accepted, n)
	}
}

// pick returns one of several texts.
func (g *generator) pick(texts ...string) string { return texts[g.IntN(len(texts))] }

// maybe returns text one time in n.
func (g *generator) maybe(n int, text string) string {
	if g.IntN(n) == 0 {
		return text
	}
	return ""
}

func (g *generator) dockerfile() string {
	g.escape = `\`
	g.b.WriteString(g.maybe(12, "\xef\xbb\xbf"))
	g.b.WriteString(g.maybe(6, g.pick("# syntax=docker/dockerfile:1\n", "#syntax = docker/dockerfile-upstream:master\n", "# check=skip=all\n")))
	if g.IntN(12) == 0 {
		g.escape = "`"
		g.b.WriteString("# escape=`\n")
	}
	g.b.WriteString(g.maybe(3, "# a comment\n\n"))
	for range g.IntN(3) {
		g.line(g.arg())
	}
	for i := range 1 + g.IntN(4) {
		g.from(i)
		for range g.IntN(7) {
			g.b.WriteString(g.maybe(6, g.pick("# a comment\n", "\n", "  # indented\n", "#\n")))
			g.line(g.maybe(15, "ONBUILD ") + g.instruction())
		}
	}
	text := g.b.String()
	if g.IntN(10) == 0 {
		text = strings.ReplaceAll(text, "\n", "\r\n")
	}
	if g.IntN(10) == 0 {
		text = strings.TrimRight(text, "\r\n")
	}
	return text
}

// flagsOf are flags of the command line: arguments and platforms.
func (g *generator) flagsOf() func(*Request) {
	args := map[string]string{}
	for _, name := range []string{"A", "B", "V", "BASE", "lower", "TARGETARCH"} {
		if g.IntN(8) == 0 {
			args[name] = g.pick("alpine", "given", "", "1", "x", "a b", "$A", "é")
		}
	}
	var list []ocispecs.Platform
	for range g.IntN(3) * g.IntN(2) {
		list = append(list, ocispecs.Platform{OS: "linux", Architecture: g.pick("amd64", "arm64", "s390x")})
	}
	if len(list) == 2 && list[0].Architecture == list[1].Architecture {
		list = list[:1]
	}
	return func(req *Request) { req.Options.Args, req.Platforms = args, list }
}

// line writes an instruction, sometimes indented, in lower case, or broken.
func (g *generator) line(text string) {
	if name, rest, ok := strings.Cut(text, " "); ok && g.IntN(15) == 0 {
		text = strings.ToLower(name) + " " + rest
	}
	if !strings.Contains(text, "<<") && g.IntN(5) == 0 {
		if at := strings.LastIndex(text, " "); at > 0 {
			text = text[:at+1] + g.escape + g.pick("\n", "\n  ", "  \n", "\n# within\n", "\n\n") + text[at+1:]
		}
	}
	g.b.WriteString(g.maybe(10, "  ") + text + g.maybe(15, "  ") + "\n")
}

func (g *generator) from(i int) {
	name := g.pick("", "a", "b", "Build", "my.stage", "x-1", "dup", "v-1", "v-x", "v-2", "v-1-w", "s-amd64", "s-arm64", "s-s390x", "s-arm", "linux-amd64", "linux-s390x", "on-linux", "on-darwin")
	base := g.pick("alpine", "alpine:3", "golang", "nginx", "onbuild", "scratch", "$BASE", "${BASE:-alpine}", "alpine:${V:-1}", "alpine@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		"alpine${V}", "alpine${A:+:x}", "alpine:${B:-${A}}", "alpine:${B:-2}", "golang:1-${TARGETARCH}", "golang${TARGETARCH:+-$TARGETOS}", `"alpine:$V"`, "alpine:${V-4}", "${MISSING:-alpine}", "x-$TARGETARCH", "${BASE}${V:+:}${V}")
	if len(g.stages) > 0 && g.IntN(3) > 0 {
		base = g.stages[g.IntN(len(g.stages))]
	}
	if i > 1 && g.IntN(3) == 0 {
		base = g.pick("v-$V", "v-${V}", "v-${A}", "v-$V-w", "${V}", "s-$TARGETARCH", "s-${TARGETARCH}${TARGETVARIANT}", "${TARGETOS}-${TARGETARCH}", "on-$TARGETOS", "s-${BUILDARCH}", "v-${V:-1}", "s-${TARGETARCH:-amd64}", "v-${V:+2}", "$BASE", "s-$TARGETARCH$V")
	}
	if i == 0 && strings.Contains(base, "$") {
		g.line("ARG BASE=alpine")
	}
	text := "FROM " + g.maybe(6, g.pick("--platform=$BUILDPLATFORM ", "--platform=linux/arm64 ", "--platform=$TARGETPLATFORM ", "--platform=linux/${TARGETARCH} ")) + base
	if name != "" {
		text += g.pick(" AS ", " as ") + name
		g.stages = append(g.stages, name)
	} else {
		g.stages = append(g.stages, "alpine")
	}
	g.line(text)
}

// word is a word with something odd in it.
func (g *generator) word() string {
	return g.pick("a", "b/c", `"a b"`, `'a b'`, "$A", "${A}", "${A:-x}", "${A:+y}", `"$A"`, `'$A'`, g.escape+"$A", "a"+g.escape+" b",
		`"a`+g.escape+`"b"`, "${A#*x}", "${A##x}", "${A%y}", "${A/x/y}", "é", "a=b", `"#x"`, "a#b", `""`, "''", "%d", "$$", "a$", "${B}", "$PATH", "$TARGETARCH",
		"日本", "a,b", "a:b", "~", "{}", "[a", "a]", "*", "a?", "<x", "a>b", "&", ";", "a'b'c", `a"b"c`, "${A:-$B}", `${A:-"q"}`, "-x", "--", "0", "007")
}

// words are several words.
func (g *generator) words(n int) string {
	var list []string
	for range 1 + g.IntN(n) {
		list = append(list, g.word())
	}
	return strings.Join(list, " ")
}

func (g *generator) key() string {
	return g.pick("A", "B", "C_1", "lower", "PATH", "BASE", "a.b", "TARGETARCH", "HTTP_PROXY", "X-Y")
}

func (g *generator) arg() string {
	return "ARG " + g.pick(g.key(), g.key()+"="+g.word(), g.key()+"="+g.word()+" "+g.key(), "V=1", "BASE=alpine", "A=x", "A")
}

// instruction is any instruction but FROM.
func (g *generator) instruction() string {
	switch g.IntN(22) {
	case 0:
		return g.arg()
	case 1, 2:
		return "ENV " + g.pick(g.key()+"="+g.word(), g.key()+"="+g.word()+" "+g.key()+"="+g.word(), g.key()+" "+g.words(3), "A=$A:x", "PATH=/x:$PATH")
	case 3:
		return "LABEL " + g.pick(g.key()+"="+g.word(), g.key()+"="+g.word()+" "+g.key()+"="+g.word(), `"a b"=c`, `a="$A" b='$A'`, "a.b/c=x")
	case 4:
		return "WORKDIR " + g.pick("/w", "rel", "/w/$A", "/a b", `"/q"`, ".", "..", "$A", "/", `C:\x`)
	case 5:
		return "USER " + g.pick("app", "0", "1:2", "app:grp", "$A", "${A:-me}", "1")
	case 6:
		return "EXPOSE " + g.pick("80", "80/tcp 53/udp", "8000-8005", "$P", "80 80", "443/TCP", "${P:-90}", "80:81")
	case 7:
		return "VOLUME " + g.pick("/v", "/v /w", `["/v"]`, `["/a b", "$A"]`, "$A", "/v/$A")
	case 8:
		return g.pick("CMD", "ENTRYPOINT") + " " + g.pick(`["a", "b c"]`, "a $A b", `[]`, `["$A"]`, `[ "a" , "b" ]`, "a && b", `["a", b]`, `["\u00e9", "\""]`)
	case 9:
		return "SHELL " + g.pick(`["/bin/sh", "-c"]`, `["/bin/bash", "-eo", "pipefail", "-c"]`, `["cmd"]`, `["x", "$A"]`)
	case 10:
		return "STOPSIGNAL " + g.pick("SIGTERM", "9", "$A", "SIGKILL")
	case 11:
		return "HEALTHCHECK " + g.pick("NONE", "CMD x $A", `CMD ["x", "y"]`, "--interval=5s --timeout=1m30s CMD x", "--start-period=1s --start-interval=500ms --retries=3 CMD x", "--retries=0 CMD true")
	case 12:
		return "MAINTAINER " + g.pick("me", `"A B" <a@b>`, "$A", "é")
	case 13:
		return g.copyHeredoc()
	case 14, 15:
		return g.copy("COPY")
	case 16:
		return g.copy("ADD")
	case 17:
		return g.add()
	case 18:
		return g.runHeredoc()
	}
	return g.run()
}

// flags picks some of several flags, each at most once.
func (g *generator) flags(all ...string) string {
	out := ""
	for _, f := range all {
		out += g.maybe(5, f+" ")
	}
	return out
}

func (g *generator) stage() string {
	if len(g.stages) > 1 && g.IntN(3) > 0 {
		return g.stages[g.IntN(len(g.stages)-1)]
	}
	return g.pick("0", "alpine:3", "scratch", "1", "other/image@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
}

func (g *generator) copyFlags() string {
	return g.flags("--chown="+g.pick("app", "1:2", "app:grp", "$A", "0"), "--chmod="+g.pick("755", "0644", "u+x", "a=rX,u+w", "$A", "7777"),
		g.pick("--link", "--link=false"), "--parents", "--exclude="+g.pick("*.md", "**/x", "!y", "$A"), "--exclude=b")
}

func (g *generator) copy(verb string) string {
	text := verb + " " + g.copyFlags()
	if verb == "COPY" {
		text += g.maybe(3, "--from="+g.stage()+" ")
	}
	return text + g.pick("a b", ". .", "a b c/", `["a b", "c d/"]`, "a /", "*.go ./", "$A x", "x $A", "a/ b/", "/a/./b c/", `"a b" c`, "[x] y", g.word()+" d/", "a? b[0-9]* d/")
}

func (g *generator) add() string {
	return "ADD " + g.pick("--checksum=sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 https://example.com/x.tgz /x/",
		"https://example.com/a/b?c=d /d/", "--unpack https://example.com/x.tgz /", "--unpack=false x.tgz /", "https://github.com/a/b.git#v1 /s",
		"--keep-git-dir https://github.com/a/b.git#main:sub /s", "--keep-git-dir=true --chown=1:1 https://github.com/a/b.git?tag=v1 /s", "--exclude=x https://github.com/a/b.git /s",
		"https://example.com/$A /", "a https://example.com/x /d/", "--chmod=600 https://example.com/x /x")
}

// heredocText is lines with something odd in them.
func (g *generator) heredocText() string {
	var b strings.Builder
	for range g.IntN(5) {
		b.WriteString(g.pick("", "\t", "    ") + g.pick(g.word(), g.words(3), "# no comment", `\`, "a \\", `"""`, `\(x)`, `#"`, "", "echo $A", "FROM x", "é", "EO", "'", "if true; then", "  x  ", "\t\tx") + "\n")
	}
	return b.String()
}

func (g *generator) copyHeredoc() string {
	name := g.pick("EOF", "file.txt", "A")
	start := g.pick("<<"+name, "<<-"+name, `<<"`+name+`"`, "<<'"+name+"'")
	text := g.pick("COPY ", "COPY ", "ADD ") + g.copyFlags() + start + " " + g.pick("/f", "/d/", `"/a b"`, "$A", "rel")
	if g.IntN(6) == 0 {
		return "COPY " + start + " <<B /d/\n" + g.heredocText() + name + "\n" + g.heredocText() + "B"
	}
	return text + "\n" + g.heredocText() + name
}

func (g *generator) runHeredoc() string {
	start := g.pick("<<EOF", "<<-EOF", `<<"EOF"`, "<<'EOF'", "3<<EOF", "<<EOF cat", "cat <<EOF > /x", "bash <<EOF", "<<EOF /bin/sh -e", "cat <<EOF && cat <<E2")
	text := "RUN " + g.runFlags() + start + "\n" + g.maybe(6, "#!/bin/bash\n") + g.heredocText() + "EOF"
	if strings.Contains(start, "E2") {
		text += "\n" + g.heredocText() + "E2"
	}
	return text
}

func (g *generator) runFlags() string {
	target := func() string { return g.pick("/t", "/u", "rel", "$A", "/t/v") }
	return g.flags("--network="+g.pick("none", "host", "default"), "--security="+g.pick("sandbox", "insecure"), g.maybe(3, "--device=vendor.com/x=y"),
		"--mount=type=cache,target="+target()+g.pick("", ",id=i", ",sharing=locked", ",sharing=private,mode=0700,uid=1,gid=2", ",ro", ",from=alpine,source=/s", ",id=$A", ",sharing=shared"),
		"--mount=type=bind,target="+target()+g.pick("", ",source=s", ",from=alpine:3", ",rw", ",from=0", ",source=$A", ",readwrite=false", ",ro"),
		"--mount=from="+g.stage()+",dst="+target(),
		"--mount=type=tmpfs,target="+target()+g.pick("", ",size=10m", ",size=1048576"),
		"--mount=type=secret,id=s"+g.pick("", ",target=/s", ",env=S", ",required", ",required=true,mode=0400,uid=1", ",env=S,target=/s", ",src=x"),
		"--mount=type=ssh"+g.pick("", ",id=x", ",required", ",target=/a.sock", ",mode=0666,uid=5"))
}

func (g *generator) run() string {
	return "RUN " + g.runFlags() + g.pick("x", "a && b", `["a", "b"]`, `["sh", "-c", "$A"]`, g.words(5), `echo "a b" '$A' `+g.word(), "a "+g.escape+"\n  b "+g.escape+"\n  c",
		"a "+g.escape+"\n# comment\n  && b", "x; "+g.escape+"\n\n y", "printf '%s\\n' \"x\"", `a \\ b`, "[ -f x ] && y", `["a" "b"]`, "  spaces   kept  ", "\ttab", `echo \(x)`, `echo """`, `echo "#`)
}

// FuzzGenerated is TestGenerated with seeds that a fuzzer picks.
func FuzzGenerated(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		g := &generator{Rand: rand.New(rand.NewPCG(seed, 0))}
		name := fmt.Sprintf("seed %d", seed)
		convertWith(t, map[string]string{name: g.dockerfile()}, map[string]func(*Request){name: g.flagsOf()})
	})
}
