package solver

import "container/heap"

// queue holds the vertices that wait for a job slot. The one with the longest
// path to a target comes first, as the build cannot end before that path does;
// among equals, the one that stands first in the graph.
type queue []*node

func (q *queue) push(n *node) { heap.Push((*nodeHeap)(q), n) }

func (q *queue) pop() *node { return heap.Pop((*nodeHeap)(q)).(*node) }

// reorder restores the order after priorities changed.
func (q *queue) reorder() { heap.Init((*nodeHeap)(q)) }

// nodeHeap keeps the methods of container/heap away from queue's own.
type nodeHeap []*node

func (h nodeHeap) Len() int { return len(h) }

func (h nodeHeap) Less(i, j int) bool {
	if h[i].priority != h[j].priority {
		return h[i].priority > h[j].priority
	}
	return h[i].v.index < h[j].v.index
}

func (h nodeHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Push is container/heap's.
func (h *nodeHeap) Push(x any) { *h = append(*h, x.(*node)) }

// Pop is container/heap's.
func (h *nodeHeap) Pop() any {
	last := len(*h) - 1
	n := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return n
}
