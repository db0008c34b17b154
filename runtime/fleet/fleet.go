// Package fleet has a BuildKit daemon solve what Strata's own solver would: the
// same definitions, the same local directories, secrets, agents and logins.
//
//	definitions, configs ──▶ gateway ──▶ daemon's solver ──▶ image ──▶ OCI archive ──▶ this machine
//	                                        │   ▲                 └──▶ registry
//	                                        ▼   │ session
//	                     directories, secrets, agents, passwords of registries
//
// One image of one or several platforms is one build of the daemon. What comes
// back as an archive is an image like any other; images that are only pushed
// go from the daemon to the registry.
package fleet

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	contentlocal "github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client"
	_ "github.com/moby/buildkit/client/connhelper/dockercontainer" // docker-container://
	_ "github.com/moby/buildkit/client/connhelper/ssh"             // ssh://
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver/pb"
	_ "github.com/moby/buildkit/util/grpcutil/encoding/proto" // file names need not be text
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/tonistiigi/fsutil"
	"golang.org/x/sync/errgroup"

	"github.com/strata-build/strata/runtime/worker"
)

// Options say where the daemon is.
type Options struct {
	// Address is unix://PATH, tcp://HOST:PORT, docker-container://NAME or
	// ssh://HOST.
	Address string
	// CA, Cert and Key are files for TLS with tcp://; "" means none.
	CA, Cert, Key string
}

// schemes begin the addresses that are known.
var schemes = []string{"unix://", "tcp://", "docker-container://", "ssh://"}

// Client talks to a daemon.
type Client struct {
	daemon  *client.Client
	address string
}

// Dial makes a client and looks whether the daemon answers.
func Dial(ctx context.Context, o Options) (*Client, error) {
	if !slices.ContainsFunc(schemes, func(s string) bool { return strings.HasPrefix(o.Address, s) }) {
		return nil, fmt.Errorf("%q is no address of a BuildKit daemon: it begins with %s", o.Address, strings.Join(schemes, ", "))
	}
	var opts []client.ClientOpt
	if o.CA != "" {
		opts = append(opts, client.WithServerConfig("", o.CA))
	}
	if o.Cert != "" {
		opts = append(opts, client.WithCredentials(o.Cert, o.Key))
	}
	daemon, err := client.New(ctx, o.Address, opts...)
	if err != nil {
		return nil, fmt.Errorf("BuildKit at %s: %w", o.Address, err)
	}
	if _, err := daemon.ListWorkers(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("BuildKit at %s does not answer: %w", o.Address, err), daemon.Close())
	}
	return &Client{daemon: daemon, address: o.Address}, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.daemon.Close() }

// Target is one platform of an image.
type Target struct {
	Platform   ocispec.Platform
	Definition *pb.Definition
	// Config and BaseConfig are as the front end made them.
	Config, BaseConfig []byte
}

// Push says how the daemon pushes an image.
type Push struct {
	Names []string
	// Attrs are further options of BuildKit's image exporter.
	Attrs map[string]string
}

// Request is one image.
type Request struct {
	Targets []Target
	// Index makes an index of a single platform, too.
	Index bool
	// Locals and Layouts are the directories behind the names that the
	// definitions use.
	Locals, Layouts map[string]string
	Secrets         worker.Secrets
	Agents          worker.Agents
	// Login returns the user's name and password for a registry, if any.
	Login func(host string) (user, password string)
	// Allow are BuildKit's entitlements.
	Allow []string
	// CacheFrom and CacheTo are where the daemon reads and writes its cache.
	CacheFrom, CacheTo []client.CacheOptionsEntry
	// Archive takes the image as an OCI archive; nil means that it is not
	// wanted. It is not closed: an end of the daemon's may be a broken one.
	Archive io.Writer
	// ArchiveAttrs are options of BuildKit's OCI exporter.
	ArchiveAttrs map[string]string
	Pushes       []Push
	// Status takes the progress.
	Status chan<- *client.SolveStatus
}

// Pushed is an image as the daemon pushed it; zero if it pushed none.
type Pushed struct {
	// Desc is the manifest or index.
	Desc ocispec.Descriptor
	// ConfigDigest is the config's digest if there is only one platform.
	ConfigDigest digest.Digest
}

// Build builds and exports one image.
func (c *Client) Build(ctx context.Context, req Request) (Pushed, error) {
	opt, err := req.options()
	if err != nil {
		return Pushed{}, err
	}
	status := make(chan *client.SolveStatus)
	forwarded := make(chan struct{})
	go func() {
		defer close(forwarded)
		for s := range status {
			if req.Status != nil {
				req.Status <- s
			}
		}
	}()
	res, err := c.daemon.Build(ctx, opt, "strata", req.solve, status)
	<-forwarded
	switch {
	case err != nil && ctx.Err() != nil:
		return Pushed{}, context.Cause(ctx) // in the words of who ended it
	case err != nil:
		return Pushed{}, c.failure(err)
	case len(req.Pushes) == 0:
		return Pushed{}, nil
	}
	return pushed(res.ExporterResponse)
}

