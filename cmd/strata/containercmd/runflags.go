package containercmd

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/platforms"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/runtime/cgroup"
	"github.com/strata-build/strata/runtime/container"
	"github.com/strata-build/strata/runtime/executor"
	"github.com/strata-build/strata/runtime/network"
)

// containerFlags are the flags of `run` and `create`, which describe a
// container. They are docker's.
type containerFlags struct {
	name, platform, pull, cidFile string
	interactive, tty, remove      bool
	start                         bool // right after it is made

	env, envFiles, labels, labelFiles []string
	workdir, user, hostname           string
	groups                            []string
	entrypoint                        string

	network, restart       string
	ports, hosts           []string
	dns, search, resolver  []string
	publishAll             bool
	volumes, mounts, tmpfs []string
	devices                []string

	readOnly, init, privileged bool
	capAdd, capDrop, security  []string
	ulimits                    []string
	shmSize                    cli.ByteSize

	memory               cli.ByteSize
	memorySwap           swapSize
	cpus                 string
	cpuShares, cpuPeriod uint64
	cpuQuota, pids       int64
	cpuSet, memSet       string
	oomScoreAdj          int
	stopSignal           string
	stopTimeout          int
	health               container.Health
	healthCommand        string
	noHealth             bool
	set                  *pflag.FlagSet
}

// add adds the flags to a command.
func (o *containerFlags) add(f *pflag.FlagSet) {
	o.set = f
	f.SetInterspersed(false) // what follows the image is the container's
	f.StringVar(&o.name, "name", "", "name of the container")
	f.StringVar(&o.platform, "platform", "", "platform of the image, such as linux/arm64")
	f.StringVar(&o.pull, "pull", "missing", "missing, always or never")
	f.StringVar(&o.cidFile, "cidfile", "", "write the container's id to a file")
	f.BoolVar(&o.remove, "rm", false, "remove the container when it has ended")
	f.BoolVarP(&o.interactive, "interactive", "i", false, "connect standard input")
	f.BoolVarP(&o.tty, "tty", "t", false, "give the container a terminal")
	f.StringArrayVarP(&o.env, "env", "e", nil, "NAME=VALUE: set a variable; NAME alone takes the environment's")
	f.StringArrayVar(&o.envFiles, "env-file", nil, "file with a variable on each line")
	f.StringArrayVarP(&o.labels, "label", "l", nil, "NAME=VALUE: label the container")
	f.StringArrayVar(&o.labelFiles, "label-file", nil, "file with a label on each line")
	f.StringVarP(&o.workdir, "workdir", "w", "", "working directory")
	f.StringVarP(&o.user, "user", "u", "", "user[:group], by name or number")
	f.StringSliceVar(&o.groups, "group-add", nil, "further groups of the user")
	f.StringVarP(&o.hostname, "hostname", "h", "", "host name")
	f.StringVar(&o.entrypoint, "entrypoint", "", "replace the image's entrypoint")
	o.addSurroundings(f)
	o.addLimits(f)
	// -h is the host name's, as in docker.
	f.Bool("help", false, "help for this command")
}

func (o *containerFlags) addSurroundings(f *pflag.FlagSet) {
	f.StringVar(&o.network, "network", "private", "private, none, host, or container:NAME")
	f.StringVar(&o.network, "net", "private", "same as --network")
	f.Lookup("net").Hidden = true
	f.StringArrayVarP(&o.ports, "publish", "p", nil, "[[ADDRESS:]HOSTPORT:]PORT[/tcp|/udp]: publish a port")
	f.BoolVarP(&o.publishAll, "publish-all", "P", false, "publish all ports that the image exposes on free ones")
	f.StringArrayVar(&o.dns, "dns", nil, "address of a nameserver")
	f.StringArrayVar(&o.search, "dns-search", nil, "domain in which short names are looked for")
	f.StringArrayVar(&o.resolver, "dns-option", nil, "option of the resolver, such as ndots:2")
	f.StringArrayVar(&o.hosts, "add-host", nil, "NAME:ADDRESS for /etc/hosts")
	f.StringArrayVarP(&o.volumes, "volume", "v", nil, "[SOURCE:]TARGET[:ro]: mount a path of the host, or a volume")
	f.StringArrayVar(&o.mounts, "mount", nil, "type=bind|volume|tmpfs,source=…,target=…[,readonly]")
	f.StringArrayVar(&o.tmpfs, "tmpfs", nil, "TARGET[:size=…,mode=…,exec]: mount a tmpfs")
	f.StringArrayVar(&o.devices, "device", nil, "SOURCE[:TARGET[:rwm]]: give the container a device of the host")
	f.BoolVar(&o.readOnly, "read-only", false, "make the root file system read-only")
	f.BoolVar(&o.init, "init", false, "run an init that passes on signals and reaps processes")
	f.BoolVar(&o.privileged, "privileged", false, "lift the limits of security: all capabilities, devices and system calls")
	f.StringSliceVar(&o.capAdd, "cap-add", nil, "add a capability, or ALL")
	f.StringSliceVar(&o.capDrop, "cap-drop", nil, "drop a capability, or ALL")
	f.StringArrayVar(&o.security, "security-opt", nil, "no-new-privileges, seccomp=FILE|unconfined, systempaths=unconfined")
	f.StringVar(&o.restart, "restart", "no", "no, on-failure[:MAX], always or unless-stopped")
	f.StringVar(&o.stopSignal, "stop-signal", "", "signal that asks the container to end")
	f.IntVar(&o.stopTimeout, "stop-timeout", 0, "seconds from there until it is killed")
	f.StringVar(&o.healthCommand, "health-cmd", "", "shell command that tells whether the container works")
	f.DurationVar(&o.health.Interval, "health-interval", 0, "time between checks")
	f.DurationVar(&o.health.Timeout, "health-timeout", 0, "time that a check may take")
	f.DurationVar(&o.health.StartPeriod, "health-start-period", 0, "time during which failures do not count")
	f.DurationVar(&o.health.StartInterval, "health-start-interval", 0, "time between checks during that")
	f.IntVar(&o.health.Retries, "health-retries", 0, "failures in a row that mean unhealthy")
	f.BoolVar(&o.noHealth, "no-healthcheck", false, "switch the image's check off")
}

