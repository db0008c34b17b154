package containercmd

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/runtime/container"
)

func (a *app) logsCommand() *cobra.Command {
	var follow, timestamps bool
	tail, sinceText, untilText := "all", "", ""
	cmd := &cobra.Command{
		Use:   "logs [flags] CONTAINER",
		Short: "Show what a container has written to its standard streams",
		Args:  cli.Exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o := container.LogOptions{Follow: follow, Tail: -1}
			if n, err := strconv.Atoi(tail); err == nil {
				o.Tail = n
			} else if tail != "all" {
				return cli.Misuse("--tail %s: it takes a number of lines, or all", tail)
			}
			var err error
			if o.Since, err = parseTime("--since", sinceText); err != nil {
				return err
			}
			if o.Until, err = parseTime("--until", untilText); err != nil {
				return err
			}
			return a.peekContainers(cmd.Context(), func(s *container.Set) error { return a.logs(cmd.Context(), s, args[0], o, timestamps) })
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&follow, "follow", "f", false, "go on until the container has ended")
	f.BoolVarP(&timestamps, "timestamps", "t", false, "print the time of each line")
	f.StringVarP(&tail, "tail", "n", tail, "begin with the last lines only")
	f.StringVar(&sinceText, "since", "", "from a time (2026-01-02T15:04:05Z, Unix seconds), or a duration ago (10m)")
	f.StringVar(&untilText, "until", "", "up to a time, or a duration ago")
	return cmd
}

func (a *app) logs(ctx context.Context, s *container.Set, name string, o container.LogOptions, timestamps bool) error {
	rec, err := s.Find(ctx, name)
	if err != nil {
		return err
	}
	return s.Logs(ctx, rec.ID, o, func(e container.LogEntry) error {
		w := a.Stdout
		if e.Stream == "stderr" {
			w = a.Stderr
		}
		if timestamps {
			if _, err := fmt.Fprintf(w, "%s ", e.Time.Format("2006-01-02T15:04:05.000000000Z07:00")); err != nil {
				return err
			}
		}
		_, err := fmt.Fprint(w, e.Log)
		return err
	})
}

// parseTime reads a time as docker's logs do: a date, Unix seconds, or how long
// ago. "" is no bound.
func parseTime(flag, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil {
		return time.Now().Add(-d), nil
	}
	if seconds, err := strconv.ParseFloat(text, 64); err == nil {
		return time.Unix(0, int64(seconds*float64(time.Second))), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, cli.Misuse("%s %s: it takes a time such as 2026-01-02T15:04:05Z, Unix seconds, or a duration such as 10m", flag, text)
}
