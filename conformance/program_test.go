package conformance

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/docker/go-units"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// outcome is how a build ended.
type outcome struct {
	code    int
	stderr  string
	archive string // the OCI archive
}

// output is where a case is exported to, in both programs' words.
func output(file string) string {
	return "type=oci,rewrite-timestamp=true,compression=uncompressed,dest=" + file
}

func execute(t *testing.T, cmd *exec.Cmd, archive string) outcome {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return outcome{code: cmd.ProcessState.ExitCode(), stderr: stderr.String(), archive: archive}
}

// environment is what both programs run with.
func (c *testCase) environment() []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + c.dir, "SOURCE_DATE_EPOCH=" + strconv.FormatInt(epoch.Unix(), 10)}
	return append(env, c.env...)
}

// runStrata builds a case with the command line that a user would type.
func (l *lab) runStrata(t *testing.T, c *testCase, engine ...string) outcome {
	t.Helper()
	archive := filepath.Join(c.dir, "strata.tar")
	// The user's umask is none of an image's concern.
	shell := []string{"-c", `umask 077; exec "$@"`, "sh", l.strata}
	args := append(shell, "--root", l.root, "build", "--progress", "quiet", "-o", output(archive))
	args = append(append(args, engine...), c.args...)
	cmd := exec.Command("sh", append(args, ".")...)
	cmd.Dir, cmd.Env = c.context(), c.environment()
	return execute(t, cmd, archive)
}

// runBuildkit builds a case with buildctl.
func (l *lab) runBuildkit(t *testing.T, c *testCase) outcome {
	t.Helper()
	archive := filepath.Join(c.dir, "buildkit.tar")
	args, err := c.buildctlArgs()
	if err != nil {
		t.Fatal(err)
	}
	file, args := dockerfileOf(args)
	args = append([]string{"--addr", l.address, "build", "--progress", "plain", "--frontend", "dockerfile.v0",
		"--local", "context=.", "--local", "dockerfile=" + filepath.Dir(file), "--opt", "filename=" + filepath.Base(file),
		"--opt", fmt.Sprintf("build-arg:SOURCE_DATE_EPOCH=%d", epoch.Unix()), "--output", output(archive)}, args...)
	cmd := exec.Command(l.buildctl, args...)
	cmd.Dir, cmd.Env = c.context(), c.environment()
	return execute(t, cmd, archive)
}

// dockerfileOf takes -f out.
func dockerfileOf(args []string) (string, []string) {
	for i, a := range args {
		if a == "-f" {
			return args[i+1], append(args[:i:i], args[i+2:]...)
		}
	}
	return "Dockerfile", args
}

// lists are the flags that buildctl takes in one option.
var lists = map[string]string{"--platform": "platform", "--ulimit": "ulimit", "--add-host": "add-hosts"}

// buildctlArgs writes docker's flags in buildctl's words, as buildx does.
func (c *testCase) buildctlArgs() ([]string, error) {
	var out []string
	listed := map[string][]string{}
	args := c.args
	for i := 0; i < len(args); i++ {
		flag, value, joined := strings.Cut(args[i], "=")
		if !joined && flag != "--no-cache" && flag != "--pull" {
			if i++; i == len(args) {
				return nil, fmt.Errorf("%s has no value", flag)
			}
			value = args[i]
		}
		if key, ok := lists[flag]; ok {
			listed[key] = append(listed[key], value)
			continue
		}
		translated, err := c.buildctlFlag(flag, value)
		if err != nil {
			return nil, err
		}
		out = append(out, translated...)
	}
	for _, key := range slices.Sorted(maps.Keys(listed)) {
		value := strings.Join(listed[key], ",")
		if key == "add-hosts" {
			value = strings.Join(hosts(listed[key]), ",")
		}
		out = append(out, "--opt", key+"="+value)
	}
	return out, nil
}

// hosts writes NAME:ADDRESS as NAME=ADDRESS.
func hosts(specs []string) []string {
	out := make([]string, len(specs))
	for i, spec := range specs {
		out[i] = strings.Replace(spec, ":", "=", 1)
	}
	return out
}

