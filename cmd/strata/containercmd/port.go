package containercmd

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/runtime/container"
	"github.com/strata-build/strata/runtime/network"
)

func (a *app) portCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "port CONTAINER [PORT[/PROTOCOL]]",
		Short: "List the ports that a container publishes",
		Args:  cli.Between(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.peekContainers(cmd.Context(), func(s *container.Set) error {
				rec, err := s.Find(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				if len(args) == 1 {
					return a.ports(rec.State.Ports)
				}
				return a.onePort(&rec, args[1])
			})
		},
	}
}

func (a *app) ports(ports []network.Port) error {
	for _, p := range ports {
		if _, err := fmt.Fprintf(a.Stdout, "%s -> %s\n", p.Exposed(), p.HostAddress()); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) onePort(rec *container.Record, spec string) error {
	number, protocol, _ := strings.Cut(spec, "/")
	found := false
	for _, p := range rec.State.Ports {
		if strconv.Itoa(int(p.ContainerPort)) != number || p.Protocol != cmp.Or(protocol, "tcp") {
			continue
		}
		found = true
		if _, err := fmt.Fprintln(a.Stdout, p.HostAddress()); err != nil {
			return err
		}
	}
	if !found {
		return fmt.Errorf("container %s publishes no port %s", rec.Name, spec)
	}
	return nil
}
