// Package seccomp compiles seccomp profiles to BPF.
package seccomp

import (
	"errors"

	"golang.org/x/sys/unix"
)

var errLanding = errors.New("seccomp: being written")

// Filter is a compiled profile. It never changes, so it can be kept and used
// by many processes.
type Filter struct{ code []unix.SockFilter }

// Unconfined returns the filter that is not loaded at all.
func Unconfined() *Filter { return &Filter{} }

// Default compiles docker's default profile for a process with these
// capabilities (CAP_NAME).
func Default(capabilities []string) (*Filter, error) { return nil, errLanding }

// Load compiles a profile in docker's JSON format.
func Load(profile []byte, capabilities []string) (*Filter, error) { return nil, errLanding }
