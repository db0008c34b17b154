package containercmd

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/runtime/container"
	"github.com/strata-build/strata/runtime/executor"
)

// parseRun reads a command line of `run`.
func parseRun(t *testing.T, args ...string) (container.Request, error) {
	t.Helper()
	var o containerFlags
	f := pflag.NewFlagSet("run", pflag.ContinueOnError)
	o.add(f)
	if err := f.Parse(append(args, "image")); err != nil {
		return container.Request{}, err
	}
	a := &app{cli.New(os.Stdin, os.Stdout, os.Stderr, []string{"FROM_HERE=here"})}
	return o.request(a, f.Args())
}

// TestMountFlags is the table of what -v, --mount and --tmpfs take.
func TestMountFlags(t *testing.T) {
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for spec, want := range map[string]container.Mount{
		"-v=/t":                           {Type: container.MountVolume, Target: "/t"},
		"-v=name:/t":                      {Type: container.MountVolume, Source: "name", Target: "/t"},
		"-v=name:/t:ro":                   {Type: container.MountVolume, Source: "name", Target: "/t", ReadOnly: true},
		"-v=name:/t:nocopy,ro":            {Type: container.MountVolume, Source: "name", Target: "/t", ReadOnly: true, NoCopy: true},
		"-v=/s:/t:rw,z":                   {Type: container.MountBind, Source: "/s", Target: "/t", Create: true},
		"-v=./s:/t":                       {Type: container.MountBind, Source: filepath.Join(wd, "s"), Target: "/t", Create: true},
		"-v=/a/../s/:/t":                  {Type: container.MountBind, Source: "/s", Target: "/t", Create: true},
		"--mount=type=bind,src=/s,dst=/t": {Type: container.MountBind, Source: "/s", Target: "/t"},
		"--mount=type=bind,source=s,destination=/t,readonly":               {Type: container.MountBind, Source: filepath.Join(wd, "s"), Target: "/t", ReadOnly: true},
		"--mount=type=bind,source=/s,target=/t,ro=false,bind-nonrecursive": {Type: container.MountBind, Source: "/s", Target: "/t", NonRecursive: true},
		"--mount=type=bind,source=/s,target=/t,bind-recursive=disabled":    {Type: container.MountBind, Source: "/s", Target: "/t", NonRecursive: true},
		"--mount=type=bind,source=/s,target=/t,bind-propagation=rprivate":  {Type: container.MountBind, Source: "/s", Target: "/t"},
		"--mount=type=bind,source=/s,target=/t,bind-create-src":            {Type: container.MountBind, Source: "/s", Target: "/t", Create: true},
		`--mount=type=bind,"source=/a,b",target=/t`:                        {Type: container.MountBind, Source: "/a,b", Target: "/t"},
		"--mount=target=/t":                            {Type: container.MountVolume, Target: "/t"},
		"--mount=source=name,target=/t,volume-nocopy":  {Type: container.MountVolume, Source: "name", Target: "/t", NoCopy: true},
		"--mount=type=tmpfs,target=/t,tmpfs-size=1m":   {Type: container.MountTmpfs, Target: "/t", Size: 1 << 20},
		"--mount=type=tmpfs,target=/t,tmpfs-mode=1770": {Type: container.MountTmpfs, Target: "/t", Mode: 0o1770},
		"--tmpfs=/t": {Type: container.MountTmpfs, Target: "/t"},
		"--tmpfs=/t:rw,noexec,nosuid,size=64k,mode=0755,ro": {Type: container.MountTmpfs, Target: "/t", Size: 64 << 10, Mode: 0o755, ReadOnly: true},
		"--tmpfs=/t:exec": {Type: container.MountTmpfs, Target: "/t", Exec: true},
	} {
		req, err := parseRun(t, spec)
		if err != nil || len(req.Config.Mounts) != 1 || req.Config.Mounts[0] != want {
			t.Errorf("%s: got %+v, %v, want %+v", spec, req.Config.Mounts, err, want)
		}
	}
}

