package containercmd

import (
	"context"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/strata-build/strata/runtime/container"
	"github.com/strata-build/strata/runtime/engine"
	"github.com/strata-build/strata/runtime/network"
)

// containerDescription is docker's, as far as it has a meaning here, field for
// field.
//
//nolint:revive // docker's own spelling
type containerDescription struct {
	Id              string
	Created         string
	Path            string
	Args            []string
	State           stateDescription
	Image           string
	LogPath         string
	Name            string
	RestartCount    int
	Driver          string
	Platform        string
	HostConfig      hostDescription
	SizeRw          *int64 `json:",omitempty"`
	SizeRootFs      *int64 `json:",omitempty"`
	Mounts          []mountDescription
	Config          configDescription
	NetworkSettings networkDescription
}

type stateDescription struct {
	Status                            string
	Running, Paused, Restarting, Dead bool
	OOMKilled                         bool
	Pid, ExitCode                     int
	Error                             string
	StartedAt, FinishedAt             string
	Health                            *healthDescription `json:",omitempty"`
}

type healthDescription struct {
	Status        string
	FailingStreak int
	Log           []container.HealthCheck
}

type hostDescription struct {
	Binds                      []string
	NetworkMode                string
	PortBindings               map[string][]portBinding
	RestartPolicy              restartDescription
	AutoRemove                 bool
	Privileged, ReadonlyRootfs bool
	Capabilities               []string `json:",omitempty"`
	Dns, ExtraHosts, GroupAdd  []string
	Memory, MemorySwap         int64
	NanoCpus                   int64
	CpuShares, CpuQuota        int64
	CpuPeriod                  uint64
	CpusetCpus, CpusetMems     string
	PidsLimit                  int64
	ShmSize                    int64
	Init                       bool
	OomScoreAdj                int
}

type restartDescription struct {
	Name              string
	MaximumRetryCount int
}

type portBinding struct{ HostIp, HostPort string }

type mountDescription struct {
	Type                      string
	Name                      string `json:",omitempty"`
	Source, Destination, Mode string
	RW                        bool
}

type configDescription struct {
	Hostname, User    string
	Tty, OpenStdin    bool
	Env, Cmd          []string
	Entrypoint        []string
	Image, WorkingDir string
	Labels            map[string]string
	StopSignal        string
	StopTimeout       *int              `json:",omitempty"`
	Healthcheck       *container.Health `json:",omitempty"`
}

type networkDescription struct {
	IPAddress string
	Ports     map[string][]portBinding
	Networks  map[string]endpointDescription
}

type endpointDescription struct{ IPAddress string }

// Describe describes the container of a name or id.
func Describe(ctx context.Context, e *engine.Engine, name string, size bool) (any, error) {
	s := container.New(e)
	rec, err := s.Find(ctx, name)
	if err != nil {
		return nil, err
	}
	d, err := describeContainer(s, &rec)
	if err == nil && size {
		err = d.measure(ctx, s, &rec)
	}
	return d, err
}

// measure adds the sizes of what the container has written, and of its whole
// tree.
func (d *containerDescription) measure(ctx context.Context, s *container.Set, rec *container.Record) error {
	written, err := s.Size(ctx, rec.ID)
	if err != nil {
		return err
	}
	of, err := s.ImageSize(ctx, rec)
	if err != nil {
		return err
	}
	all := written + of
	d.SizeRw, d.SizeRootFs = &written, &all
	return nil
}

func describeContainer(s *container.Set, rec *container.Record) (*containerDescription, error) {
	dir, err := s.Engine().Containers()
	if err != nil {
		return nil, err
	}
	c := &rec.Config
	args := c.Args()
	mounts, err := describeMounts(s, c.Mounts)
	if err != nil {
		return nil, err
	}
	return &containerDescription{
		Id: rec.ID, Created: rec.Created.Format(time.RFC3339Nano), Path: args[0], Args: args[1:],
		State: describeState(&rec.State), Image: rec.Image.ID, Name: "/" + rec.Name,
		LogPath: filepath.Join(dir, rec.ID, container.LogName), RestartCount: rec.State.Restarts,
		Driver: s.Engine().Snapshots.Name(), Platform: "linux",
		HostConfig: describeHost(c), Mounts: mounts, Config: describeConfig(rec),
		NetworkSettings: networkDescription{
			IPAddress: address(rec), Ports: bindings(rec),
			Networks: map[string]endpointDescription{string(c.Network.Mode): {address(rec)}},
		},
	}, nil
}

