package containercmd

import (
	"fmt"
	"os/user"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/runtime/container"
)

func (a *app) topCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "top CONTAINER",
		Short: "List the processes of a container",
		Long: "List the processes of a container with their numbers on this machine. `strata exec CONTAINER ps`\n" +
			"shows those that they have inside, where the image has a ps.",
		Args: cli.AtLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return noPsOptions
			}
			return a.peekContainers(cmd.Context(), func(s *container.Set) error {
				rec, err := s.Find(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				list, err := s.Processes(rec.ID)
				if err != nil {
					return err
				}
				return a.top(list, time.Now())
			})
		},
	}
	// What docker passes on to ps looks like a flag of this command.
	cmd.SetFlagErrorFunc(func(*cobra.Command, error) error { return noPsOptions })
	return cmd
}

var noPsOptions = cli.Misuse("`strata top` takes no options of ps: its columns are those of `ps -ef`")

func (a *app) top(list []container.Process, now time.Time) error {
	w := tabwriter.NewWriter(a.Stdout, 10, 1, 3, ' ', 0)
	fmt.Fprintln(w, "UID\tPID\tPPID\tC\tSTIME\tTTY\tTIME\tCMD")
	for _, p := range list {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%s\t%s\t%s\t%s\n", userName(p.UID), p.PID, p.Parent, load(&p, now),
			startTime(p.Started, now), terminalName(p.Terminal), clock(p.CPU), p.Command)
	}
	return w.Flush()
}

// userName is this machine's name of a user, as ps has it.
func userName(uid uint32) string {
	number := strconv.FormatUint(uint64(uid), 10)
	u, err := user.LookupId(number)
	if err != nil {
		return number
	}
	return u.Username
}

// load is how much of a processor the process has used since its start, in
// percent.
func load(p *container.Process, now time.Time) int {
	lived := now.Sub(p.Started)
	if lived < time.Second {
		return 0
	}
	return int(100 * p.CPU / lived)
}

// startTime is the time of day for what was started today, else the date.
func startTime(t, now time.Time) string {
	switch {
	case t.Year() != now.Year():
		return t.Format("2006")
	case t.YearDay() != now.YearDay():
		return t.Format("Jan02")
	}
	return t.Format("15:04")
}

// The major numbers of pseudo terminals.
const (
	ptsFirst = 136
	ptsLast  = 143
)

func terminalName(number uint64) string {
	if number == 0 {
		return "?"
	}
	major, minor := unix.Major(number), unix.Minor(number)
	if major >= ptsFirst && major <= ptsLast {
		return fmt.Sprintf("pts/%d", (major-ptsFirst)<<8+minor)
	}
	return fmt.Sprintf("%d:%d", major, minor)
}

func clock(d time.Duration) string {
	seconds := int(d.Seconds())
	text := fmt.Sprintf("%02d:%02d:%02d", seconds/3600%24, seconds/60%60, seconds%60)
	if days := seconds / 86400; days > 0 {
		return strings.Join([]string{strconv.Itoa(days), text}, "-")
	}
	return text
}