func (o *containerFlags) addLimits(f *pflag.FlagSet) {
	o.addResources(f)
	f.StringArrayVar(&o.ulimits, "ulimit", nil, "NAME=SOFT[:HARD], such as nofile=1024")
	f.Var(&o.shmSize, "shm-size", "size of /dev/shm")
	f.IntVar(&o.oomScoreAdj, "oom-score-adj", 0, "preference of the kernel's killer (-1000 to 1000)")
}

// addResources adds the limits of control groups, which can be changed later.
func (o *containerFlags) addResources(f *pflag.FlagSet) {
	f.VarP(&o.memory, "memory", "m", "most memory that the container may use, such as 200m")
	f.Var(&o.memorySwap, "memory-swap", "memory and swap together; -1 is unlimited swap")
	f.StringVar(&o.cpus, "cpus", "", "number of processors, such as 1.5")
	f.Uint64VarP(&o.cpuShares, "cpu-shares", "c", 0, "weight against other containers (1024 is normal)")
	f.Uint64Var(&o.cpuPeriod, "cpu-period", 0, "period of the processor quota, in µs")
	f.Int64Var(&o.cpuQuota, "cpu-quota", 0, "processor time in each period, in µs")
	f.StringVar(&o.cpuSet, "cpuset-cpus", "", "processors that may be used, such as 0-2,4")
	f.StringVar(&o.memSet, "cpuset-mems", "", "memory nodes that may be used")
	f.Int64Var(&o.pids, "pids-limit", 0, "most processes and threads; -1 is no limit")
}

// request reads the flags; args are the image and its arguments.
func (o *containerFlags) request(a *app, args []string) (container.Request, error) {
	req := container.Request{
		Image: args[0], Args: args[1:], Name: o.name, PublishAll: o.publishAll, NoHealth: o.noHealth, Pending: o.start,
		Config: container.Config{
			Workdir: o.workdir, User: o.user, Groups: o.groups, Hostname: o.hostname,
			Terminal: o.tty, OpenStdin: o.interactive,
			ReadOnly: o.readOnly, Init: o.init, ShmSize: int64(o.shmSize), AutoRemove: o.remove,
			StopSignal: o.stopSignal,
		},
	}
	if err := checkWorkdir(o.workdir); err != nil {
		return req, err
	}
	const maxHostname = 64 // the kernel's
	if o.hostname != "" && (!cli.IsHostName(o.hostname) || len(o.hostname) > maxHostname) {
		return req, cli.Misuse("--hostname %q: it takes up to %d letters, digits, '-' and '.'", o.hostname, maxHostname)
	}
	if o.set.Changed("entrypoint") {
		req.Entrypoint = &o.entrypoint
	}
	for _, read := range []func(*app, *container.Request) error{
		o.readPlatform, o.readEnv, o.readNetwork, o.readMounts, o.readSecurity, o.readLimits, o.readLife,
	} {
		if err := read(a, &req); err != nil {
			return req, err
		}
	}
	return req, nil
}

func checkWorkdir(dir string) error {
	if dir != "" && !filepath.IsAbs(dir) {
		return cli.Misuse("--workdir %s: it takes an absolute path", dir)
	}
	return nil
}

