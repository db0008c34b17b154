package program

import _ "unsafe" // for linkname

// The runtime keeps these two for programs that fork by themselves, see
// go.dev/issue/67401. beforeFork blocks all signals of the thread, so that no
// Go handler runs in the child (who sets its own mask), and makes any growth
// of the stack a crash; afterFork undoes both.

//go:linkname beforeFork syscall.runtime_BeforeFork
func beforeFork()

//go:linkname afterFork syscall.runtime_AfterFork
func afterFork()
