package seccomp

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Offsets in struct seccomp_data.
const (
	offsetNumber = 0
	offsetArch   = 4
	offsetArgs   = 16
)

const (
	maxInstructions = 4096 // BPF_MAXINSNS
	// farthest is how far a comparison jumps; the format has room for 255,
	// some of which is left for what comes between.
	farthest = 240
)

// span is a range of numbers, up to the next span's first, that is treated
// alike: an action, or the rules of a single call.
type span struct {
	first  uint32
	action uint32
	rules  []rule
}

// assembler writes a program from its end to its beginning. Jumps lead forward
// only, so that whatever a jump leads to is there already, and equal ends can
// be shared. Places are counted from the end.
type assembler struct {
	reversed []unix.SockFilter
	returns  map[uint32]int // the nearest return of an action
}

// emit puts an instruction before all others and returns its place.
func (a *assembler) emit(in unix.SockFilter) int {
	a.reversed = append(a.reversed, in)
	return len(a.reversed) - 1
}

// distance is how many instructions the next one skips to get to a place.
func (a *assembler) distance(to int) int { return len(a.reversed) - to - 1 }

func (a *assembler) ret(action uint32) int {
	if at, ok := a.returns[action]; ok && a.distance(at) < farthest {
		return at
	}
	at := a.emit(unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action})
	a.returns[action] = at
	return at
}

func (a *assembler) jump(to int) int {
	return a.emit(unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: uint32(a.distance(to))})
}

// near is a place that the next instructions can jump to, and that leads to.
func (a *assembler) near(to int) int {
	if a.distance(to) < farthest {
		return to
	}
	return a.jump(to)
}

func (a *assembler) compare(op uint16, k uint32, yes, no int) int {
	yes, no = a.near(yes), a.near(no)
	return a.emit(unix.SockFilter{
		Code: unix.BPF_JMP | unix.BPF_K | op, K: k, Jt: uint8(a.distance(yes)), Jf: uint8(a.distance(no)),
	})
}

// before emits an instruction that goes on at a place.
func (a *assembler) before(next int, in unix.SockFilter) int {
	if a.distance(next) != 0 {
		a.jump(next)
	}
	return a.emit(in)
}

func (a *assembler) load(offset uint32, next int) int {
	return a.before(next, unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset})
}

// assemble makes the whole program.
func assemble(abis []*abi) ([]unix.SockFilter, error) {
	a := &assembler{returns: map[uint32]int{}}
	next := a.ret(unix.SECCOMP_RET_KILL_PROCESS)
	for _, b := range slices.Backward(abis) {
		tree, err := a.search(b.spans(), b.fallback)
		if err != nil {
			return nil, err
		}
		next = a.compare(unix.BPF_JEQ, b.audit, a.load(offsetNumber, tree), next)
	}
	a.load(offsetArch, next)
	if len(a.reversed) > maxInstructions {
		return nil, fmt.Errorf("seccomp profile makes %d instructions; the kernel takes %d", len(a.reversed), maxInstructions)
	}
	slices.Reverse(a.reversed)
	return a.reversed, nil
}

// spans covers all numbers, sorted, without two equal neighbours.
func (a *abi) spans() []span {
	bounds := map[uint32]span{0: {action: a.fallback}}
	numbers := slices.Sorted(maps.Keys(a.rules))
	for _, nr := range numbers {
		bounds[nr] = spanOf(nr, a.rules[nr])
	}
	for i, nr := range numbers {
		switch next := nr + 1; {
		case i+1 == len(numbers):
			bounds[next] = span{first: next, action: a.beyond()}
		case numbers[i+1] != next:
			bounds[next] = span{first: next, action: a.fallback}
		}
	}
	if a.audit == unix.AUDIT_ARCH_X86_64 {
		bounds[x32Bit] = span{first: x32Bit, action: noSuchCall}
	}
	list := slices.SortedFunc(maps.Values(bounds), func(a, b span) int { return cmp.Compare(a.first, b.first) })
	return slices.CompactFunc(list, func(a, b span) bool {
		return len(a.rules) == 0 && len(b.rules) == 0 && a.action == b.action
	})
}

const noSuchCall = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)

// beyond is what happens to the calls that are newer than the profile.
func (a *abi) beyond() uint32 {
	if a.fallback == unix.SECCOMP_RET_ALLOW {
		return a.fallback
	}
	return noSuchCall
}

// spanOf is the span of one call. A rule without conditions decides it.
func spanOf(nr uint32, rules []rule) span {
	for _, r := range rules {
		if len(r.conditions) == 0 {
			return span{first: nr, action: r.action}
		}
	}
	return span{first: nr, rules: rules}
}

// search emits the comparisons that find the span of the loaded number.
func (a *assembler) search(list []span, fallback uint32) (int, error) {
	if len(list) == 1 {
		return a.leaf(list[0], fallback)
	}
	middle := len(list) / 2
	high, err := a.search(list[middle:], fallback)
	if err != nil {
		return 0, err
	}
	low, err := a.search(list[:middle], fallback)
	if err != nil {
		return 0, err
	}
	return a.compare(unix.BPF_JGE, list[middle].first, high, low), nil
}

