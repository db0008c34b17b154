// Package program runs a list of system calls in a new process, the last of
// which executes another program.
//
// A step of a build needs some hundred and fifty system calls between the
// birth of its process and the user's command: it enters namespaces, attaches
// mounts, pivots, drops privileges. Running our own binary for them costs the
// start of a Go program, 20 ms. So nothing is executed for them at all. The
// parent writes the calls down beforehand, with every string and structure in
// place, and a child that shares the parent's memory makes them one by one:
//
//	goroutine (its thread)                     child
//	──────────────────────                     ─────
//	Add … Add            write the calls down
//	block all signals
//	clone(VM|VFORK|NEW…) ───────────────────▶ shares memory, own descriptors,
//	   │ suspended                            own credentials, own signals
//	   │                                       for each call:
//	   │                                         registers → arguments
//	   │                                         system call
//	   │                                         result → register
//	   │                                         failed: {index, errno} → memory
//	   │                                                 exit ─────────────┐
//	   ◀──────────────────────────────────────── execve (memory let go) ───┤
//	restore signals                                                        │
//	read {index, errno}, name the call in the error ◀──────────────────────┘
//
// It is what syscall.forkAndExecInChild does for the handful of calls that it
// knows. The rules are the same: the child runs on the parent's stack, so it
// runs nothing but one function that needs no stack growth, no allocation, no
// write barrier and no lock, and the thread that cloned it never returns from
// the frame that the child uses before the child is gone.
//
// The other threads of the parent go on meanwhile, but the parent's thread
// keeps its P: a garbage collection waits for the child. The calls must
// therefore not wait for anything that another goroutine does. Where they
// must (Options.Copy), the child gets a copy of the memory instead.
//
// # Registers
//
// A call that makes something (a descriptor) keeps its result in a register,
// and a later call takes it from there:
//
//	fs := p.Add(Call{What: "open proc", Number: unix.SYS_FSOPEN, Args: Args{p.String("proc"), Int(1)}})
//	p.Add(Call{What: "create proc", Number: unix.SYS_FSCONFIG, Args: Args{fs, Int(unix.FSCONFIG_CMD_CREATE)}})
//
// A call may name errors that do not end the program, and where to go on then.
// There are no loops: control moves forward only, so a program ends.
package program

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	maxCalls    = 60000 // they are numbered by 16 bits
	noRegister  = 65535
	maxIgnored  = 4
	chunkSize   = 8 << 10
	usualLength = 256
)

// Arg is an argument of a call: a number, an address, or a register.
type Arg struct {
	value    uintptr
	register bool
}

// Args are the arguments of a call; those that are left out are zero.
type Args [6]Arg

// Int is a number. Negative ones (AT_FDCWD) are fine.
func Int(n int) Arg { return Arg{value: uintptr(n)} }

// Call is one system call.
type Call struct {
	// What names the call in an error: a phrase such as "mount /proc".
	What string
	// Number is the system call.
	Number uintptr
	// Args are its arguments.
	Args Args
	// Ignore are the errors that do not end the program: it goes on at Else,
	// or at the next call.
	Ignore []unix.Errno
	// Else is where an ignored error leads to.
	Else *Label
	// Zero makes a result other than 0 an error (unix.EPROTO).
	Zero bool
	// NonZero is where a result other than 0 leads to: a fork's, in the parent.
	NonZero *Label
	// Report keeps the result for Child.Reported.
	Report bool
}

// Label is a place in a program: made by Program.Label, set by Program.Place.
type Label struct {
	errors, results []int // the calls that lead to it
}

// instruction is what the child reads. It holds no pointers.
type instruction struct {
	number   uintptr
	args     [6]uintptr
	ignored  [maxIgnored]uint16
	next     uint16 // where an ignored error leads to
	nonZero  uint16 // where a result other than 0 leads to
	register uint16 // of the result, or noRegister
	ignores  uint8
	from     uint8 // bit i: args[i] is the number of a register
	zero     bool
	report   bool
}

// Program is a list of system calls being written down. The zero value is an
// empty one. It is used once, and not concurrently.
type Program struct {
	code      []instruction
	what      []string
	registers uint16
	chunk     []byte
	pins      runtime.Pinner
	open      int // labels that are used and not placed yet
	err       error
}

// Len is the number of calls.
func (p *Program) Len() int { return len(p.code) }

// Add appends a call and returns the register of its result.
func (p *Program) Add(c Call) Arg {
	p.code[p.add(c)].register = p.registers
	p.registers++
	return Arg{value: uintptr(p.registers - 1), register: true}
}

// Do appends a call whose result nobody needs.
func (p *Program) Do(c Call) { p.add(c) }

