package schema

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// InitOptions are the settings of Init.
type InitOptions struct {
	// Module is the path of the CUE module; "" is made from the directory's
	// name. It is used only when there is no module yet.
	Module string
	// Image names the image in the starting build.cue; "" is made from the
	// directory's name.
	Image string
}

// Init makes dir a place to build images from, and returns the files that it
// wrote, relative to dir: cue.mod/module.cue and build.cue when there are
// none, and the schema under cue.mod, so that cue vet, cue eval and CUE's
// language server know it. It overwrites nothing of the user's; a vendored
// schema of another version is replaced.
func Init(dir string, opts InitOptions) ([]string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("resolve directory: %w", err)
	}
	s := &session{dir: dir}
	root, _ := s.moduleRoot(dir)
	base := identifier(filepath.Base(dir))
	if opts.Module == "" {
		opts.Module = strings.ReplaceAll(base, "_", "-") + ".example"
	}
	if opts.Image == "" {
		opts.Image = base
	}
	var written []string
	note := func(name string, wrote bool) {
		if wrote {
			written = append(written, relative(dir, name))
		}
	}
	module := filepath.Join(root, cueModule, "module.cue")
	wrote, err := writeNew(module, []byte(moduleText(opts.Module)))
	if err != nil {
		return nil, err
	}
	note(module, wrote)
	vendored, wrote, err := s.vendor(root)
	if err != nil {
		return written, err
	}
	note(vendored, wrote)
	build := filepath.Join(dir, "build.cue")
	wrote, err = s.startingFile(build, base, opts.Image)
	note(build, wrote)
	return written, err
}

// startingFile writes a first build file into a directory without CUE files.
func (s *session) startingFile(name, pkg, image string) (bool, error) {
	existing, err := s.cueFiles(filepath.Dir(name))
	if err != nil {
		return false, fmt.Errorf("read directory: %w", err)
	}
	if len(existing) > 0 {
		return false, nil
	}
	text := fmt.Sprintf(startingText, pkg, ImportPath, plainLabel(image))
	return writeNew(name, []byte(text))
}

// startingText is the first build file: a whole image in the form that CUE's
// language server completes.
const startingText = `package %s

import b %q

images: %s: b.#Image & {
	from:    "alpine:3"
	workdir: "/app"
	steps: [
		"apk add --no-cache ca-certificates",
		{copy: ".", to: "./", exclude: ["cue.mod", "*.cue"]},
	]
	cmd: ["ls", "-l"]
}
`

// vendor puts the schema under cue.mod of the module at root, unless the
// module has it as a dependency.
func (s *session) vendor(root string) (name string, wrote bool, err error) {
	name = vendoredSchema(root)
	if own, err := s.dependsOnSchema(root); own || err != nil {
		return name, false, err
	}
	old, err := os.ReadFile(name)
	if err == nil && string(old) == source {
		return name, false, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return name, false, fmt.Errorf("read the vendored schema: %w", err)
	}
	return name, true, replaceFile(name, []byte(source))
}

// writeNew writes a file unless it exists.
func writeNew(name string, data []byte) (wrote bool, err error) {
	if _, err := os.Lstat(name); err == nil {
		return false, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("look for %s: %w", name, err)
	}
	return true, replaceFile(name, data)
}

// replaceFile writes a file by renaming, so that it is never seen half.
func replaceFile(name string, data []byte) (err error) {
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		return fmt.Errorf("create directory: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(name), ".strata-*")
	if err != nil {
		return fmt.Errorf("create %s: %w", name, err)
	}
	defer func() {
		if err != nil {
			os.Remove(tmp.Name())
		}
	}()
	_, err = tmp.Write(data)
	if err = errors.Join(err, tmp.Chmod(0o644), tmp.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err = os.Rename(tmp.Name(), name); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

var notIdentifier = regexp.MustCompile(`[^a-z0-9_]+`)

// identifier makes a CUE identifier of a directory's name.
func identifier(name string) string {
	id := strings.Trim(notIdentifier.ReplaceAllString(strings.ToLower(name), "_"), "_")
	if id == "" || id[0] >= '0' && id[0] <= '9' {
		return "app"
	}
	return id
}