// TestRefusedFlags is the table of what is no value of a flag. Each message
// names what is wrong.
func TestRefusedFlags(t *testing.T) {
	noProfile := filepath.Join(t.TempDir(), "profile")
	if err := os.WriteFile(noProfile, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for spec, text := range map[string]string{
		"-v=t": "absolute path", "-v=name:t": "absolute path", "-v=:/t": "absolute path", "-v=": "absolute path", "-v=a:/b:/c": `option "/c"`,
		"-v=a:/t:ro:x": "[SOURCE:]TARGET[:ro]", "-v=a:/t:": `option ""`, "-v=~/s:/t": "the shell has not replaced ~", "-v=a:/t:shared": `option "shared"`,
		"--mount=":                                                  "EOF",
		"--mount=type=bind,target=/t":                               "source= is needed",
		"--mount=type=bind,source=/s":                               "target= is needed",
		"--mount=type=bind,source=/s,target=t":                      "an absolute path",
		"--mount=type=nfs,target=/t":                                `type "nfs" is not known`,
		"--mount=target=/t,nosuch=1":                                `option "nosuch"`,
		"--mount=target=/t,readonly=perhaps":                        "not true or false",
		"--mount=type=tmpfs,target=/t,source=x":                     "a tmpfs has no source",
		"--mount=type=tmpfs,target=/t,tmpfs-size=much":              "no size",
		"--mount=type=tmpfs,target=/t,tmpfs-mode=999":               "no octal number",
		"--mount=type=tmpfs,target=/t,volume-nocopy":                "not for type=tmpfs",
		"--mount=type=volume,target=/t,bind-nonrecursive":           "not for type=volume",
		"--mount=type=bind,source=/s,target=/t,tmpfs-size=1m":       "not for type=bind",
		"--mount=type=bind,source=/s,target=/t,bind-propagation=up": "mounts are rprivate",
		"--tmpfs=t": "absolute path", "--tmpfs=/t:nosuch": `option "nosuch"`, "--tmpfs=/t:size=x": "no size", "--tmpfs=/t:mode=4755": "up to 1777",
		"--cap-add=NOSUCH": "there is no such capability", "--cap-drop=CAP_": "no such capability",
		"--device=null": "absolute paths", "--device=/dev/null:/dev/x:r": "only rwm", "--device=/dev/null:/a:/b:/c": "absolute paths",
		"--restart=never": "is not known", "--restart=always:1": "only on-failure", "--restart=on-failure:-1": "no number", "--restart=": "is not known",
		"--memory=1m": "6m is the least", "--memory=lots": "no size", "--memory-swap=1g": "give --memory too",
		"--cpus=x": "a number of processors", "--cpus=NaN": "a number of processors", "--cpus=-1": "a number of processors", "--cpus=0.001": "0.01 is the least",
		"--cpu-quota=10": "1000 is the least", "--pids-limit=-2": "-1 for no limit", "--oom-score-adj=1001": "-1000 to 1000",
		"--ulimit=nosuch=1": "ulimit", "--ulimit=nofile=2:1": "ulimit", "--shm-size=x": "no size",
		"--security-opt=nosuch": "is not known", "--security-opt=seccomp=": "no such file", "--security-opt=seccomp=/nosuch": "no such file",
		"--security-opt=seccomp=" + noProfile: "no seccomp profile", "--security-opt=no-new-privileges=perhaps": "not true or false",
		"--security-opt=systempaths=all": "is not known", "--security-opt=apparmor=docker-default": "is not known",
		"--network=nosuch": "is not known", "--network=container:": "is not known", "--network=container": "is not known",
		"--hostname=a b": "letters, digits", "--hostname=a\n1.2.3.4 b": "letters, digits", "--hostname=-a": "letters, digits", "--hostname=.": "letters, digits",
		"--add-host=a\nb:1.2.3.4": "NAME:ADDRESS", "--add-host=a b:1.2.3.4": "NAME:ADDRESS", "--add-host=:1.2.3.4": "NAME:ADDRESS",
		"--dns=example.org": "address of a nameserver", "--add-host=db": "NAME:ADDRESS", "--add-host=db:nowhere": "NAME:ADDRESS",
		"-p=x": "is not a port", "-p=80:81:82:83": "address", "--pull=often": "missing, always or never", "--platform=a/b/c/d": "OS/ARCHITECTURE",
		"--env=": `--env ""`, "-e==x": `--env "=x"`, "-l==x": "NAME=VALUE", "-w=tmp": "absolute path", "--stop-signal=NOSUCH": "is not known",
		"--health-retries=-1": "a number of checks", "--health-interval=1us": "1ms is the least", "--health-timeout=-1s": "1ms is the least",
		"--env-file=/nosuch": "no such file", "--label-file=/nosuch": "no such file",
	} {
		_, err := parseRun(t, spec)
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: got %v, want %q", spec, err, text)
		}
	}
}