func describeState(st *container.State) stateDescription {
	d := stateDescription{
		Status: string(st.Status), Running: st.Live(), Paused: st.Paused, Restarting: st.Status == container.Restarting,
		OOMKilled: st.OOMKilled, Pid: st.PID, ExitCode: st.ExitCode, Error: st.Error,
		StartedAt: st.StartedAt.Format(time.RFC3339Nano), FinishedAt: st.FinishedAt.Format(time.RFC3339Nano),
	}
	if st.Paused {
		d.Status = "paused"
	}
	if h := st.Health; h != nil {
		d.Health = &healthDescription{string(h.Status), h.FailingStreak, h.Log}
	}
	return d
}

func describeHost(c *container.Config) hostDescription {
	r := c.Resources
	d := hostDescription{
		NetworkMode: string(c.Network.Mode), PortBindings: map[string][]portBinding{},
		RestartPolicy: restartDescription{string(c.Restart.Policy), c.Restart.Max}, AutoRemove: c.AutoRemove,
		Privileged: c.Security.Privileged, ReadonlyRootfs: c.ReadOnly, Capabilities: c.Security.Capabilities,
		Dns: c.Network.DNS, ExtraHosts: c.ExtraHosts, GroupAdd: c.Groups,
		Memory: r.Memory, MemorySwap: r.MemorySwap, CpuShares: int64(r.CPUShares), CpuQuota: r.CPUQuota, CpuPeriod: r.CPUPeriod,
		CpusetCpus: r.CPUSetCPUs, CpusetMems: r.CPUSetMems, PidsLimit: r.Pids, ShmSize: c.ShmSize, Init: c.Init,
	}
	if c.Network.Mode == container.NetworkContainer {
		d.NetworkMode += ":" + c.Network.Container
	}
	if r.CPUPeriod != 0 {
		d.NanoCpus = r.CPUQuota * int64(time.Second) / int64(r.CPUPeriod)
	}
	if c.OOMScoreAdj != nil {
		d.OomScoreAdj = *c.OOMScoreAdj
	}
	for _, m := range c.Mounts {
		if m.Type != container.MountTmpfs {
			d.Binds = append(d.Binds, strings.TrimSuffix(m.Source+":"+m.Target+":"+mode(m), ":"))
		}
	}
	for _, p := range c.Network.Ports {
		d.PortBindings[p.Exposed()] = append(d.PortBindings[p.Exposed()], bindingOf(p))
	}
	return d
}

// bindings are the published ports by the container's.
func bindings(rec *container.Record) map[string][]portBinding {
	all := map[string][]portBinding{}
	for _, p := range rec.State.Ports {
		all[p.Exposed()] = append(all[p.Exposed()], bindingOf(p))
	}
	return all
}

func bindingOf(p network.Port) portBinding {
	b := portBinding{HostPort: strconv.Itoa(int(p.HostPort))}
	if p.HostIP.IsValid() {
		b.HostIp = p.HostIP.String()
	}
	return b
}

// address is the container's own address in its network.
func address(rec *container.Record) string {
	if rec.Config.Network.Mode == container.NetworkPrivate && rec.State.Live() {
		return network.AddressIP.String()
	}
	return ""
}

func mode(m container.Mount) string {
	if m.ReadOnly {
		return "ro"
	}
	return ""
}

func describeConfig(rec *container.Record) configDescription {
	c := &rec.Config
	return configDescription{
		Hostname: c.Hostname, User: c.User, Tty: c.Terminal, OpenStdin: c.OpenStdin, Env: c.Env, Cmd: c.Cmd,
		Entrypoint: c.Entrypoint, Image: rec.Image.Name, WorkingDir: c.Workdir, Labels: c.Labels,
		StopSignal: c.StopSignal, StopTimeout: inSeconds(c.StopTimeout), Healthcheck: c.Health,
	}
}

func inSeconds(d *time.Duration) *int {
	if d == nil {
		return nil
	}
	n := int(*d / time.Second)
	return &n
}

func describeMounts(s *container.Set, mounts []container.Mount) ([]mountDescription, error) {
	list := []mountDescription{}
	for _, m := range mounts {
		d := mountDescription{Type: string(m.Type), Source: m.Source, Destination: m.Target, Mode: mode(m), RW: !m.ReadOnly}
		if m.Type == container.MountVolume {
			dir, err := s.VolumeDir(m.Source)
			if err != nil {
				return nil, err
			}
			d.Name, d.Source = m.Source, dir
		}
		list = append(list, d)
	}
	return list, nil
}