// pushed reads what the daemon's exporters say of the image.
func pushed(said map[string]string) (p Pushed, err error) {
	p.ConfigDigest = digest.Digest(said[exptypes.ExporterImageConfigDigestKey])
	data, err := base64.StdEncoding.DecodeString(said[exptypes.ExporterImageDescriptorKey])
	if err == nil {
		err = json.Unmarshal(data, &p.Desc)
	}
	if err != nil {
		return Pushed{}, fmt.Errorf("read the descriptor of the pushed image: %w", err)
	}
	p.Desc.Annotations = nil // they are the exporter's notes
	return p, nil
}

// unclosed is a writer that stays open.
type unclosed struct{ io.Writer }

// Close implements io.Closer.
func (unclosed) Close() error { return nil }

// options are those of the daemon's client.
func (req *Request) options() (client.SolveOpt, error) {
	opt := client.SolveOpt{
		LocalMounts: map[string]fsutil.FS{}, OCIStores: map[string]content.Store{}, FrontendAttrs: map[string]string{},
		AllowedEntitlements: req.Allow, CacheImports: req.CacheFrom, CacheExports: req.CacheTo,
		Session: []session.Attachable{&secretServer{secrets: req.Secrets}, &agentServer{agents: req.Agents}, &loginServer{login: req.Login}},
	}
	var err error
	for name, dir := range req.Locals {
		if opt.LocalMounts[name], err = fsutil.NewFS(dir); err != nil {
			return opt, fmt.Errorf("open build context: %w", err)
		}
	}
	for name, dir := range req.Layouts {
		store, err := contentlocal.NewStore(dir)
		if err != nil {
			return opt, fmt.Errorf("open OCI layout: %w", err)
		}
		opt.OCIStores[name] = readOnly{store}
	}
	if req.Archive != nil {
		opt.Exports = append(opt.Exports, client.ExportEntry{
			Type: client.ExporterOCI, Attrs: req.ArchiveAttrs, Output: func(map[string]string) (io.WriteCloser, error) { return unclosed{req.Archive}, nil },
		})
	}
	for _, p := range req.Pushes {
		attrs := maps.Clone(p.Attrs)
		attrs["push"], attrs["name"] = "true", strings.Join(p.Names, ",")
		opt.Exports = append(opt.Exports, client.ExportEntry{Type: client.ExporterImage, Attrs: attrs})
	}
	return opt, nil
}

// solve has the daemon solve the definitions, and adds the configs to what it
// makes of them.
func (req *Request) solve(ctx context.Context, daemon gateway.Client) (*gateway.Result, error) {
	refs, err := req.refs(ctx, daemon)
	if err != nil {
		return nil, err
	}
	res := gateway.NewResult()
	var list exptypes.Platforms
	single := len(req.Targets) == 1 && !req.Index
	for i, t := range req.Targets {
		id := platforms.FormatAll(t.Platform)
		suffix := "/" + id
		if single {
			suffix = ""
			res.SetRef(refs[i])
		} else {
			res.AddRef(id, refs[i])
			list.Platforms = append(list.Platforms, exptypes.Platform{ID: id, Platform: t.Platform})
		}
		res.AddMeta(exptypes.ExporterImageConfigKey+suffix, t.Config)
		if len(t.BaseConfig) > 0 {
			res.AddMeta(exptypes.ExporterImageBaseConfigKey+suffix, t.BaseConfig)
		}
	}
	if single {
		return res, nil
	}
	data, err := json.Marshal(list)
	if err != nil {
		return nil, err
	}
	res.AddMeta(exptypes.ExporterPlatformsKey, data)
	return res, nil
}

// refs solves all targets at once; no definition is an image without files.
func (req *Request) refs(ctx context.Context, daemon gateway.Client) ([]gateway.Reference, error) {
	caches, err := cacheImports(daemon.BuildOpts())
	if err != nil {
		return nil, err
	}
	refs := make([]gateway.Reference, len(req.Targets))
	group, ctx := errgroup.WithContext(ctx)
	for i, t := range req.Targets {
		if len(t.Definition.GetDef()) == 0 {
			continue
		}
		group.Go(func() error {
			solved, err := daemon.Solve(ctx, gateway.SolveRequest{Definition: t.Definition, Evaluate: true, CacheImports: caches})
			if err == nil {
				refs[i], err = solved.SingleRef()
			}
			return err
		})
	}
	return refs, group.Wait()
}

// cacheImports are the caches to read, as BuildKit's client has prepared them.
// It leaves it to the front end to ask for them.
func cacheImports(opts gateway.BuildOpts) (caches []gateway.CacheOptionsEntry, err error) {
	text := opts.Opts["cache-imports"]
	if text == "" {
		return nil, nil
	}
	if err := json.Unmarshal([]byte(text), &caches); err != nil {
		return nil, fmt.Errorf("read the caches to import: %w", err)
	}
	return caches, nil
}

// readOnly is an OCI layout of the user's: the daemon may read it, and not
// change it.
type readOnly struct{ content.Store }

// Writer implements content.Ingester.
func (readOnly) Writer(context.Context, ...content.WriterOpt) (content.Writer, error) {
	return nil, fs.ErrPermission
}

// Update implements content.Manager.
func (readOnly) Update(context.Context, content.Info, ...string) (content.Info, error) {
	return content.Info{}, fs.ErrPermission
}

// Delete implements content.Manager.
func (readOnly) Delete(context.Context, digest.Digest) error { return fs.ErrPermission }

// Abort implements content.IngestManager.
func (readOnly) Abort(context.Context, string) error { return fs.ErrPermission }