func (p *Program) add(c Call) int {
	at := len(p.code)
	if at == 0 {
		p.code, p.what = make([]instruction, 0, usualLength), make([]string, 0, usualLength)
	}
	next := uint16(at + 1)
	in := instruction{number: c.Number, register: noRegister, next: next, nonZero: next, zero: c.Zero, report: c.Report}
	for i, a := range c.Args {
		in.args[i] = a.value
		if a.register {
			in.from |= 1 << i
		}
	}
	if len(c.Ignore) > maxIgnored {
		p.err = fmt.Errorf("%s: more than %d ignored errors", c.What, maxIgnored)
		c.Ignore = c.Ignore[:maxIgnored]
	}
	for i, e := range c.Ignore {
		in.ignored[i] = uint16(e)
	}
	in.ignores = uint8(len(c.Ignore))
	if c.Else != nil {
		c.Else.errors = append(c.Else.errors, at)
		p.open++
	}
	if c.NonZero != nil {
		c.NonZero.results = append(c.NonZero.results, at)
		p.open++
	}
	p.code = append(p.code, in)
	p.what = append(p.what, c.What)
	return at
}

// Place puts l before the call that is added next. Every label that calls
// refer to is placed once, after them.
func (p *Program) Place(l *Label) {
	here := uint16(len(p.code))
	for _, at := range l.errors {
		p.code[at].next = here
	}
	for _, at := range l.results {
		p.code[at].nonZero = here
	}
	p.open -= len(l.errors) + len(l.results)
	*l = Label{}
}

// String puts s, with a zero byte behind it, where the child finds it.
func (p *Program) String(s string) Arg {
	b := p.alloc(len(s)+1, 1)
	copy(b, s)
	b[len(s)] = 0
	return address(b)
}

// Bytes puts a copy of b where the child finds it.
func (p *Program) Bytes(b []byte) Arg {
	c := p.alloc(len(b), 8)
	copy(c, b)
	return address(c)
}

// Space makes zeroed memory that calls write to and later calls read from.
func (p *Program) Space(size int) Arg { return address(p.alloc(size, 8)) }

// Strings puts a list of strings as execve takes it.
func (p *Program) Strings(list []string) Arg {
	words := make([]uintptr, len(list)+1)
	for i, s := range list {
		words[i] = p.String(s).value
	}
	return p.Words(words)
}

// Words puts machine words.
func (p *Program) Words(words []uintptr) Arg {
	return p.Bytes(unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(words))), len(words)*int(unsafe.Sizeof(uintptr(0)))))
}

// Pinned makes b itself, not a copy, readable by the child: for large tables
// that many programs share. It must not be changed any more.
func (p *Program) Pinned(b *byte) Arg {
	p.pins.Pin(b)
	return Arg{value: uintptr(unsafe.Pointer(b))}
}

// Value is the number or address, to be put into a structure.
func (a Arg) Value() uintptr { return a.value }

func address(b []byte) Arg { return Arg{value: uintptr(unsafe.Pointer(unsafe.SliceData(b)))} }

// alloc takes memory from pinned chunks, so that its address is a plain number
// that may be stored anywhere.
func (p *Program) alloc(size, align int) []byte {
	if pad := -len(p.chunk) & (align - 1); pad > 0 && pad <= cap(p.chunk)-len(p.chunk) {
		p.chunk = p.chunk[:len(p.chunk)+pad]
	}
	if size > cap(p.chunk)-len(p.chunk) || len(p.chunk)&(align-1) != 0 {
		// A chunk of words is aligned; one of bytes need not be.
		words := make([]uint64, (max(size, chunkSize)+7)/8)
		p.pins.Pin(&words[0])
		p.chunk = unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), len(words)*8)[:0]
	}
	n := len(p.chunk)
	p.chunk = p.chunk[:n+size]
	return p.chunk[n : n+size : n+size]
}

// Release lets go of the memory, once the child has executed or is gone.
func (p *Program) Release() { p.pins.Unpin() }

// check refuses what the child could not survive.
func (p *Program) check() error {
	switch {
	case p.err != nil:
		return p.err
	case len(p.code) == 0 || len(p.code) > maxCalls:
		return fmt.Errorf("program has %d calls; it may have 1 to %d", len(p.code), maxCalls)
	case p.open != 0:
		return fmt.Errorf("program has %d jumps to labels that were not placed", p.open)
	}
	return nil
}

// Error is a call that failed in the child.
type Error struct {
	// Index is the position of the call, What its name.
	Index int
	What  string
	// Errno is the system's error.
	Errno unix.Errno
}

func (e *Error) Error() string { return e.What + ": " + e.Errno.Error() }

// Unwrap returns the errno.
func (e *Error) Unwrap() error { return e.Errno }