func (o *containerFlags) readPlatform(_ *app, req *container.Request) error {
	if !slices.Contains([]string{"missing", "always", "never"}, o.pull) {
		return cli.Misuse("--pull %s is not known: it takes missing, always or never", o.pull)
	}
	if o.platform == "" {
		return nil
	}
	p, err := platforms.Parse(o.platform)
	if err != nil {
		return cli.Misuse("--platform %s: it is OS/ARCHITECTURE, such as linux/arm64", o.platform)
	}
	req.Platform = &p
	return nil
}

func (o *containerFlags) readEnv(a *app, req *container.Request) error {
	specs, err := readLines("--env-file", o.envFiles)
	if err != nil {
		return err
	}
	if req.Config.Env, err = a.variables(append(specs, o.env...)); err != nil {
		return err
	}
	labels, err := readLines("--label-file", o.labelFiles)
	if err != nil {
		return err
	}
	req.Config.Labels, err = parseLabels(append(labels, o.labels...))
	return err
}

// readLines reads files with one setting on a line, and comments.
func readLines(flag string, names []string) ([]string, error) {
	var lines []string
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", flag, err)
		}
		scanner := bufio.NewScanner(f)
		for number := 1; scanner.Scan(); number++ {
			line := strings.TrimLeft(strings.TrimPrefix(scanner.Text(), "\ufeff"), " \t")
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			key, _, _ := strings.Cut(line, "=")
			if key == "" || strings.ContainsAny(key, " \t") {
				f.Close()
				return nil, cli.Misuse("%s:%d: %q is not NAME=VALUE", name, number, line)
			}
			lines = append(lines, line)
		}
		err = scanner.Err()
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", flag, name, err)
		}
	}
	return lines, nil
}

// checkNetwork refuses what could have no effect.
func (o *containerFlags) checkNetwork(mode container.NetworkMode) error {
	if mode == container.NetworkContainer {
		for _, flag := range []string{"hostname", "dns", "dns-search", "dns-option", "add-host", "publish", "publish-all"} {
			if o.set.Changed(flag) {
				return cli.Misuse("--%s and --network %s contradict each other: that is the other container's", flag, o.network)
			}
		}
	}
	if mode == container.NetworkNone && (len(o.ports) > 0 || o.publishAll) {
		return cli.Misuse("--publish and --network none contradict each other: nothing can reach a container without a network")
	}
	return nil
}

func (o *containerFlags) readNetwork(_ *app, req *container.Request) error {
	n := &req.Config.Network
	mode, other, named := strings.Cut(o.network, ":")
	switch {
	case mode == "container" && named && other != "":
		n.Mode, n.Container = container.NetworkContainer, other
	case o.network == "private" || o.network == "bridge" || o.network == "default":
		n.Mode = container.NetworkPrivate
	case o.network == "none" || o.network == "host":
		n.Mode = container.NetworkMode(o.network)
	default:
		return cli.Misuse("--network %s is not known: it takes private, none, host, or container:NAME", o.network)
	}
	if err := o.checkNetwork(n.Mode); err != nil {
		return err
	}
	var err error
	if n.Ports, err = network.ParsePorts(o.ports); err != nil {
		return cli.Misuse("--publish: %v", err)
	}
	for _, server := range o.dns {
		if _, err := netip.ParseAddr(server); err != nil {
			return cli.Misuse("--dns %s: it takes the address of a nameserver", server)
		}
	}
	n.DNS, n.DNSSearch, n.DNSOptions = o.dns, o.search, o.resolver
	hosts, err := cli.ParseHosts(o.hosts)
	for _, h := range hosts {
		req.Config.ExtraHosts = append(req.Config.ExtraHosts, h.Host+":"+h.IP.String())
	}
	return err
}

func (o *containerFlags) readLimits(_ *app, req *container.Request) error {
	r := cgroup.Resources{
		Memory: int64(o.memory), MemorySwap: int64(o.memorySwap), CPUShares: o.cpuShares,
		CPUPeriod: o.cpuPeriod, CPUQuota: o.cpuQuota, CPUSetCPUs: o.cpuSet, CPUSetMems: o.memSet, Pids: o.pids,
	}
	if err := errors.Join(o.checkLimits(&r), o.readCPUs(&r)); err != nil {
		return err
	}
	req.Config.Resources = r
	if o.set.Changed("oom-score-adj") {
		req.Config.OOMScoreAdj = &o.oomScoreAdj
	}
	limits, err := cli.ParseUlimits(o.ulimits)
	for _, l := range limits {
		req.Config.Rlimits = append(req.Config.Rlimits, executor.Rlimit{Name: l.Name, Soft: uint64(l.Soft), Hard: uint64(l.Hard)})
	}
	return err
}

// The least that the kernel, or docker, takes.
const (
	leastMemory = 6 << 20
	leastQuota  = 1000 // µs
)

