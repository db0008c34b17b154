package inventory

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/internal/bounded"
	"github.com/strata-build/strata/runtime/rootfs"
)

// readerName is the name, as the first argument, under which this program is
// the process that reads a tree for ReadApart.
const readerName = "strata-inventory"

// Descriptors of that process.
const (
	rootFD    = 3 // the tree
	answersFD = 4 // where messages go
)

// Bounds of that process. A Go program reserves far more addresses than it
// uses, so that only what is writable counts.
const (
	maxMemory     = 4 << 30
	maxCPUSeconds = 1800
)

// message is what the process says: first what it is about to do, so that its
// end can be blamed on something, and last the result.
type message struct {
	Doing  string     `json:",omitempty"`
	Result *Inventory `json:",omitempty"`
	Error  string     `json:",omitempty"`
}

// ReadApart is Read in a process of its own, so that a file which makes a
// parser crash, or use all memory, is an error. The program must call ReadMain.
//
//	strata ──▶ strata-inventory (3: the tree, 4: messages)
//	       ◀── doing: read package database /var/lib/rpm/rpmdb.sqlite
//	       ◀── result, or error
func ReadApart(ctx context.Context, root *rootfs.Root) (inv Inventory, err error) {
	// What SQLite reads has to be a file: the library makes a copy here.
	tmp, err := os.MkdirTemp("", "strata-inventory-")
	if err != nil {
		return inv, fmt.Errorf("make temporary directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	answers, w, err := os.Pipe()
	if err != nil {
		return inv, fmt.Errorf("make pipe: %w", err)
	}
	defer answers.Close()
	complaint := bounded.Head{Max: maxComplaint}
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args = []string{readerName}
	cmd.Env = []string{"TMPDIR=" + tmp, "GOTRACEBACK=none"}
	cmd.ExtraFiles = []*os.File{root.File(), w}
	cmd.Stderr = &complaint
	err = cmd.Start()
	w.Close()
	if err != nil {
		return inv, fmt.Errorf("start reader of packages: %w", err)
	}
	last, err := receive(answers)
	if ended := cmd.Wait(); ended != nil && last.Result == nil && last.Error == "" {
		err = fmt.Errorf("the parser ended with %w: %s", ended, firstLine(complaint.String()))
	}
	return last.outcome(ctx, err)
}

// receive reads messages to the end of the stream; the result keeps what was done
// last.
func receive(r io.Reader) (last message, err error) {
	in := json.NewDecoder(bufio.NewReader(r))
	last.Doing = "look for packages"
	for {
		var m message
		err := in.Decode(&m)
		if errors.Is(err, io.EOF) {
			return last, nil
		}
		if err != nil {
			return last, fmt.Errorf("read answer: %w", err)
		}
		if m.Doing == "" {
			m.Doing = last.Doing
		}
		last = m
	}
}

// outcome is what the messages and the end of the process amount to.
func (m message) outcome(ctx context.Context, err error) (Inventory, error) {
	switch {
	case ctx.Err() != nil:
		return Inventory{}, ctx.Err()
	case m.Error != "":
		return Inventory{}, errors.New(m.Error)
	case err == nil && m.Result == nil:
		err = errors.New("the parser ended without an answer")
	}
	if err != nil {
		return Inventory{}, fmt.Errorf("%s: %w", m.Doing, err)
	}
	return *m.Result, nil
}

// ReadMain is the process that reads a tree. main must call it before
// anything else: it returns at once unless this process was started as such,
// and otherwise never.
func ReadMain() {
	if len(os.Args) != 1 || os.Args[0] != readerName {
		return
	}
	log.SetOutput(io.Discard) // where the library tells of each file
	if err := answer(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func answer() error {
	if err := confine(); err != nil {
		return err
	}
	tree := os.NewFile(rootFD, "tree")
	root, err := rootfs.Open(tree)
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.NewFile(answersFD, "answers"))
	var told error
	inv, err := read(context.Background(), root, func(doing string) {
		told = errors.Join(told, out.Encode(message{Doing: doing}))
	})
	if err != nil {
		return errors.Join(told, out.Encode(message{Error: err.Error()}))
	}
	return errors.Join(told, out.Encode(message{Result: &inv}))
}

// confine takes from the process what it does not need.
func confine() error {
	limits := map[int]uint64{unix.RLIMIT_DATA: maxMemory, unix.RLIMIT_CPU: maxCPUSeconds, unix.RLIMIT_CORE: 0}
	for resource, value := range limits {
		var have unix.Rlimit
		err := unix.Getrlimit(resource, &have)
		if value = min(value, have.Max); err == nil { // raising it would take a privilege
			err = unix.Setrlimit(resource, &unix.Rlimit{Cur: value, Max: value})
		}
		if err != nil {
			return fmt.Errorf("limit reader of packages: %w", err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("limit reader of packages: %w", err)
	}
	return nil
}

// maxComplaint bounds what is kept of what a crashing process writes.
const maxComplaint = 4096

func firstLine(text string) string {
	first, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return first
}
