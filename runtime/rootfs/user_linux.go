package rootfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/user"
)

// userFileLimit bounds /etc/passwd and /etc/group, as BuildKit does.
const userFileLimit = 10 << 20

// User is what a USER specification stands for inside a root.
type User struct {
	UID, GID uint32
	// Groups are the supplementary groups. The first is GID itself, as in
	// docker and BuildKit: a process that gives its group away would otherwise
	// no longer be refused what is closed to that group (CVE-2022-36109).
	Groups []uint32
	Home   string
}

// LookupUser resolves a USER specification ("", "name", "uid", "name:group",
// "uid:gid", and the mixed forms) by docker's rules against the root's own
// /etc/passwd and /etc/group. A number needs no entry there; where it has one,
// home and groups are taken from it. A name needs one. The two files may be
// missing, or unreadable (a FIFO, a device, larger than 10 MB), as long as
// nothing has to be looked up by name in them.
func (r *Root) LookupUser(spec string) (User, error) {
	spec = rootAsNumber(spec)
	name, group, _ := strings.Cut(spec, ":")
	passwd, err := r.userFile("/etc/passwd", name)
	if err != nil {
		return User{}, fmt.Errorf("look up user %q: %w", spec, err)
	}
	groups, err := r.userFile("/etc/group", group)
	if err != nil {
		return User{}, fmt.Errorf("look up group of user %q: %w", spec, err)
	}
	found, err := user.GetExecUser(spec, nil, passwd, groups)
	if err != nil {
		return User{}, explainUser(spec, err)
	}
	u, err := checked(found)
	if err != nil {
		return User{}, fmt.Errorf("look up user %q: %w", spec, err)
	}
	return u, nil
}

// explainUser says what is wrong with a USER specification.
func explainUser(spec string, err error) error {
	name, group, _ := strings.Cut(spec, ":")
	switch {
	case errors.Is(err, user.ErrNoPasswdEntries):
		return fmt.Errorf("user %q: there is no user %q in the image's /etc/passwd", spec, name)
	case errors.Is(err, user.ErrNoGroupEntries):
		return fmt.Errorf("user %q: there is no group %q in the image's /etc/group", spec, group)
	case errors.Is(err, user.ErrRange):
		return fmt.Errorf("user %q: users and groups have numbers from 0 to %d", spec, math.MaxInt32)
	}
	return fmt.Errorf("look up user %q: %w", spec, err)
}

// rootAsNumber writes root as 0 in a specification of both ids where nothing
// else has to be looked up: BuildKit takes it for a number there.
func rootAsNumber(spec string) string {
	ids := strings.Split(spec, ":")
	if len(ids) != 2 {
		return spec
	}
	for i, id := range ids {
		if id == "root" {
			ids[i] = "0"
		} else if _, err := strconv.ParseUint(id, 10, 32); err != nil {
			return spec
		}
	}
	return strings.Join(ids, ":")
}

// LookupUID returns the ids that /etc/passwd gives for a user name; ok is false
// when there is no such user, or no such file.
func (r *Root) LookupUID(name string) (uid, gid uint32, ok bool, err error) {
	data, err := r.userFile("/etc/passwd", name)
	if err != nil || data == nil {
		return 0, 0, false, err
	}
	users, err := user.ParsePasswdFilter(data, func(u user.User) bool { return u.Name == name })
	if err != nil || len(users) == 0 {
		return 0, 0, false, err
	}
	uid, err = checkID("uid", users[0].Uid)
	if err != nil {
		return 0, 0, false, err
	}
	gid, err = checkID("gid", users[0].Gid)
	return uid, gid, err == nil, err
}

// LookupGID returns the id that /etc/group gives for a group name; ok is false
// when there is no such group, or no such file.
func (r *Root) LookupGID(name string) (gid uint32, ok bool, err error) {
	data, err := r.userFile("/etc/group", name)
	if err != nil || data == nil {
		return 0, false, err
	}
	groups, err := user.ParseGroupFilter(data, func(g user.Group) bool { return g.Name == name })
	if err != nil || len(groups) == 0 {
		return 0, false, err
	}
	gid, err = checkID("gid", groups[0].Gid)
	return gid, err == nil, err
}

// userFile reads one of the two files; nil when it is missing. One that cannot
// be read is an error only where wanted is a name, which must be found there.
func (r *Root) userFile(p, wanted string) (io.Reader, error) {
	data, err := r.ReadFile(p, userFileLimit)
	if err == nil {
		return bytes.NewReader(data), nil
	}
	_, notNumber := strconv.Atoi(wanted)
	if errors.Is(err, fs.ErrNotExist) || wanted == "" || notNumber == nil {
		return nil, nil
	}
	return nil, err
}

func checked(found *user.ExecUser) (User, error) {
	uid, err := checkID("uid", found.Uid)
	if err != nil {
		return User{}, err
	}
	gid, err := checkID("gid", found.Gid)
	if err != nil {
		return User{}, err
	}
	u := User{UID: uid, GID: gid, Groups: []uint32{gid}, Home: found.Home}
	for _, g := range found.Sgids {
		gid, err := checkID("gid", g)
		if err != nil {
			return User{}, err
		}
		if !slices.Contains(u.Groups, gid) {
			u.Groups = append(u.Groups, gid)
		}
	}
	return u, nil
}

// checkID refuses what the kernel would cut off, or take for 'no change'
// (4294967295).
func checkID(kind string, id int) (uint32, error) {
	if id < 0 || id >= math.MaxUint32 {
		return 0, fmt.Errorf("%s %d in the image's user files is out of range", kind, id)
	}
	return uint32(id), nil
}