func (o *containerFlags) checkLimits(r *cgroup.Resources) error {
	switch {
	case r.Memory != 0 && r.Memory < leastMemory:
		return cli.Misuse("--memory %s is too little: 6m is the least", o.memory.String())
	case r.MemorySwap != 0 && r.Memory == 0:
		return cli.Misuse("--memory-swap is memory and swap together: give --memory too")
	case r.MemorySwap > 0 && r.MemorySwap < r.Memory:
		return cli.Misuse("--memory-swap is memory and swap together: it must be at least --memory")
	case r.CPUQuota != 0 && r.CPUQuota < leastQuota:
		return cli.Misuse("--cpu-quota %d is too little: %d is the least", r.CPUQuota, leastQuota)
	case r.Pids < -1:
		return cli.Misuse("--pids-limit %d: it takes a number of processes, or -1 for no limit", r.Pids)
	case o.oomScoreAdj < -1000 || o.oomScoreAdj > 1000:
		return cli.Misuse("--oom-score-adj %d: it takes a number from -1000 to 1000", o.oomScoreAdj)
	}
	return nil
}

// readCPUs makes a quota of --cpus.
func (o *containerFlags) readCPUs(r *cgroup.Resources) error {
	if o.cpus == "" {
		return nil
	}
	n, err := strconv.ParseFloat(o.cpus, 64)
	switch {
	case err == nil && n == 0: // docker's default, which is no limit
		return nil
	case err != nil || !(n > 0) || n > 1<<20:
		return cli.Misuse("--cpus %s: it takes a number of processors, such as 1.5", o.cpus)
	case n < 0.01:
		return cli.Misuse("--cpus %s is too little: 0.01 is the least", o.cpus)
	case o.cpuQuota != 0 || o.cpuPeriod != 0:
		return cli.Misuse("--cpus cannot be used together with --cpu-quota or --cpu-period")
	}
	const period = 100_000
	r.CPUPeriod, r.CPUQuota = period, int64(n*period)
	return nil
}

func (o *containerFlags) readLife(_ *app, req *container.Request) error {
	policy, most, counted := strings.Cut(o.restart, ":")
	req.Config.Restart.Policy = container.RestartPolicy(policy)
	switch req.Config.Restart.Policy {
	case container.RestartNo, container.RestartAlways, container.RestartUnlessStopped:
		if counted {
			return cli.Misuse("--restart %s: only on-failure takes a number", o.restart)
		}
	case container.RestartOnFailure:
		n, err := strconv.Atoi(cmp.Or(most, "0"))
		if err != nil || n < 0 {
			return cli.Misuse("--restart %s: %q is no number of restarts", o.restart, most)
		}
		req.Config.Restart.Max = n
	default:
		return cli.Misuse("--restart %s is not known: it takes no, on-failure[:MAX], always or unless-stopped", o.restart)
	}
	if o.remove && req.Config.Restart.Policy != container.RestartNo {
		return cli.Misuse("--rm and --restart contradict each other: leave one out")
	}
	if o.stopSignal != "" {
		if _, err := container.ParseSignal(o.stopSignal); err != nil {
			return cli.Misuse("--stop-signal: %v", err)
		}
	}
	if o.set.Changed("stop-timeout") {
		d := time.Duration(o.stopTimeout) * time.Second
		req.Config.StopTimeout = &d
	}
	return o.readHealth(req)
}

func (o *containerFlags) readHealth(req *container.Request) error {
	for _, flag := range []string{"health-cmd", "health-interval", "health-timeout", "health-start-period", "health-start-interval", "health-retries"} {
		if o.noHealth && o.set.Changed(flag) {
			return cli.Misuse("--no-healthcheck and --%s contradict each other: leave one out", flag)
		}
	}
	health := o.health
	for flag, d := range map[string]time.Duration{
		"interval": health.Interval, "timeout": health.Timeout, "start-period": health.StartPeriod, "start-interval": health.StartInterval,
	} {
		if d != 0 && d < time.Millisecond { // the kernel's, and docker's, least
			return cli.Misuse("--health-%s %s is too short: 1ms is the least", flag, d)
		}
	}
	if health.Retries < 0 {
		return cli.Misuse("--health-retries %d: it takes a number of checks", health.Retries)
	}
	if o.healthCommand != "" {
		health.Test = []string{"CMD-SHELL", o.healthCommand}
	}
	req.Health = &health
	return nil
}

// engineErrors gives mistakes in the flags of a command docker's code for
// containers that could not be run.
func engineErrors(cmd *cobra.Command) {
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &cli.ExitError{Code: container.CodeEngine, Err: fmt.Errorf("%w; see `%s --help`", cli.FlagError(cmd, err), cmd.CommandPath())}
	})
}
