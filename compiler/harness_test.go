package compiler

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/schema"
)

// registry is a meta resolver that knows some images on every platform.
type registry struct{}

func (registry) ResolveImageConfig(_ context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	name := strings.TrimPrefix(ref, "docker.io/library/")
	repo, _, _ := strings.Cut(strings.Split(name, "@")[0], ":")
	body, ok := baseConfigs()[repo]
	if !ok {
		return "", "", nil, fmt.Errorf("%s: not found", ref)
	}
	p := platforms.Normalize(platforms.DefaultSpec())
	if opt.ImageOpt != nil && opt.ImageOpt.Platform != nil {
		p = *opt.ImageOpt.Platform
	}
	dt := fmt.Sprintf(`{"created":"2024-05-01T00:00:00Z","architecture":%q,"os":%q,"variant":%q,%s}`, p.Architecture, p.OS, p.Variant, body)
	if repo == "pinned" {
		return "docker.io/library/pinned:v2", digest.FromString(dt), []byte(dt), nil
	}
	return ref, digest.FromString(dt), []byte(dt), nil
}

// baseConfigs are the images of the registry: the rest of their config.
func baseConfigs() map[string]string {
	const layers = `"rootfs":{"type":"layers","diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]},"history":[{"created_by":"/bin/sh -c #(nop) ADD rootfs"}]`
	onbuild := func(lines ...string) string {
		dt, err := json.Marshal(lines)
		if err != nil {
			return ""
		}
		return layers + `,"config":{"Env":["PATH=/bin"],"WorkingDir":"/base","OnBuild":` + string(dt) + `}`
	}
	return map[string]string{
		"alpine":  layers + `,"config":{"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"Cmd":["/bin/sh"]}`,
		"golang":  layers + `,"config":{"Env":["PATH=/go/bin:/usr/bin","GOPATH=/go","GOTOOLCHAIN=local"],"WorkingDir":"/go","Entrypoint":["/go.sh"],"Cmd":["bash"]}`,
		"nginx":   layers + `,"config":{"Env":["PATH=/usr/bin"],"User":"nginx","WorkingDir":"/srv","ExposedPorts":{"80/tcp":{}},"Volumes":{"/var/cache":{}},"Labels":{"maintainer":"n"},"StopSignal":"SIGQUIT","Healthcheck":{"Test":["CMD","true"],"Interval":1000000000},"Shell":["/bin/ash","-c"],"Cmd":["nginx"]}`,
		"nopath":  layers + `,"config":{}`,
		"busybox": layers + `,"config":{"Env":["PATH=/bin"],"Cmd":["sh"]}`,
		"pinned":  layers + `,"config":{"Env":["PATH=/bin"]}`,
		"nothing": `"rootfs":{"type":"layers"},"config":{"Env":["A=b"],"Cmd":["/run"]}`,
		"schema1": `"rootfs":{"type":"layers"},"history":[{"created_by":"x"}],"config":{"Env":["PATH=/bin"]}`,
		"onbuild": onbuild("ARG MODE=dev", "ENV MODE=$MODE", "WORKDIR /app", "COPY . .", "RUN make $MODE"),
		"onbuild2": onbuild("ADD --chown=1:2 a.tar /x", "USER app", "EXPOSE 80 443/udp", "LABEL a=b c=\"d e\"", "VOLUME /data", "CMD [\"x\"]", "ENTRYPOINT run it",
			"STOPSIGNAL SIGTERM", "SHELL [\"/bin/bash\",\"-c\"]", "HEALTHCHECK --interval=5s CMD curl x", "RUN --mount=type=cache,target=/c --network=none echo hi"),
		"onbuildfrom": onbuild("COPY --from=helper /a /b", "COPY --from=busybox /bin/sh /sh", "RUN --mount=from=helper,target=/h,source=/x true", "HEALTHCHECK NONE",
			"COPY <<EOF /note\n$PATH is it\nEOF", "RUN [\"/x\",\"y\"]"),
	}
}

// platform parses a platform, normalized.
func platform(t testing.TB, name string) ocispecs.Platform {
	t.Helper()
	p, err := platforms.Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	return platforms.Normalize(p)
}

