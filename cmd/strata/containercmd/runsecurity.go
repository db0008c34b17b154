package containercmd

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/runtime/container"
	"github.com/strata-build/strata/runtime/executor"
)

func (o *containerFlags) readSecurity(_ *app, req *container.Request) error {
	sec := &req.Config.Security
	sec.Privileged = o.privileged
	var err error
	if sec.Capabilities, err = capabilities(o.capAdd, o.capDrop); err != nil {
		return err
	}
	for _, opt := range o.security {
		name, value, hasValue := cutSecurity(opt)
		switch {
		case name == "no-new-privileges":
			err = setBool(&sec.NoNewPrivileges, value, hasValue)
		case name == "seccomp" && value == container.SeccompUnconfined:
			sec.Seccomp = value
		case name == "seccomp" && hasValue:
			sec.Seccomp, err = readProfile(value)
		case name == "systempaths" && value == "unconfined":
			sec.Unmasked = true
		case name == "apparmor" && value == "unconfined", name == "label" && value == "disable":
			// Strata uses neither.
		default:
			return cli.Misuse("--security-opt %s is not known: it takes no-new-privileges, seccomp=FILE, seccomp=unconfined and systempaths=unconfined", opt)
		}
		if err != nil {
			return cli.Misuse("--security-opt %s: %v", opt, err)
		}
	}
	return nil
}

// cutSecurity also takes docker's older form, with a colon.
func cutSecurity(opt string) (name, value string, hasValue bool) {
	if i := strings.IndexAny(opt, "=:"); i >= 0 {
		return opt[:i], opt[i+1:], true
	}
	return opt, "", false
}

// readProfile reads a seccomp profile, and makes sure that it is one: the
// container would not start otherwise.
func readProfile(name string) (string, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	if !json.Valid(text) {
		return "", errors.New("it is no seccomp profile in JSON")
	}
	return string(text), nil
}

// capabilities are docker's default, with and without; nil is the default.
func capabilities(add, drop []string) ([]string, error) {
	if len(add) == 0 && len(drop) == 0 {
		return nil, nil
	}
	set := map[string]bool{}
	for _, name := range executor.DefaultCapabilities() {
		set[name] = true
	}
	// ALL comes first, whatever the order, as in docker.
	all := executor.AllCapabilities()
	for _, change := range []struct {
		names []string
		to    bool
	}{{add, true}, {drop, false}} {
		if slices.ContainsFunc(change.names, func(n string) bool { return strings.EqualFold(n, "ALL") }) {
			for _, name := range all {
				set[name] = change.to
			}
		}
	}
	for _, change := range []struct {
		flag  string
		names []string
		to    bool
	}{{"--cap-add", add, true}, {"--cap-drop", drop, false}} {
		for _, name := range change.names {
			full := strings.ToUpper(name)
			if full == "ALL" {
				continue
			}
			if !strings.HasPrefix(full, "CAP_") {
				full = "CAP_" + full
			}
			if !slices.Contains(all, full) {
				return nil, cli.Misuse("%s %s: there is no such capability", change.flag, name)
			}
			set[full] = change.to
		}
	}
	kept := []string{}
	for _, name := range all {
		if set[name] {
			kept = append(kept, name)
		}
	}
	return kept, nil
}