func TestCapabilityFlags(t *testing.T) {
	defaults, all := executor.DefaultCapabilities(), executor.AllCapabilities()
	without := func(from []string, names ...string) []string {
		return slices.DeleteFunc(slices.Clone(from), func(c string) bool { return slices.Contains(names, c) })
	}
	for _, c := range []struct {
		args []string
		want []string
	}{
		{nil, nil},
		{[]string{"--cap-drop=ALL"}, []string{}},
		{[]string{"--cap-add=all"}, all},
		{[]string{"--cap-add=ALL", "--cap-drop=SYS_ADMIN"}, without(all, "CAP_SYS_ADMIN")},
		{[]string{"--cap-drop=ALL", "--cap-add=chown,CAP_KILL"}, []string{"CAP_CHOWN", "CAP_KILL"}},
		{[]string{"--cap-add=KILL", "--cap-drop=all"}, []string{"CAP_KILL"}},
		{[]string{"--cap-drop=chown", "--cap-drop=kill"}, without(defaults, "CAP_CHOWN", "CAP_KILL")},
		{[]string{"--cap-add=CHOWN", "--cap-drop=CHOWN"}, without(defaults, "CAP_CHOWN")},
	} {
		req, err := parseRun(t, c.args...)
		got := req.Config.Security.Capabilities
		slices.Sort(got)
		slices.Sort(c.want)
		if err != nil || !slices.Equal(got, c.want) || (got == nil) != (c.want == nil) {
			t.Errorf("%q: got %q, %v, want %q", c.args, got, err, c.want)
		}
	}
}

// TestFlagsOfRun is the rest of the table: what each flag sets.
func TestFlagsOfRun(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string // a part of the request in JSON
	}{
		{[]string{"--restart=on-failure"}, `"Restart":{"Policy":"on-failure"}`},
		{[]string{"--restart=on-failure:5"}, `"Restart":{"Policy":"on-failure","Max":5}`},
		{[]string{"--restart=unless-stopped"}, `"Restart":{"Policy":"unless-stopped"}`},
		{[]string{"-m=200m"}, `"Memory":209715200,"MemorySwap":0`},
		{[]string{"-m=200m", "--memory-swap=-1"}, `"Memory":209715200,"MemorySwap":-1`},
		{[]string{"-m=1g", "--memory-swap=2g"}, `"Memory":1073741824,"MemorySwap":2147483648`},
		{[]string{"--cpus=1.5"}, `"CPUQuota":150000,"CPUPeriod":100000`},
		{[]string{"--cpus=0.01"}, `"CPUQuota":1000,"CPUPeriod":100000`},
		{[]string{"--ulimit=nofile=1:2", "--ulimit=core=-1"}, `"Rlimits":[{"Name":"nofile","Soft":1,"Hard":2},{"Name":"core","Soft":18446744073709551615,"Hard":18446744073709551615}]`},
		{[]string{"--security-opt=no-new-privileges"}, `"NoNewPrivileges":true`},
		{[]string{"--security-opt=no-new-privileges:false"}, `"NoNewPrivileges":false`},
		{[]string{"--security-opt=seccomp:unconfined"}, `"Seccomp":"unconfined"`},
		{[]string{"--security-opt=systempaths=unconfined"}, `"Unmasked":true`},
		{[]string{"--stop-timeout=0"}, `"StopTimeout":0`},
		{[]string{"--stop-timeout=-1"}, `"StopTimeout":-1000000000`},
		{[]string{"--oom-score-adj=0"}, `"OOMScoreAdj":0`},
		{[]string{"--entrypoint="}, `"Entrypoint":"","Health"`},
		{[]string{"-e=A=1", "-e=FROM_HERE", "-e=GONE"}, `"Env":["A=1","FROM_HERE=here","GONE"]`},
		{[]string{"--device=/dev/null:/dev/x:rwm", "--device=/dev/zero:rw"}, `"Devices":[{"Source":"/dev/null","Target":"/dev/x"},{"Source":"/dev/zero","Target":"/dev/zero"}]`},
		{[]string{"--network=container:x"}, `"Mode":"container","Container":"x"`},
		{[]string{"--network=bridge"}, `"Mode":"private"`},
		{[]string{"--add-host=db:10.0.0.7", "--add-host=six=[fd00::7]"}, `"ExtraHosts":["db:10.0.0.7","six:fd00::7"]`},
		{[]string{"--health-cmd=true x", "--health-retries=2"}, `"Test":["CMD-SHELL","true x"]`},
		{[]string{"-it", "--rm", "--init", "--read-only", "--privileged"}, `"Terminal":true,"OpenStdin":true`},
	} {
		req, err := parseRun(t, c.args...)
		text, jsonErr := json.Marshal(req)
		if err != nil || jsonErr != nil || !strings.Contains(string(text), c.want) {
			t.Errorf("%q: %v %v\ngot  %s\nwant %s", c.args, err, jsonErr, text, c.want)
		}
	}
}
