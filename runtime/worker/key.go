package worker

import (
	"fmt"
	"sort"
	"strings"

	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	"google.golang.org/protobuf/proto"

	"github.com/strata-build/strata/solver"
)

// keyVersion is part of every key: raise it when an operation comes to mean
// something else, and nothing that was built before is found again.
const keyVersion = "strata 1"

// keyOf digests the parts of a key, each in a line of its own.
func keyOf(parts ...string) digest.Digest {
	h := digest.Canonical.Digester()
	for _, p := range append([]string{keyVersion}, parts...) {
		fmt.Fprintf(h.Hash(), "%d:%s\n", len(p), p)
	}
	return h.Digest()
}

// messageKey digests a protobuf message of one kind of operation, every field
// of it. Callers clear what decides nothing.
func messageKey(kind, platform string, m proto.Message) (digest.Digest, error) {
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return "", fmt.Errorf("marshal %s: %w", kind, err)
	}
	return keyOf(kind, platform, string(data)), nil
}

// execFacts tells an exec in words, the most telling part first.
func execFacts(op *pb.ExecOp, platform string) []solver.Fact {
	meta := op.Meta
	facts := []solver.Fact{{Name: "command", Value: strings.Join(meta.Args, " ")}}
	add := func(name, value string) {
		if value != "" {
			facts = append(facts, solver.Fact{Name: name, Value: value})
		}
	}
	for _, kv := range sortedEnv(meta.Env) {
		add("env "+kv.name, kv.shown())
	}
	add("workdir", meta.Cwd)
	add("user", meta.User)
	add("hostname", meta.Hostname)
	for _, h := range meta.ExtraHosts {
		add("host "+h.Host, h.IP)
	}
	for _, l := range meta.Ulimit {
		add("ulimit "+l.Name, fmt.Sprintf("%d:%d", l.Soft, l.Hard))
	}
	for _, s := range op.Secretenv {
		add("secret env "+s.Name, s.ID)
	}
	for i, m := range op.Mounts {
		add(fmt.Sprintf("mount %d %s", i, m.Dest), mountText(m))
	}
	if op.Network != pb.NetMode_UNSET {
		add("network", op.Network.String())
	}
	if op.Security != pb.SecurityMode_SANDBOX {
		add("security", op.Security.String())
	}
	add("platform", platform)
	return facts
}

type variable struct{ name, value string }

// shown is the value as a reason shows it: what looks like a credential is
// shown as a digest only, since reasons are kept on disk.
func (v variable) shown() string {
	upper := strings.ToUpper(v.name)
	for _, word := range []string{"SECRET", "TOKEN", "PASSWORD", "PASSWD", "CREDENTIAL", "APIKEY", "API_KEY", "PRIVATE_KEY"} {
		if strings.Contains(upper, word) {
			return digest.FromString(v.value).String()
		}
	}
	return v.value
}

// sortedEnv is the environment by name; of a name that is given twice the
// later value counts, as for the process.
func sortedEnv(env []string) []variable {
	values := map[string]string{}
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		values[name] = value
	}
	vars := make([]variable, 0, len(values))
	for name, value := range values {
		vars = append(vars, variable{name, value})
	}
	sort.Slice(vars, func(i, j int) bool { return vars[i].name < vars[j].name })
	return vars
}

func mountText(m *pb.Mount) string {
	parts := []string{strings.ToLower(m.MountType.String())}
	add := func(name, value string) {
		if value != "" {
			parts = append(parts, name+"="+value)
		}
	}
	add("selector", m.Selector)
	if m.Readonly {
		parts = append(parts, "readonly")
	}
	if c := m.CacheOpt; c != nil {
		add("id", c.ID)
		add("sharing", strings.ToLower(c.Sharing.String()))
	}
	if s := m.SecretOpt; s != nil {
		add("id", s.ID)
	}
	if s := m.SSHOpt; s != nil {
		add("id", s.ID)
	}
	if t := m.TmpfsOpt; t != nil && t.Size > 0 {
		add("size", fmt.Sprint(t.Size))
	}
	return strings.Join(parts, ",")
}

// fileFacts tells a file operation in words, an action a fact.
func fileFacts(op *pb.FileOp) []solver.Fact {
	facts := make([]solver.Fact, len(op.Actions))
	for i, a := range op.Actions {
		facts[i] = solver.Fact{Name: fmt.Sprintf("action %d", i+1), Value: actionText(a)}
	}
	return facts
}

// actionText tells a file action as the command that it is like.
func actionText(a *pb.FileAction) string {
	switch act := a.Action.(type) {
	case *pb.FileAction_Copy:
		return "copy " + act.Copy.Src + " " + act.Copy.Dest
	case *pb.FileAction_Mkfile:
		return fmt.Sprintf("file %s %s", act.Mkfile.Path, digest.FromBytes(act.Mkfile.Data))
	case *pb.FileAction_Mkdir:
		return "mkdir " + act.Mkdir.Path
	case *pb.FileAction_Rm:
		return "rm " + act.Rm.Path
	case *pb.FileAction_Symlink:
		return "symlink " + act.Symlink.Oldpath + " " + act.Symlink.Newpath
	}
	return "unknown"
}