// buildctlFlag translates one flag.
func (c *testCase) buildctlFlag(flag, value string) ([]string, error) {
	name := strings.TrimPrefix(flag, "--")
	switch flag {
	case "--no-cache":
		return []string{flag}, nil
	case "--pull":
		return []string{"--opt", "image-resolve-mode=pull"}, nil
	case "-f", "--secret", "--ssh", "--allow":
		return []string{flag, value}, nil
	case "--build-arg", "--label":
		return []string{"--opt", name + ":" + c.assigned(value)}, nil
	case "--target":
		return []string{"--opt", name + "=" + value}, nil
	case "--shm-size":
		size, err := units.RAMInBytes(value)
		return []string{"--opt", fmt.Sprintf("%s=%d", name, size)}, err
	case "--network":
		return []string{"--opt", "force-network-mode=" + value}, nil
	case "--build-context":
		return c.buildctlContext(value)
	}
	return nil, fmt.Errorf("%s has no translation for buildctl", flag)
}

// assigned gives a name without a value that of the environment.
func (c *testCase) assigned(arg string) string {
	for _, kv := range c.env {
		if strings.HasPrefix(kv, arg+"=") {
			return kv
		}
	}
	return arg
}

// buildctlContext translates NAME=SOURCE.
func (c *testCase) buildctlContext(spec string) ([]string, error) {
	name, source, _ := strings.Cut(spec, "=")
	scheme, rest, remote := strings.Cut(source, "://")
	switch {
	case remote && scheme == "oci-layout":
		return c.layout(name, rest)
	case remote:
		return []string{"--opt", "context:" + name + "=" + source}, nil
	}
	return []string{"--local", name + "=" + source, "--opt", "context:" + name + "=local:" + name}, nil
}

// layout gives buildctl an OCI layout, DIR:TAG, whose only image it wants to
// know by its digest.
func (c *testCase) layout(name, spec string) ([]string, error) {
	dir, _, _ := strings.Cut(spec, ":")
	data, err := os.ReadFile(filepath.Join(c.context(), dir, "index.json"))
	if err != nil {
		return nil, err
	}
	var index ocispec.Index
	if err := json.Unmarshal(data, &index); err != nil {
		return nil, err
	}
	store := path.Base(dir)
	return []string{
		"--oci-layout", store + "=" + dir,
		"--opt", "context:" + name + "=oci-layout://" + store + "@" + index.Manifests[0].Digest.String(),
	}, nil
}

// buildBase builds ../base.Dockerfile with buildkitd and pushes it.
func (l *lab) buildBase(t *testing.T, c *testCase) {
	t.Helper()
	if !c.has("../base.Dockerfile") {
		return
	}
	context := filepath.Join(c.dir, "base")
	if err := os.MkdirAll(context, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(l.buildctl, "--addr", l.address, "build", "--frontend", "dockerfile.v0", "--local", "context="+context,
		"--local", "dockerfile="+c.dir, "--opt", "filename=base.Dockerfile",
		"--opt", fmt.Sprintf("build-arg:SOURCE_DATE_EPOCH=%d", epoch.Unix()),
		"--output", "type=image,rewrite-timestamp=true,push=true,name="+c.replace.Replace("@base@"))
	run(t, cmd)
}

// flagged is the line that buildctl marks in the Dockerfile's source.
var flagged = regexp.MustCompile(`(?m)^\s*(\d+) \| >>>`)

// buildkitLine is the line that buildkitd complains about, 0 for none.
func buildkitLine(stderr string) int {
	m := flagged.FindStringSubmatch(stderr)
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

// placed is an error at a place of the Dockerfile.
var placed = regexp.MustCompile(`^[^ :]*[Dd]ockerfile[^ :]*:(\d+)(:\d+)?: `)

// strataError is the first line of Strata's that is no warning, and the line
// of the Dockerfile in it.
func strataError(stderr string) (line int, message string) {
	for text := range strings.Lines(stderr) {
		if strings.HasPrefix(text, "warning: ") {
			continue
		}
		message = strings.TrimRight(text, "\n")
		break
	}
	if m := placed.FindStringSubmatch(message); m != nil {
		line, _ = strconv.Atoi(m[1])
	}
	return line, message
}
