package fileop

import (
	"fmt"
	"os"

	mode "github.com/tonistiigi/dchapes-mode"
	"golang.org/x/sys/unix"
)

// modeChange is what a copy does to permissions: nothing, a fixed mode, or a
// symbolic change such as "u+x,go-w".
type modeChange struct {
	fixed    *uint32
	symbolic *mode.Set
}

// newModeChange reads the mode of a copy: text when it is not empty, else bits
// unless they are -1.
func newModeChange(bits int32, text string) (modeChange, error) {
	if text != "" {
		set, err := mode.ParseWithUmask(text, 0)
		if err != nil {
			return modeChange{}, fmt.Errorf("invalid mode %q: %w", text, err)
		}
		return modeChange{symbolic: &set}, nil
	}
	if bits == -1 {
		return modeChange{}, nil
	}
	fixed := uint32(bits) & 0o7777
	return modeChange{fixed: &fixed}, nil
}

// apply returns the permission bits for a file of this st_mode.
func (c modeChange) apply(m uint32) uint32 {
	switch {
	case c.symbolic != nil:
		return permissions(c.symbolic.Apply(fileMode(m)))
	case c.fixed != nil:
		return *c.fixed
	}
	return m & 0o7777
}

// parents returns the mode of directories that a copy makes on the way to its
// destination.
func (c modeChange) parents() uint32 {
	if c.fixed != nil {
		return *c.fixed & 0o777
	}
	return 0o755
}

// fileMode converts an st_mode, as far as symbolic modes look at it.
func fileMode(m uint32) os.FileMode {
	fm := os.FileMode(m & 0o777)
	if m&unix.S_IFMT == unix.S_IFDIR {
		fm |= os.ModeDir
	}
	for _, bit := range specialBits {
		if m&bit.stat != 0 {
			fm |= bit.mode
		}
	}
	return fm
}

// permissions is the inverse of fileMode, without the type.
func permissions(fm os.FileMode) uint32 {
	m := uint32(fm.Perm())
	for _, bit := range specialBits {
		if fm&bit.mode != 0 {
			m |= bit.stat
		}
	}
	return m
}

var specialBits = [...]struct {
	stat uint32
	mode os.FileMode
}{
	{unix.S_ISUID, os.ModeSetuid}, {unix.S_ISGID, os.ModeSetgid}, {unix.S_ISVTX, os.ModeSticky},
}
