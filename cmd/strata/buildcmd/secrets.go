package buildcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/runtime/worker"
)

// maxSecret is BuildKit's limit.
const maxSecret = 500 << 10

// secrets answers the build's secrets, reading each when a step asks for it.
type secrets struct {
	env     map[string]string
	sources map[string]secretSource
}

type secretSource struct{ file, variable string }

// parseSecrets reads --secret as docker does: id=X[,src=FILE|,env=NAME]. With
// the id only, the variable of that name is taken if there is one, else the
// file.
func (a *app) parseSecrets(specs []string) (worker.Secrets, error) {
	s := &secrets{env: a.Env, sources: map[string]secretSource{}}
	for _, spec := range specs {
		id, src, err := a.parseSecret(spec)
		if err != nil {
			return nil, cli.Misuse("--secret %s: %v", spec, err)
		}
		s.sources[id] = src
	}
	return s, nil
}

func (a *app) parseSecret(spec string) (id string, src secretSource, err error) {
	kind := ""
	for _, field := range strings.Split(spec, ",") {
		key, value, ok := strings.Cut(field, "=")
		if !ok {
			return "", src, fmt.Errorf("%q is not key=value", field)
		}
		switch strings.ToLower(key) {
		case "id":
			id = value
		case "src", "source":
			src.file = value
		case "env":
			src.variable = value
		case "type":
			if value != "file" && value != "env" {
				return "", src, fmt.Errorf("type %q is not file or env", value)
			}
			kind = value
		default:
			return "", src, fmt.Errorf("%q is not known: it takes id, src, env and type", key)
		}
	}
	if id == "" {
		return "", src, errors.New("it has no id")
	}
	if kind == "env" && src.variable == "" {
		src.variable, src.file = src.file, ""
	}
	if src == (secretSource{}) {
		if _, ok := a.Env[id]; ok && kind != "file" {
			src.variable = id
		} else {
			src.file = id
		}
	}
	if src.file != "" {
		if _, err := os.Stat(src.file); err != nil {
			return "", src, err
		}
	}
	return id, src, nil
}

// Secret implements worker.Secrets.
func (s *secrets) Secret(_ context.Context, id string) ([]byte, error) {
	src, ok := s.sources[id]
	if !ok {
		return nil, worker.ErrNoSecret
	}
	if src.variable != "" {
		value, ok := s.env[src.variable]
		if !ok {
			return nil, fmt.Errorf("%w: the variable %s is not set", worker.ErrNoSecret, src.variable)
		}
		return []byte(value), nil
	}
	f, err := os.Open(src.file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxSecret {
		return nil, fmt.Errorf("%s is larger than %d bytes", src.file, maxSecret)
	}
	return data, nil
}
