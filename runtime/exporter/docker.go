package exporter

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/distribution/reference"

	"github.com/strata-build/strata/runtime/image"
	"github.com/strata-build/strata/runtime/registry"
)

// defaultDocker is where a docker daemon listens.
const defaultDocker = "unix:///var/run/docker.sock"

// dockerEntry is an item of a docker archive's manifest.json.
type dockerEntry struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// docker writes an archive for `docker load`, which is an OCI layout too, or
// loads it into a daemon.
func (j *job) docker(ctx context.Context, out Output, a *assembled, names []string) error {
	if len(a.manifests) > 1 {
		return errors.New("a docker archive holds one platform: build a single one, or use type=oci")
	}
	if out.Directory {
		return j.layoutDir(ctx, out.Dest, a, names)
	}
	manifest, err := dockerManifestJSON(a.manifests[0], names)
	if err != nil {
		return err
	}
	fill := func(w io.Writer) error {
		return j.layoutTar(ctx, w, a, names, map[string][]byte{"manifest.json": manifest})
	}
	if out.Dest == "" {
		return j.loadDocker(ctx, fill)
	}
	return j.writeTo(ctx, out.Dest, fill)
}

func dockerManifestJSON(m assembledManifest, names []string) ([]byte, error) {
	entry := dockerEntry{Config: blobName(m.manifest.Config), Layers: []string{}}
	for _, name := range names {
		ref, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			return nil, fmt.Errorf("image name %q: %w", name, err)
		}
		entry.RepoTags = append(entry.RepoTags, reference.FamiliarString(ref))
	}
	for _, l := range m.manifest.Layers {
		entry.Layers = append(entry.Layers, blobName(l))
	}
	data, err := json.Marshal([]dockerEntry{entry})
	if err != nil {
		return nil, fmt.Errorf("write manifest.json: %w", err)
	}
	return data, nil
}

// loadDocker streams an archive into a docker daemon.
func (j *job) loadDocker(ctx context.Context, fill func(io.Writer) error) error {
	host := j.opts.DockerHost
	if host == "" {
		host = defaultDocker
	}
	client, base, err := dockerClient(host)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	if err := pingDocker(ctx, client, base); err != nil {
		return fmt.Errorf("no docker daemon answers at %s (%w): start one, or give dest=FILE for an archive that `docker load` reads", host, err)
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(fill(w)) }()
	defer r.Close()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/images/load?quiet=1", r)
	if err != nil {
		return fmt.Errorf("load into docker: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-tar")
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("load into docker: %w", err)
	}
	defer resp.Body.Close()
	return loadAnswer(resp)
}

// dockerClient dials what DOCKER_HOST names.
func dockerClient(host string) (*http.Client, string, error) {
	u, err := url.Parse(host)
	if err != nil {
		return nil, "", fmt.Errorf("docker host %q: %w", host, err)
	}
	switch u.Scheme {
	case "unix":
		dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", u.Path)
		}
		return &http.Client{Transport: &http.Transport{DialContext: dial}}, "http://docker", nil
	case "tcp", "http":
		return &http.Client{Transport: &http.Transport{}}, "http://" + u.Host, nil
	}
	return nil, "", fmt.Errorf("docker host %q: Strata loads through unix:// and tcp:// only; for others give dest=- and pipe it into `docker load`", host)
}

func pingDocker(ctx context.Context, client *http.Client, base string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/_ping", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		var uerr *url.Error
		if errors.As(err, &uerr) {
			return uerr.Err
		}
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers %s", resp.Status)
	}
	return nil
}

// loadAnswer reads the daemon's messages; an error among them is ours.
func loadAnswer(resp *http.Response) error {
	data, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("load into docker: %w", err)
	}
	for dec := json.NewDecoder(bytes.NewReader(data)); ; {
		var message struct {
			Error   string `json:"error"`
			Message string `json:"message"`
		}
		if dec.Decode(&message) != nil {
			break
		}
		if message.Error != "" {
			return fmt.Errorf("docker could not load the image: %s", message.Error)
		}
		if resp.StatusCode >= 400 && message.Message != "" {
			return fmt.Errorf("docker could not load the image: %s", message.Message)
		}
	}
	if resp.StatusCode >= 400 {
		return fmt.Errorf("docker could not load the image: %s %s", resp.Status, strings.TrimSpace(string(data)))
	}
	return nil
}

// push uploads the image under its names.
func (j *job) push(ctx context.Context, out Output, a *assembled, names []string) error {
	if len(names) == 0 {
		return errors.New("it has no name to be pushed to: give -t REGISTRY/NAME, or name= in the output")
	}
	for _, name := range names {
		err := j.opts.Images.Push(ctx, image.PushRequest{
			Name: name, ByDigest: out.PushByDigest, Desc: a.desc, Progress: j.pushProgress(name),
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (j *job) pushProgress(name string) func(registry.Update) {
	return func(u registry.Update) {
		id := "pushing " + u.Desc.Digest.String() + " to " + name
		j.p.Status(id, u.Offset, u.Desc.Size, u.State != registry.Uploading)
	}
}
