package fileop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/rootfs"
)

// maxUserFile bounds /etc/passwd and /etc/group (CVE-2024-9676).
const maxUserFile = 10 << 20

// owner is a numeric user and group.
type owner struct{ uid, gid uint32 }

// resolveOwner returns the owner that an action asks for, nil for none. As in
// BuildKit, a name that is not known stands for root, a user brings its
// primary group, and a numeric user the group of the same number.
func resolveOwner(ctx context.Context, opt *pb.ChownOpt, o *Options) (*owner, error) {
	if opt == nil {
		return nil, nil
	}
	var own owner
	switch u := opt.GetUser().GetUser().(type) {
	case *pb.UserOpt_ByName:
		found, err := o.lookupUser(ctx, u.ByName)
		if err != nil {
			return nil, err
		}
		own = found
	case *pb.UserOpt_ByID:
		own = owner{u.ByID, u.ByID}
	}
	switch g := opt.GetGroup().GetUser().(type) {
	case *pb.UserOpt_ByName:
		gid, found, err := o.lookupGroup(ctx, g.ByName)
		if err != nil {
			return nil, err
		}
		if found {
			own.gid = gid
		}
	case *pb.UserOpt_ByID:
		own.gid = g.ByID
	}
	return &own, nil
}

func (o *Options) lookupUser(ctx context.Context, n *pb.NamedUserOpt) (owner, error) {
	data, err := o.userFile(ctx, n, "/etc/passwd")
	if err != nil {
		return owner{}, err
	}
	users, err := user.ParsePasswdFilter(bytes.NewReader(data), func(u user.User) bool { return u.Name == n.Name })
	if err != nil {
		return owner{}, fmt.Errorf("read /etc/passwd of the image: %w", err)
	}
	if len(users) == 0 {
		o.warn("user %q is not in /etc/passwd of the image: root will own the files", n.Name)
		return owner{}, nil
	}
	return owner{uint32(users[0].Uid), uint32(users[0].Gid)}, nil
}

func (o *Options) lookupGroup(ctx context.Context, n *pb.NamedUserOpt) (uint32, bool, error) {
	data, err := o.userFile(ctx, n, "/etc/group")
	if err != nil {
		return 0, false, err
	}
	groups, err := user.ParseGroupFilter(bytes.NewReader(data), func(g user.Group) bool { return g.Name == n.Name })
	if err != nil {
		return 0, false, fmt.Errorf("read /etc/group of the image: %w", err)
	}
	if len(groups) == 0 {
		o.warn("group %q is not in /etc/group of the image: it is ignored", n.Name)
		return 0, false, nil
	}
	return uint32(groups[0].Gid), true, nil
}

// userFile reads a file of users or groups, nil where there is none.
func (o *Options) userFile(ctx context.Context, n *pb.NamedUserOpt, name string) ([]byte, error) {
	if n == nil || n.Input < 0 || o.Input == nil {
		return nil, fmt.Errorf("the owner %q is a name, and there is no image to look it up in: give its number", n.GetName())
	}
	root, err := o.Input(ctx, n.Input)
	if err != nil {
		return nil, err
	}
	return readUserFile(root, name)
}

func readUserFile(root *rootfs.Root, name string) ([]byte, error) {
	data, err := root.ReadFile(name, maxUserFile)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up an owner: %w", err)
	}
	return data, nil
}
