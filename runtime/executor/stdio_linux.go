package executor

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// stdio is what a child's standard files are connected to.
//
//	Stdin  io.Reader ─ goroutine ─▶ pipe ─▶ 0      *os.File ─▶ 0
//	Stdout io.Writer ◀─ goroutine ─ pipe ◀─ 1      *os.File ◀─ 1
//
// or, with a terminal, 0, 1 and 2 are its slave, and the goroutines use its
// master.
type stdio struct {
	child  [3]*os.File
	own    []*os.File // ends of the child's that were opened here
	master *os.File
	tty    bool
	user   uint32 // who may open the pipes again, through /dev/stdout

	mu    sync.Mutex
	input *os.File // our end of the child's standard input
	from  io.Reader
	pumps []*pump
}

func newStdio(cmd *Command, null *os.File) (*stdio, error) {
	s := &stdio{user: cmd.User.UID}
	if err := s.connect(cmd, null); err != nil {
		s.abort()
		return nil, err
	}
	return s, nil
}

func (s *stdio) connect(cmd *Command, null *os.File) error {
	var err error
	if s.child[0], err = s.reader(cmd.Stdin, null); err != nil {
		return err
	}
	if s.child[1], err = s.writer(cmd.Stdout, null); err != nil {
		return err
	}
	if same(cmd.Stdout, cmd.Stderr) {
		s.child[2] = s.child[1]
		return nil
	}
	s.child[2], err = s.writer(cmd.Stderr, null)
	return err
}

// same tells whether both are the same writer. Some cannot be compared.
func same(a, b io.Writer) (equal bool) {
	defer func() {
		if recover() != nil {
			equal = false
		}
	}()
	return a != nil && a == b
}

func (s *stdio) reader(r io.Reader, null *os.File) (*os.File, error) {
	if r == nil {
		return null, nil
	}
	if f, ok := r.(*os.File); ok {
		return f, nil
	}
	p, err := s.pipe()
	if err != nil {
		return nil, err
	}
	s.own = append(s.own, p.read)
	s.from = r
	s.input, err = nonblocking(p.write)
	return p.read, err
}

func (s *stdio) writer(w io.Writer, null *os.File) (*os.File, error) {
	if w == nil {
		return null, nil
	}
	if f, ok := w.(*os.File); ok {
		return f, nil
	}
	p, err := s.pipe()
	if err != nil {
		return nil, err
	}
	s.own = append(s.own, p.write)
	ours, err := nonblocking(p.read)
	if err != nil {
		return nil, err
	}
	s.pumps = append(s.pumps, &pump{r: ours, w: w, done: make(chan error, 1)})
	return p.write, nil
}

type pipe struct{ read, write *os.File }

// pipe makes a pipe that the child's user may open again by name.
func (s *stdio) pipe() (pipe, error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], cloexec); err != nil {
		return pipe{}, fmt.Errorf("create pipe: %w", err)
	}
	p := pipe{os.NewFile(uintptr(fds[0]), "pipe"), os.NewFile(uintptr(fds[1]), "pipe")}
	if s.user != 0 {
		// Not possible where the user has another name here (SingleID); then
		// the single ID owns it, which is the same user.
		if err := unix.Fchown(fds[0], int(s.user), -1); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EPERM) {
			return pipe{}, errors.Join(fmt.Errorf("chown pipe: %w", err), p.read.Close(), p.write.Close())
		}
	}
	return p, nil
}

// nonblocking returns f as a file that Go's poller watches, so that reading
// takes no thread and can be interrupted. The other end of a pipe, and the
// child with it, is not affected.
func nonblocking(f *os.File) (*os.File, error) {
	dup, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err == nil {
		err = unix.SetNonblock(dup, true)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("set up pipe: %w", err)
	}
	return os.NewFile(uintptr(dup), f.Name()), nil
}

// started is called once the child has its files: ours begin to move.
func (s *stdio) started() {
	closeAll(s.own)
	s.own = nil
	for _, p := range s.pumps {
		go p.run()
	}
	if s.input != nil {
		go s.feed(s.input)
	}
}

// feed copies the input. When the child has ended, it may still be waiting for
// the reader: nobody waits for it.
func (s *stdio) feed(w *os.File) {
	// Neither the reader's error nor that the child does not read (EPIPE) is
	// an error of the command.
	_, _ = io.Copy(onlyWriter{w}, s.from)
	if !s.tty {
		s.closeInput()
	}
}

// onlyWriter hides ReadFrom: it would splice, with the source in blocking mode.
type onlyWriter struct{ io.Writer }

func (s *stdio) closeInput() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.input != nil && !s.tty {
		_ = s.input.Close()
		s.input = nil
	}
}

// finish is called when the child has ended. It returns when everything that
// it wrote has been written on.
func (s *stdio) finish() error {
	s.closeInput()
	var errs []error
	for _, p := range s.pumps {
		errs = append(errs, p.finish())
	}
	if s.master != nil {
		errs = append(errs, s.master.Close())
	}
	return errors.Join(errs...)
}

// abort is called instead of started.
func (s *stdio) abort() {
	closeAll(s.own)
	closeAll([]*os.File{s.input, s.master})
	for _, p := range s.pumps {
		if p.r != s.master {
			closeAll([]*os.File{p.r})
		}
	}
}

// pump copies what the child writes.
type pump struct {
	r    *os.File
	w    io.Writer
	done chan error
	// borrowed: r is closed by somebody else.
	borrowed bool
}

func (p *pump) run() {
	buf := make([]byte, 64<<10)
	for {
		n, err := p.r.Read(buf)
		if n > 0 {
			if _, err := p.w.Write(buf[:n]); err != nil {
				p.end(fmt.Errorf("write output of the command: %w", err))
				return
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded):
			p.end(p.drain(buf))
			return
		case errors.Is(err, io.EOF), errors.Is(err, unix.EIO):
			// EIO is how a terminal says that nobody has it open.
			p.end(nil)
			return
		default:
			p.end(fmt.Errorf("read output of the command: %w", err))
			return
		}
	}
}

// end closes the pipe at once if the output can go nowhere: then the command
// gets EPIPE instead of waiting for ever.
func (p *pump) end(err error) {
	if !p.borrowed {
		_ = p.r.Close()
	}
	p.done <- err
}

// finish interrupts the pump: the child has ended, and what it wrote lies in
// the pipe. Waiting for the pipe's end instead would mean to wait for whoever
// the child gave it to.
func (p *pump) finish() error {
	// It fails if the pump has ended and closed it.
	_ = p.r.SetReadDeadline(time.Unix(1, 0))
	return <-p.done
}

// drain reads what lies in the pipe.
func (p *pump) drain(buf []byte) error {
	conn, err := p.r.SyscallConn()
	if err != nil {
		return fmt.Errorf("read output of the command: %w", err)
	}
	var failed error
	err = conn.Control(func(fd uintptr) {
		for {
			n, err := unix.Read(int(fd), buf)
			if err == unix.EINTR {
				continue
			}
			if n <= 0 || err != nil {
				return // EAGAIN: it is empty
			}
			if _, failed = p.w.Write(buf[:n]); failed != nil {
				return
			}
		}
	})
	if err := errors.Join(err, failed); err != nil {
		return fmt.Errorf("write output of the command: %w", err)
	}
	return nil
}
