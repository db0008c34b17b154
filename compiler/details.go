package compiler

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/moby/buildkit/solver/pb"
)

// details are the lines below an op's summary: all that its key depends on
// besides.
func details(op *pb.Op) []string {
	switch x := op.GetOp().(type) {
	case *pb.Op_Source:
		return sourceDetails(op, x.Source)
	case *pb.Op_Exec:
		return execDetails(op, x.Exec)
	case *pb.Op_File:
		var lines []string
		for _, a := range x.File.GetActions() {
			lines = append(lines, actionDetails(a)...)
		}
		return lines
	}
	return nil
}

func sourceDetails(op *pb.Op, src *pb.SourceOp) []string {
	var lines []string
	if p := op.GetPlatform(); p != nil {
		lines = append(lines, "platform "+platformName(p))
	}
	for _, name := range slices.Sorted(maps.Keys(src.GetAttrs())) {
		if !slices.Contains(sessionAttrs(), name) {
			lines = append(lines, name+" "+quoteLine(src.Attrs[name]))
		}
	}
	return lines
}

func platformName(p *pb.Platform) string {
	name := p.GetOS() + "/" + p.GetArchitecture()
	if p.GetVariant() != "" {
		name += "/" + p.GetVariant()
	}
	return name
}

// execDetails are the lines for a command. Fields with their usual value are
// left out.
func execDetails(op *pb.Op, e *pb.ExecOp) []string {
	meta := e.GetMeta()
	lines := []string{"platform " + platformName(op.GetPlatform()), "cwd " + meta.GetCwd()}
	for _, kv := range meta.GetEnv() {
		lines = append(lines, "env "+quoteLine(kv))
	}
	lines = appendIf(lines, "user ", meta.GetUser())
	lines = appendIf(lines, "hostname ", meta.GetHostname())
	lines = appendIf(lines, "cgroup parent ", meta.GetCgroupParent())
	for _, h := range meta.GetExtraHosts() {
		lines = append(lines, fmt.Sprintf("host %s %s", h.GetHost(), h.GetIP()))
	}
	for _, u := range meta.GetUlimit() {
		lines = append(lines, fmt.Sprintf("ulimit %s %d:%d", u.GetName(), u.GetSoft(), u.GetHard()))
	}
	if p := meta.GetProxyEnv(); p != nil {
		lines = append(lines, "proxy "+strings.Join([]string{p.HttpProxy, p.HttpsProxy, p.FtpProxy, p.NoProxy, p.AllProxy}, " "))
	}
	if e.GetNetwork() != pb.NetMode_UNSET {
		lines = append(lines, "network "+strings.ToLower(e.GetNetwork().String()))
	}
	if e.GetSecurity() != pb.SecurityMode_SANDBOX {
		lines = append(lines, "security "+strings.ToLower(e.GetSecurity().String()))
	}
	for _, m := range e.GetMounts() {
		lines = append(lines, mountDetails(m))
	}
	for _, s := range e.GetSecretenv() {
		lines = append(lines, fmt.Sprintf("secret %s as $%s%s", s.GetID(), s.GetName(), optional(s.GetOptional())))
	}
	for _, d := range e.GetCdiDevices() {
		lines = append(lines, "device "+d.GetName()+optional(d.GetOptional()))
	}
	return lines
}

func appendIf(lines []string, name, value string) []string {
	if value == "" {
		return lines
	}
	return append(lines, name+value)
}

func optional(is bool) string {
	if is {
		return " optional"
	}
	return " required"
}

// mountDetails is a mount in one line.
func mountDetails(m *pb.Mount) string {
	words := []string{"mount", m.GetDest(), strings.ToLower(m.GetMountType().String())}
	if m.GetInput() >= 0 {
		words = append(words, fmt.Sprintf("input %d", m.GetInput()))
	}
	if m.GetSelector() != "" {
		words = append(words, "from "+m.GetSelector())
	}
	if m.GetReadonly() {
		words = append(words, "ro")
	}
	if c := m.GetCacheOpt(); c != nil {
		words = append(words, c.GetID(), strings.ToLower(c.GetSharing().String()))
	}
	if t := m.GetTmpfsOpt(); t.GetSize() != 0 {
		words = append(words, fmt.Sprintf("size %d", t.GetSize()))
	}
	if s := m.GetSecretOpt(); s != nil {
		words = append(words, fmt.Sprintf("%s %d:%d %04o%s", s.GetID(), s.GetUid(), s.GetGid(), s.GetMode(), optional(s.GetOptional())))
	}
	if s := m.GetSSHOpt(); s != nil {
		words = append(words, fmt.Sprintf("%s %d:%d %04o%s", s.GetID(), s.GetUid(), s.GetGid(), s.GetMode(), optional(s.GetOptional())))
	}
	return strings.Join(words, " ")
}

// actionDetails are the lines for a file action.
func actionDetails(a *pb.FileAction) []string {
	switch x := a.GetAction().(type) {
	case *pb.FileAction_Copy:
		return copyDetails(x.Copy)
	case *pb.FileAction_Mkfile:
		return []string{fmt.Sprintf("mode %04o%s %q", x.Mkfile.GetMode(), owner(x.Mkfile.GetOwner()), x.Mkfile.GetData())}
	case *pb.FileAction_Mkdir:
		return []string{fmt.Sprintf("mode %04o%s", x.Mkdir.GetMode(), owner(x.Mkdir.GetOwner()))}
	case *pb.FileAction_Symlink:
		if o := owner(x.Symlink.GetOwner()); o != "" {
			return []string{strings.TrimSpace(o)}
		}
	}
	return nil
}

func copyDetails(c *pb.FileActionCopy) []string {
	var words []string
	for _, flag := range []struct {
		name string
		set  bool
	}{
		{"unpack", c.GetAttemptUnpackDockerCompatibility()},
		{"contents", c.GetDirCopyContents()},
		{"follow", c.GetFollowSymlink()},
		{"wildcard", c.GetAllowWildcard()},
	} {
		if flag.set {
			words = append(words, flag.name)
		}
	}
	if c.GetModeStr() != "" {
		words = append(words, "mode "+c.GetModeStr())
	} else if c.GetMode() >= 0 {
		words = append(words, fmt.Sprintf("mode %04o", c.GetMode()))
	}
	words = appendIf(words, "", strings.TrimSpace(owner(c.GetOwner())))
	for _, p := range c.GetIncludePatterns() {
		words = append(words, "include "+p)
	}
	for _, p := range c.GetExcludePatterns() {
		words = append(words, "exclude "+p)
	}
	for _, p := range c.GetRequiredPaths() {
		words = append(words, "require "+p)
	}
	if len(words) == 0 {
		return nil
	}
	return []string{strings.Join(words, ", ")}
}

// owner is a chown with a leading space.
func owner(o *pb.ChownOpt) string {
	if o == nil {
		return ""
	}
	out := " owner " + userName(o.GetUser())
	if o.GetGroup() != nil {
		out += ":" + userName(o.GetGroup())
	}
	return out
}

func userName(u *pb.UserOpt) string {
	if name := u.GetByName(); name != nil {
		return name.GetName()
	}
	return fmt.Sprint(u.GetByID())
}