// buildOptions are the options of a build that both front ends have.
type buildOptions struct {
	platform string // "": none asked for
	args     map[string]string
	labels   map[string]string
	network  pb.NetMode
	hosts    []llb.HostIP
	hostname string
	shm      int64
	ulimits  []*pb.Ulimit
	cgroup   string
	devices  []*pb.CDIDevice
	mode     llb.ResolveMode
	target   string
}

// build is the platform that all tests build on.
const build = "linux/amd64"

// options are those for Compile.
func (o buildOptions) options(t testing.TB) Options {
	opts := Options{
		BuildPlatform: platform(t, build),
		Args:          o.args, Labels: o.labels,
		Meta: registry{}, ResolveMode: o.mode,
		Network: o.network, ExtraHosts: o.hosts, Hostname: o.hostname,
		ShmSize: o.shm, Ulimits: o.ulimits, CgroupParent: o.cgroup, Devices: o.devices,
	}
	if o.platform != "" {
		opts.Platforms = []ocispecs.Platform{platform(t, o.platform)}
	}
	return opts
}

// dockerfile compiles a Dockerfile with BuildKit's front end.
func (o buildOptions) dockerfile(t testing.TB, text string) Target {
	t.Helper()
	caps := pb.Caps.CapSet(pb.Caps.All())
	opt := dockerfile2llb.ConvertOpt{
		Config: dockerui.Config{
			BuildArgs: map[string]string{}, Labels: o.labels,
			CacheIDNamespace: o.args["BUILDKIT_CACHE_MOUNT_NS"],
			Hostname:         o.hostname, NetworkMode: o.network, ExtraHosts: o.hosts,
			ShmSize: o.shm, Ulimits: o.ulimits, CgroupParent: o.cgroup, Devices: o.devices,
			ImageResolveMode: o.mode, Target: o.target,
			GitAdvice:      o.args["BUILDKIT_GIT_ADVICE"] != "",
			BuildPlatforms: []ocispecs.Platform{platform(t, build)},
		},
		MetaResolver: registry{},
		LLBCaps:      &caps,
	}
	if opt.Hostname == "" {
		opt.Hostname = o.args["BUILDKIT_SANDBOX_HOSTNAME"]
	}
	for k, v := range o.args {
		opt.BuildArgs[k] = v
	}
	if o.platform != "" {
		p := platform(t, o.platform)
		opt.TargetPlatform = &p
	}
	res, err := dockerfile2llb.Dockerfile2LLB(context.Background(), []byte(text), opt)
	if err != nil {
		t.Fatalf("dockerfile2llb: %v\n%s", err, text)
	}
	return dockerfileTarget(t, res)
}

func dockerfileTarget(t testing.TB, res *dockerfile2llb.Result) Target {
	t.Helper()
	def, err := res.State.Marshal(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	config, err := json.Marshal(res.Image)
	if err != nil {
		t.Fatal(err)
	}
	out := Target{Definition: def.ToPB(), Config: config}
	if res.BaseImage != nil {
		if out.BaseConfig, err = json.Marshal(res.BaseImage); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// loadCUE loads a file below dir.
func loadCUE(t testing.TB, dir, text string) *schema.Spec {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "app.cue"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	spec, err := schema.Load(context.Background(), schema.LoadOptions{Args: []string{"app.cue"}, Dir: dir})
	if err != nil {
		t.Fatalf("load: %v", err)
	}
	return spec
}

// compileOne compiles an image to its only target.
func compileOne(t testing.TB, img *schema.Image, opts Options) Target {
	t.Helper()
	plan, err := Compile(context.Background(), &schema.Spec{Images: []*schema.Image{img}}, opts)
	if err != nil {
		t.Fatalf("compile: %v", err)
	}
	if len(plan.Targets) != 1 {
		t.Fatalf("%d targets, want 1", len(plan.Targets))
	}
	return plan.Targets[0]
}

// hosts is a list of one extra host.
func hosts() []llb.HostIP {
	return []llb.HostIP{{Host: "db", IP: net.ParseIP("10.0.0.5")}, {Host: "six", IP: net.ParseIP("::1")}}
}

func seconds(n int64) *time.Time {
	t := time.Unix(n, 0).UTC()
	return &t
}
