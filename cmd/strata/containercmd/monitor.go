package containercmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/runtime/container"
)

// started is what a process in the background tells the command that started it.
type started struct {
	Error string `json:",omitempty"`
	Code  int    `json:",omitempty"`
}

// monitorReport is the descriptor that it tells it on.
const monitorReport = 3

// startMonitor starts the monitor of a container, and returns when the
// container runs.
func (a *app) startMonitor(id string) error {
	cmd, err := a.background(monitorName, id)
	if err != nil {
		return err
	}
	return launch(cmd)
}

// launch starts a process in the background, and returns when it has told how
// that went.
func launch(cmd *exec.Cmd) error {
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("create pipe: %w", err)
	}
	defer r.Close()
	cmd.ExtraFiles = []*os.File{w}
	if err := errors.Join(cmd.Start(), w.Close()); err != nil {
		return fmt.Errorf("start the monitor: %w", err)
	}
	var answer started
	if err := json.NewDecoder(r).Decode(&answer); err != nil {
		return errors.Join(errors.New("the monitor ended before its process ran"), ignore(err, io.EOF), cmd.Wait())
	}
	if answer.Error != "" {
		return &cli.ExitError{Code: answer.Code, Err: errors.New(answer.Error)}
	}
	return nil
}

// reporter is the other end: it tells once.
type reporter struct{ f *os.File }

func openReport() *reporter {
	syscall.CloseOnExec(monitorReport)
	return &reporter{os.NewFile(monitorReport, "report")}
}

func (r *reporter) tell(s started) {
	if r.f == nil {
		return
	}
	// Whoever started this may be gone; the container is not.
	_ = json.NewEncoder(r.f).Encode(s)
	_ = r.f.Close()
	r.f = nil
}

// background is this program with another command line, in a session of its
// own, which outlives this process.
func (a *app) background(args ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	all := append([]string{"--root", a.Root}, args...)
	if a.Driver != "" {
		all = append([]string{"--storage-driver", a.Driver}, all...)
	}
	cmd := exec.Command(self, all...)
	cmd.Env = a.Environ
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd, nil
}

// monitorName is the hidden command that is a container's monitor.
const monitorName = "monitor"

// monitorGC: a monitor sits there for weeks and has little to do.
const monitorGC = 20

func (a *app) monitorCommand() *cobra.Command {
	return &cobra.Command{
		Use:    monitorName + " ID",
		Short:  "Be the parent of a container",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.monitor(cmd.Context(), args[0])
		},
	}
}

func (a *app) monitor(ctx context.Context, id string) error {
	report := openReport()
	debug.SetGCPercent(monitorGC)
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	err := a.withContainers(context.WithoutCancel(ctx), "", func(s *container.Set) error {
		// It is not to keep the directory of its start busy.
		if err := os.Chdir("/"); err != nil {
			return err
		}
		_, err := s.Run(context.WithoutCancel(ctx), container.RunRequest{ID: id, Signals: signals, Started: func(container.Record) {
			report.tell(started{})
			shrink()
		}})
		return err
	})
	if err != nil {
		report.tell(started{Error: err.Error(), Code: container.StartCode(err)})
	}
	return nil
}
