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
	maxShortJump    = 255
)

// span is a range of numbers, up to the next span's first, that is treated
// alike: an action, or the rules of a single call.
type span struct {
	first  uint32
	action uint32
	rules  []rule
}

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func ret(action uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
}

func jump(distance int) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: uint32(distance)}
}

func compare(op uint16, k uint32, yes, no uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_K | op, K: k, Jt: yes, Jf: no}
}

// assemble makes the whole program.
func assemble(abis []*abi) ([]unix.SockFilter, error) {
	code := []unix.SockFilter{load(offsetArch)}
	for _, a := range abis {
		tree, err := searchTree(a.spans(), a.fallback)
		if err != nil {
			return nil, err
		}
		// Where the architecture is another one, all of this is left out.
		code = append(code, compare(unix.BPF_JEQ, a.audit, 1, 0), jump(len(tree)+1), load(offsetNumber))
		code = append(code, tree...)
	}
	code = append(code, ret(unix.SECCOMP_RET_KILL_PROCESS))
	if len(code) > maxInstructions {
		return nil, fmt.Errorf("seccomp profile makes %d instructions; the kernel takes %d", len(code), maxInstructions)
	}
	return code, nil
}

// spans covers all numbers, sorted, without two equal neighbours.
func (a *abi) spans() []span {
	bounds := map[uint32]span{0: {action: a.fallback}}
	numbers := slices.Sorted(maps.Keys(a.rules))
	for i, nr := range numbers {
		if next := nr + 1; i+1 == len(numbers) || numbers[i+1] != next {
			bounds[next] = span{first: next, action: a.between(numbers, i)}
		}
		bounds[nr] = spanOf(nr, a.rules[nr])
	}
	if a.x32 {
		if _, ok := bounds[x32Bit]; !ok {
			bounds[x32Bit] = span{first: x32Bit, action: a.fallback}
		}
	}
	list := slices.SortedFunc(maps.Values(bounds), func(a, b span) int { return cmp.Compare(a.first, b.first) })
	return slices.CompactFunc(list, func(a, b span) bool {
		return len(a.rules) == 0 && len(b.rules) == 0 && a.action == b.action
	})
}

// between is what happens to the numbers after numbers[i] that have no rules:
// the profile's default, or ENOSYS after the last number of an ABI.
func (a *abi) between(numbers []uint32, i int) uint32 {
	last := i+1 == len(numbers) || numbers[i]&x32Bit != numbers[i+1]&x32Bit
	if last && a.fallback != unix.SECCOMP_RET_ALLOW {
		return unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	}
	return a.fallback
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

// searchTree emits the comparisons that find the span of the loaded number.
func searchTree(list []span, fallback uint32) ([]unix.SockFilter, error) {
	if len(list) == 1 {
		return leaf(list[0], fallback)
	}
	middle := len(list) / 2
	low, err := searchTree(list[:middle], fallback)
	if err != nil {
		return nil, err
	}
	high, err := searchTree(list[middle:], fallback)
	if err != nil {
		return nil, err
	}
	first := list[middle].first
	if len(low) <= maxShortJump {
		return slices.Concat([]unix.SockFilter{compare(unix.BPF_JGE, first, uint8(len(low)), 0)}, low, high), nil
	}
	return slices.Concat([]unix.SockFilter{compare(unix.BPF_JGE, first, 0, 1), jump(len(low))}, low, high), nil
}

// leaf ends the search: it always returns.
func leaf(s span, fallback uint32) ([]unix.SockFilter, error) {
	if len(s.rules) == 0 {
		return []unix.SockFilter{ret(s.action)}, nil
	}
	var code []unix.SockFilter
	for _, r := range s.rules {
		part := []unix.SockFilter{ret(r.action)}
		// From the last condition to the first: each knows how far it is to
		// the end of the rule, where it goes if it does not hold.
		for _, c := range slices.Backward(r.conditions) {
			test, err := condition(c, len(part))
			if err != nil {
				return nil, err
			}
			part = append(test, part...)
		}
		code = append(code, part...)
	}
	return append(code, ret(fallback)), nil
}

// condition tests one argument and goes on behind itself if it holds, else
// skips the rest of the rule. An argument has 64 bits, the machine 32: the
// upper half is compared first.
func condition(c specs.LinuxSeccompArg, rest int) ([]unix.SockFilter, error) {
	if c.Index > 5 {
		return nil, fmt.Errorf("seccomp profile has a condition on argument %d; there are 0 to 5", c.Index)
	}
	offset := uint32(offsetArgs + 8*c.Index)
	hi, lo := uint32(c.Value>>32), uint32(c.Value)
	var code []unix.SockFilter
	switch c.Op {
	case specs.OpEqualTo:
		code = equal(offset, c.Value, ^uint64(0))
	case specs.OpMaskedEqual:
		code = equal(offset, c.ValueTwo, c.Value)
	case specs.OpNotEqual:
		// The last jump is inverted: equal low halves fail.
		code = []unix.SockFilter{
			load(offset + 4), compare(unix.BPF_JEQ, hi, 0, 2),
			load(offset), compare(unix.BPF_JEQ, lo, fails, 0),
		}
	case specs.OpGreaterThan, specs.OpLessEqual:
		code = greater(unix.BPF_JGT, offset, hi, lo)
	case specs.OpGreaterEqual, specs.OpLessThan:
		code = greater(unix.BPF_JGE, offset, hi, lo)
	default:
		return nil, fmt.Errorf("seccomp profile has the operator %q, which is not supported", c.Op)
	}
	if c.Op == specs.OpLessEqual || c.Op == specs.OpLessThan {
		invert(code)
	}
	return resolve(code, rest)
}

// fails and holds stand for the two ends of a condition until resolve.
const (
	fails = 255
	holds = 254
)

func equal(offset uint32, value, mask uint64) []unix.SockFilter {
	code := half(offset+4, uint32(value>>32), uint32(mask>>32))
	return append(code, half(offset, uint32(value), uint32(mask))...)
}

func half(offset, value, mask uint32) []unix.SockFilter {
	code := []unix.SockFilter{load(offset)}
	if mask != ^uint32(0) {
		code = append(code, unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: mask})
	}
	return append(code, compare(unix.BPF_JEQ, value, 0, fails))
}

// greater: the upper half is greater, or it is equal and the lower half is
// greater (or equal, with JGE).
func greater(op uint16, offset, hi, lo uint32) []unix.SockFilter {
	return []unix.SockFilter{
		load(offset + 4), compare(unix.BPF_JGT, hi, holds, 0), compare(unix.BPF_JEQ, hi, 0, fails),
		load(offset), compare(op, lo, holds, fails),
	}
}

// invert makes a condition of greater its opposite.
func invert(code []unix.SockFilter) {
	swap := map[uint8]uint8{fails: holds, holds: fails}
	for i := range code {
		for _, j := range []*uint8{&code[i].Jt, &code[i].Jf} {
			if to, ok := swap[*j]; ok {
				*j = to
			}
		}
	}
}

// resolve turns fails and holds into distances.
func resolve(code []unix.SockFilter, rest int) ([]unix.SockFilter, error) {
	for i := range code {
		if code[i].Code&7 != unix.BPF_JMP {
			continue
		}
		end := len(code) - 1 - i
		if end+rest >= holds {
			return nil, fmt.Errorf("seccomp profile has a rule with too many conditions")
		}
		for _, j := range []*uint8{&code[i].Jt, &code[i].Jf} {
			switch *j {
			case fails:
				*j = uint8(end + rest)
			case holds:
				*j = uint8(end)
			}
		}
	}
	return code, nil
}
