package buildcmd

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/strata-build/strata/cmd/strata/cli"
)

// explainFlags says of a flag that there is nothing for here why, and what to
// do, as far as reason knows.
func explainFlags(cmd *cobra.Command, reason func(name string) string) {
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		var unknown *pflag.NotExistError
		if errors.As(err, &unknown) {
			name := unknown.GetSpecifiedName()
			if why := reason(name); why != "" {
				return cli.Misuse("there is no flag %s here: %s", strings.Repeat("-", min(len(name), 2))+name, why)
			}
		}
		return cmd.Parent().FlagErrorFunc()(cmd, err)
	})
}

// buildFlag is why a flag of `strata build` is none of `strata debug`, or "".
func (a *app) buildFlag(name string) string {
	flags := a.buildCommand().Flags()
	if flags.Lookup(name) == nil && (len(name) != 1 || flags.ShorthandLookup(name) == nil) {
		return dockerFlag(name)
	}
	return "debug makes no image, and runs the steps on this machine; leave it out"
}

// dockerFlag is why a flag of docker is not there, or "".
func dockerFlag(name string) string {
	switch name {
	case "rm", "force-rm":
		return "steps leave no containers; leave it out"
	case "compress":
		return "the build context is not sent anywhere; leave it out"
	case "builder":
		return "this machine builds; leave it out, or name a BuildKit daemon with --engine buildkit --addr ADDRESS"
	case "isolation":
		return "it is for Windows; leave it out"
	case "squash":
		return "for an image of one layer, end with a stage FROM scratch that does COPY --from=STAGE / /"
	case "security-opt":
		return "steps have docker's default profile, and those with --security=insecure none, with --allow security.insecure"
	case "m", "memory", "memory-swap", "c", "cpu-shares", "cpu-period", "cpu-quota", "cpuset-cpus", "cpuset-mems", "cgroup-parent":
		return "limit the whole build, as in `systemd-run --scope -p MemoryMax=4G strata build …`"
	case "attest", "provenance":
		return "attestations are not written; leave it out"
	case "sbom":
		return "`strata sbom IMAGE` writes a bill of materials"
	}
	return ""
}
