// Package faulttest breaks things around the real program, and wants either
// the right result or a clear error: builds that are killed at any moment,
// that share a store with others, that run out of space, whose registry hangs
// up or lies, that are interrupted, and whose description is wrong.
//
// Each test compiles nothing of its own: the program is compiled once for the
// test binary, and runs as a user runs it, in a control group of the test's
// own, which tells afterwards what it left behind.
package faulttest
