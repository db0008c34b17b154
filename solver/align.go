package solver

// near is how far from each other, in steps left over, two steps may stand to
// be compared by name. It keeps the comparison of very large builds linear.
const near = 32

// alignment pairs the steps of two builds. Positions alone would do until a
// step is put in or taken out, digests alone until one is changed; so steps
// are paired by what proves most first, and by less what is left over.
type alignment struct {
	prev, cur []buildStep
	match     []int // of each step in cur, the one in prev, or none
	taken     []bool
}

const none = -1

// align pairs each step of cur with the step of prev that it was.
func align(prev, cur []buildStep) *alignment {
	a := &alignment{prev: prev, cur: cur, match: make([]int, len(cur)), taken: make([]bool, len(prev))}
	for i := range a.match {
		a.match[i] = none
	}
	a.byKey(func(s *buildStep) string { return string(s.Definition) })
	a.byKey(func(s *buildStep) string { return string(s.Op) })
	a.byKey(func(s *buildStep) string { return s.Kind + "\x00" + s.Name })
	a.bySimilarity()
	a.byPlace()
	return a
}

func (a *alignment) pair(cur, prev int) {
	a.match[cur] = prev
	a.taken[prev] = true
}

// byKey pairs steps of which something is equal, in their order.
func (a *alignment) byKey(key func(*buildStep) string) {
	left := map[string][]int{}
	for i := range a.prev {
		if !a.taken[i] {
			k := key(&a.prev[i])
			left[k] = append(left[k], i)
		}
	}
	for i := range a.cur {
		if a.match[i] != none {
			continue
		}
		k := key(&a.cur[i])
		if candidates := left[k]; len(candidates) > 0 {
			a.pair(i, candidates[0])
			left[k] = candidates[1:]
		}
	}
}

// bySimilarity pairs steps of a kind whose names have at least half in common:
// a command that was edited.
func (a *alignment) bySimilarity() {
	var left []int
	for i := range a.prev {
		if !a.taken[i] {
			left = append(left, i)
		}
	}
	for i := range a.cur {
		if a.match[i] != none {
			continue
		}
		best, at := 0.5, none
		for j, candidate := range left[:min(near, len(left))] {
			if a.prev[candidate].Kind != a.cur[i].Kind {
				continue
			}
			if s := similarity(a.prev[candidate].Name, a.cur[i].Name); s > best {
				best, at = s, j
			}
		}
		if at != none {
			a.pair(i, left[at])
			left = append(left[:at:at], left[at+1:]...)
		}
	}
}

// byPlace pairs steps of a kind that are the same input of steps that are
// paired, and the two targets: a command that was replaced.
func (a *alignment) byPlace() {
	a.tryPair(len(a.cur)-1, len(a.prev)-1)
	for i := len(a.cur) - 1; i >= 0; i-- {
		if a.match[i] == none {
			continue
		}
		before := a.prev[a.match[i]].Inputs
		for k, in := range a.cur[i].Inputs {
			if k < len(before) {
				a.tryPair(in, before[k])
			}
		}
	}
}

func (a *alignment) tryPair(cur, prev int) {
	if cur < 0 || prev < 0 || a.match[cur] != none || a.taken[prev] {
		return
	}
	if a.cur[cur].Kind == a.prev[prev].Kind {
		a.pair(cur, prev)
	}
}

// removed returns the names of the steps of prev that cur does not have.
func (a *alignment) removed() (names []string) {
	for i, taken := range a.taken {
		if !taken {
			names = append(names, a.prev[i].Name)
		}
	}
	return names
}

// similarity tells how much of two names is the same at both ends, from 0 to 1.
func similarity(a, b string) float64 {
	shorter, longer := min(len(a), len(b)), max(len(a), len(b))
	head := 0
	for head < shorter && a[head] == b[head] {
		head++
	}
	tail := 0
	for tail < shorter-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	return float64(head+tail) / float64(max(longer, 1))
}
