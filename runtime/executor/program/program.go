// Package program runs a list of system calls in a new process.
package program
