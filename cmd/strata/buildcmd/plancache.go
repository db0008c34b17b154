package buildcmd

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/patternmatcher/ignorefile"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/compiler"
	dockerfilecompat "github.com/strata-build/strata/dockerfile-compat"
	"github.com/strata-build/strata/runtime/engine"
	"github.com/strata-build/strata/schema"
)

// planCache keeps compiled plans, so that a build with nothing to do evaluates
// no CUE. A plan is found by what was asked for (arguments, tags, flags, this
// very program), and holds as long as all that it was made of is the same: the
// files and directory listings that CUE read, the ignore files, and what each
// base image resolved to.
type planCache struct {
	e   *engine.Engine
	key string
}

// keptPlan is the record.
type keptPlan struct {
	Inputs      []schema.Input
	Fingerprint string
	Ignores     map[string]string // directory → digest of its ignore file
	Questions   []question
	Targets     []keptTarget
}

// question is one that was asked about a base image, and the answer.
type question struct {
	Ref      string
	Platform *ocispec.Platform
	Digest   digest.Digest
	Config   digest.Digest
}

// keptTarget is a target with its definition marshalled.
type keptTarget struct {
	compiler.Target
	Definition []byte
}

// newPlanCache returns the cache for one command line.
func (a *app) newPlanCache(e *engine.Engine, o *inputOptions, args []string) (*planCache, error) {
	dir, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	program, err := os.Stat("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	inode := program.Sys().(*syscall.Stat_t).Ino
	data, err := json.Marshal([]any{
		dir, args, o.set, o.targets, a.arguments(o.buildArgs), o.labels, o.platforms, o.network, o.addHosts,
		o.shmSize, o.ulimits, o.noCache, o.noCacheFilters, o.contexts, o.devices, program.Size(), program.ModTime(), inode,
	})
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(data)
	return &planCache{e: e, key: hex.EncodeToString(sum[:])}, nil
}

// load returns the kept plan, if everything about it still holds.
func (c *planCache) load(ctx context.Context, meta llb.ImageMetaResolver) (*compiler.Plan, bool, error) {
	var kept keptPlan
	ok, err := c.e.Store.GetRecord(engine.BucketPlans, c.key, &kept)
	if err != nil || !ok {
		return nil, false, err
	}
	now, err := schema.Fingerprint(kept.Inputs)
	if err != nil || now != kept.Fingerprint {
		return nil, false, nil // whatever is wrong, loading says it better
	}
	for dir, want := range kept.Ignores {
		if _, got, err := readIgnore(dir); err != nil || got != want {
			return nil, false, nil
		}
	}
	for _, q := range kept.Questions {
		_, d, config, err := meta.ResolveImageConfig(ctx, q.Ref, q.opt())
		if err != nil || d != q.Digest || digest.FromBytes(config) != q.Config {
			return nil, false, nil
		}
	}
	plan := &compiler.Plan{}
	for _, k := range kept.Targets {
		t := k.Target
		t.Definition = &pb.Definition{}
		if err := t.Definition.UnmarshalVT(k.Definition); err != nil {
			return nil, false, nil
		}
		plan.Targets = append(plan.Targets, t)
	}
	c.e.Store.TouchRecord(engine.BucketPlans, c.key)
	return plan, true, nil
}

// save keeps a plan with what it was made of.
func (c *planCache) save(spec *schema.Spec, plan *compiler.Plan, rec *recorder) error {
	fingerprint, err := schema.Fingerprint(spec.Inputs())
	if err != nil {
		return err
	}
	kept := keptPlan{
		Inputs: spec.Inputs(), Fingerprint: fingerprint, Ignores: rec.ignores, Questions: rec.questions,
	}
	for _, t := range plan.Targets {
		data, err := t.Definition.MarshalVT()
		if err != nil {
			return fmt.Errorf("marshal definition: %w", err)
		}
		t.Definition = nil
		kept.Targets = append(kept.Targets, keptTarget{Target: t, Definition: data})
	}
	return c.e.Store.PutRecord(engine.BucketPlans, c.key, kept)
}

func (q question) opt() sourceresolver.Opt {
	return sourceresolver.Opt{ImageOpt: &sourceresolver.ResolveImageOpt{Platform: q.Platform}}
}

// recorder notes what a compilation asked for. volatile is set where that
// cannot be asked again cheaply; the plan is then not kept.
type recorder struct {
	meta llb.ImageMetaResolver

	mu        sync.Mutex
	questions []question
	ignores   map[string]string
	volatile  bool
}

// ResolveImageConfig implements llb.ImageMetaResolver.
func (r *recorder) ResolveImageConfig(ctx context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	name, d, config, err := r.meta.ResolveImageConfig(ctx, ref, opt)
	r.mu.Lock()
	defer r.mu.Unlock()
	if opt.ImageOpt == nil || opt.OCILayoutOpt != nil {
		r.volatile = true
		return name, d, config, err
	}
	r.questions = append(r.questions, question{ref, opt.ImageOpt.Platform, d, digest.FromBytes(config)})
	return name, d, config, err
}

// ignore is compiler.Options.Ignore.
func (r *recorder) ignore(dir string) ([]string, error) {
	patterns, sum, err := readIgnore(dir)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ignores[dir] = sum
	return patterns, err
}

// readIgnore reads a context's ignore file, and digests it.
func readIgnore(dir string) ([]string, string, error) {
	data, err := os.ReadFile(filepath.Join(dir, ".dockerignore"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	patterns, err := ignorefile.ReadAll(bytes.NewReader(data))
	return patterns, digest.FromBytes(data).String(), err
}

// volatileFrontend compiles Dockerfiles within CUE. What they read is not
// noted, so that such a plan is not kept.
type volatileFrontend struct{ rec *recorder }

// Dockerfile implements compiler.Dockerfiles.
func (f volatileFrontend) Dockerfile(ctx context.Context, req compiler.DockerfileRequest) (*compiler.DockerfileResult, error) {
	f.rec.mu.Lock()
	f.rec.volatile = true
	f.rec.mu.Unlock()
	return dockerfilecompat.Frontend{}.Dockerfile(ctx, req)
}