// leaf ends the search: it always returns.
func (a *assembler) leaf(s span, fallback uint32) (int, error) {
	if len(s.rules) == 0 {
		return a.ret(s.action), nil
	}
	if index, low, ok := oneArgument(s.rules, fallback); ok {
		return a.argument(index, low, decide(s.rules, 1<<32, fallback))
	}
	next := a.ret(fallback)
	for _, r := range slices.Backward(s.rules) {
		here := a.ret(r.action)
		for _, c := range slices.Backward(r.conditions) {
			var err error
			if here, err = a.condition(c, here, next); err != nil {
				return 0, err
			}
		}
		next = here
	}
	return next, nil
}

// condition tests one argument. An argument has 64 bits, the machine 32: the
// upper half is compared first.
func (a *assembler) condition(c specs.LinuxSeccompArg, yes, no int) (int, error) {
	if c.Index > 5 {
		return 0, fmt.Errorf("seccomp profile has a condition on argument %d; there are 0 to 5", c.Index)
	}
	offset := uint32(offsetArgs + 8*c.Index)
	switch c.Op {
	case specs.OpEqualTo:
		return a.equal(offset, c.Value, ^uint64(0), yes, no), nil
	case specs.OpNotEqual:
		return a.equal(offset, c.Value, ^uint64(0), no, yes), nil
	case specs.OpMaskedEqual:
		return a.equal(offset, c.ValueTwo, c.Value, yes, no), nil
	case specs.OpGreaterThan:
		return a.greater(unix.BPF_JGT, offset, c.Value, yes, no), nil
	case specs.OpGreaterEqual:
		return a.greater(unix.BPF_JGE, offset, c.Value, yes, no), nil
	case specs.OpLessEqual:
		return a.greater(unix.BPF_JGT, offset, c.Value, no, yes), nil
	case specs.OpLessThan:
		return a.greater(unix.BPF_JGE, offset, c.Value, no, yes), nil
	}
	return 0, fmt.Errorf("seccomp profile has the operator %q, which is not supported", c.Op)
}

func (a *assembler) equal(offset uint32, value, mask uint64, yes, no int) int {
	low := a.half(offset, uint32(value), uint32(mask), yes, no)
	return a.half(offset+4, uint32(value>>32), uint32(mask>>32), low, no)
}

func (a *assembler) half(offset, value, mask uint32, yes, no int) int {
	here := a.compare(unix.BPF_JEQ, value, yes, no)
	if mask != ^uint32(0) {
		here = a.before(here, unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: mask})
	}
	return a.load(offset, here)
}

// greater: the upper half is greater, or it is equal and the lower half is
// greater (or equal, with JGE).
func (a *assembler) greater(op uint16, offset uint32, value uint64, yes, no int) int {
	low := a.load(offset, a.compare(op, uint32(value), yes, no))
	equal := a.compare(unix.BPF_JEQ, uint32(value>>32), low, no)
	return a.load(offset+4, a.compare(unix.BPF_JGT, uint32(value>>32), yes, equal))
}

// oneArgument is for a call whose rules all compare the same argument with
// small numbers: docker's profile lists thirty address families for socket,
// one rule for each. It returns the spans to search the lower half in.
func oneArgument(rules []rule, fallback uint32) (index uint, low []span, ok bool) {
	bounds := []uint64{0}
	for i, r := range rules {
		if len(r.conditions) != 1 {
			return 0, nil, false
		}
		c := r.conditions[0]
		if i > 0 && c.Index != index || c.Index > 5 || !ordered(c.Op) || c.Value >= 1<<32 {
			return 0, nil, false
		}
		index = c.Index
		// What holds changes at the value and behind it, nowhere else.
		bounds = append(bounds, c.Value, c.Value+1)
	}
	slices.Sort(bounds)
	for _, b := range slices.Compact(bounds) {
		if b == 1<<32 {
			break // the upper half tells
		}
		act := decide(rules, b, fallback)
		if len(low) == 0 || low[len(low)-1].action != act {
			low = append(low, span{first: uint32(b), action: act})
		}
	}
	return index, low, true
}

// argument searches an argument's lower half, if the upper one is zero.
func (a *assembler) argument(index uint, low []span, beyond uint32) (int, error) {
	offset := uint32(offsetArgs + 8*index)
	large := a.ret(beyond)
	tree, err := a.search(low, beyond)
	if err != nil {
		return 0, err
	}
	return a.load(offset+4, a.compare(unix.BPF_JEQ, 0, a.load(offset, tree), large)), nil
}

// ordered tells whether an operator compares by size.
func ordered(op specs.LinuxSeccompOperator) bool {
	switch op {
	case specs.OpEqualTo, specs.OpNotEqual, specs.OpGreaterThan, specs.OpGreaterEqual, specs.OpLessThan, specs.OpLessEqual:
		return true
	}
	return false
}

// decide is the first rule's action that holds for a value.
func decide(rules []rule, value uint64, fallback uint32) uint32 {
	for _, r := range rules {
		if holdsFor(r.conditions[0], value) {
			return r.action
		}
	}
	return fallback
}

func holdsFor(c specs.LinuxSeccompArg, value uint64) bool {
	switch c.Op {
	case specs.OpEqualTo:
		return value == c.Value
	case specs.OpNotEqual:
		return value != c.Value
	case specs.OpGreaterThan:
		return value > c.Value
	case specs.OpGreaterEqual:
		return value >= c.Value
	case specs.OpLessThan:
		return value < c.Value
	default:
		return value <= c.Value
	}
}
