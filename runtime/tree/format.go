package tree

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// OverrideXattr holds an Override.
const OverrideXattr = "user.strata.stat"

// ErrOverride says that the value of an OverrideXattr cannot be read.
var ErrOverride = errors.New("damaged " + OverrideXattr + " attribute")

// Format says how a layer directory is written.
type Format struct {
	// UserXattr keeps overlayfs' own marks in user.overlay.* (rootless)
	// instead of trusted.overlay.*.
	UserXattr bool
	// SingleID is set when only one user id is mapped: owners are recorded as
	// overrides.
	SingleID bool
}

// Overrides reports whether the layer may have overrides, which is so wherever
// a user namespace keeps us from making devices. Elsewhere the attribute means
// nothing: a build step may have made it.
func (f Format) Overrides() bool { return f.UserXattr || f.SingleID }

// OpaqueXattr is the name of the mark of an opaque directory; its value is
// [Opaque].
func (f Format) OpaqueXattr() string {
	if f.UserXattr {
		return "user.overlay.opaque"
	}
	return "trusted.overlay.opaque"
}

// Opaque is the value of the mark of an opaque directory.
const Opaque = "y"

// IsWhiteout reports whether a file of a layer directory is a whiteout.
func IsWhiteout(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

// private are the extended attributes that never leave a layer or tree: the
// marks of overlayfs, and labels that belong to this host's policy.
func private(attr string) bool {
	return strings.HasPrefix(attr, "trusted.overlay.") || strings.HasPrefix(attr, "user.overlay.") ||
		attr == "security.selinux"
}

// Override is what a file of a layer stands for, where the kernel does not let
// us make it so. It is kept on regular files and directories; a device is an
// empty regular file that carries one. Owner, type and device number are the
// override's. The permission bits are always those of the file itself, which
// we can set, so that a later chmod by a build step counts.
type Override struct {
	UID, GID uint32
	// Mode has the type bits (S_IFMT) and, for information, the permissions.
	Mode uint32
	// Major and Minor are the number of a device.
	Major, Minor uint32
}

// device reports whether the override stands for a device node.
func (o Override) device() bool {
	return o.Mode&unix.S_IFMT == unix.S_IFCHR || o.Mode&unix.S_IFMT == unix.S_IFBLK
}

// String encodes the override: "uid:gid:mode", the mode in octal, and for a
// device ":major:minor".
func (o Override) String() string {
	s := fmt.Sprintf("%d:%d:%o", o.UID, o.GID, o.Mode)
	if o.device() {
		s += fmt.Sprintf(":%d:%d", o.Major, o.Minor)
	}
	return s
}

// ParseOverride decodes an override. It takes exactly what String makes.
func ParseOverride(s string) (Override, error) {
	fields := strings.Split(s, ":")
	var o Override
	into := []*uint32{&o.UID, &o.GID, &o.Mode, &o.Major, &o.Minor}
	if len(fields) != 3 && len(fields) != len(into) {
		return Override{}, fmt.Errorf("%w: %q", ErrOverride, s)
	}
	for i, field := range fields {
		base := 10
		if i == 2 {
			base = 8
		}
		n, err := strconv.ParseUint(field, base, 32)
		if err != nil {
			return Override{}, fmt.Errorf("%w: %q", ErrOverride, s)
		}
		*into[i] = uint32(n)
	}
	if !o.valid() || o.String() != s {
		return Override{}, fmt.Errorf("%w: %q", ErrOverride, s)
	}
	return o, nil
}

func (o Override) valid() bool {
	const noID = 1<<32 - 1 // what chown takes for 'no change'
	switch o.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR, unix.S_IFCHR, unix.S_IFBLK:
		return o.UID != noID && o.GID != noID && o.Mode&^(unix.S_IFMT|0o7777) == 0
	default:
		return false
	}
}

// Apply changes st, the attributes of the file that carries the override, to
// what it stands for. An override on a file of another kind (a directory whose
// override says device) is left out of account.
func (o Override) Apply(st *unix.Stat_t) {
	kind, own := o.Mode&unix.S_IFMT, st.Mode&unix.S_IFMT
	if kind != own && (own != unix.S_IFREG || !o.device()) {
		return
	}
	st.Uid, st.Gid = o.UID, o.GID
	st.Mode = kind | st.Mode&0o7777
	if o.device() {
		st.Rdev = unix.Mkdev(o.Major, o.Minor)
		st.Size = 0
	}
}

// OverrideOf returns the override that gives st the attributes that it has.
func OverrideOf(st *unix.Stat_t) Override {
	o := Override{UID: st.Uid, GID: st.Gid, Mode: st.Mode}
	if o.device() {
		o.Major, o.Minor = unix.Major(st.Rdev), unix.Minor(st.Rdev)
	}
	return o
}
