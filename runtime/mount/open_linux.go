package mount

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// errNoAppend says that the kernel lacks "lowerdir+".
var errNoAppend = errors.New("overlayfs takes no single layers")

// maxValue is the longest string that fsconfig(2) takes.
const maxValue = 255

// Open returns the tree as a detached mount; closing it unmounts the tree
// unless it was attached.
func (t Tree) Open() (*os.File, error) {
	if t.Dir != "" {
		return t.openDir()
	}
	lower, err := t.lowers()
	if err != nil {
		return nil, err
	}
	m, err := t.openAppending(lower)
	if errors.Is(err, errNoAppend) {
		return t.openLegacy(lower)
	}
	return m, err
}

func (t Tree) openDir() (*os.File, error) {
	if len(t.Lower) > 0 || t.Upper != "" {
		return nil, errors.New("mount tree: a plain directory has no layers")
	}
	dir, err := openPath(t.Dir)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return Bind(dir, BindOptions{ReadOnly: t.ReadOnly})
}

// lowers returns the lower directories, top first as overlayfs counts, with
// the stand-in where overlayfs wants one more: it refuses an upper without a
// lower, and a single lower without an upper. (A bind mount of that single
// layer is no substitute: it would show whiteouts as devices.)
func (t Tree) lowers() ([]string, error) {
	lower := topmost(t.Lower)
	if (t.Upper == "") != (t.Work == "") {
		return nil, errors.New("mount tree: an upper and a work directory go together")
	}
	if t.Upper == "" && !t.ReadOnly {
		return nil, errors.New("mount tree: a writable overlay needs an upper directory")
	}
	need := 1
	if t.Upper == "" {
		need = 2
	}
	if len(lower) >= need {
		return lower, nil
	}
	if t.Empty == "" || len(lower)+1 < need {
		return nil, fmt.Errorf("mount tree: %d layers are too few, an overlay needs %d", len(lower), need)
	}
	return append(lower, t.Empty), nil
}

// topmost returns layers top first, each once: overlayfs refuses a directory
// that it has already, and images do have a layer twice. The upper one of two
// hides all that the lower one has, and hides below it.
func topmost(layers []string) []string {
	var lower []string
	seen := map[string]bool{}
	for _, dir := range slices.Backward(layers) {
		if !seen[dir] {
			seen[dir] = true
			lower = append(lower, dir)
		}
	}
	return lower
}

// option is one overlayfs option; a bare one is a flag.
type option struct {
	name, value string
	// newer marks an option that old kernels lack and that is not essential.
	newer bool
}

// options are the choices that decide how the upper directory looks, as it
// is going to be a layer that other tools read. They are spelled out because
// a distribution may have changed the kernel's defaults.
func (t Tree) options() []option {
	opts := []option{
		// A renamed directory must be a full copy and a whiteout: a redirect
		// is meaningless outside of this very stack, and one that a hostile
		// layer carries must not be followed. rename(2) answers EXDEV, which
		// mv and package managers handle by copying.
		{name: "redirect_dir", value: "nofollow"},
		// A chmod must copy the file up whole, not leave its data below.
		{name: "metacopy", value: "off"},
		// No index of hard links in the work directory, no numbers that
		// depend on the stack, no file handles for NFS: none is of use to a
		// tree that lives for one step, and each costs at mount or lookup.
		{name: "index", value: "off"},
		{name: "nfs_export", value: "off"},
		{name: "xino", value: "off"},
		{name: "uuid", value: "off", newer: true},
	}
	if t.Upper != "" && !t.Durable {
		// No sync at unmount: an upper directory that a crash may have hit
		// is thrown away, never trusted.
		opts = append(opts, option{name: "volatile"})
	}
	if t.UserXattr {
		opts = append(opts, option{name: "userxattr"})
	}
	return opts
}

// openAppending makes the overlay with the new mount API, layer by layer.
func (t Tree) openAppending(lower []string) (*os.File, error) {
	c, err := newContext("overlay", "overlay")
	if err != nil {
		return nil, err
	}
	defer c.close()
	for i, dir := range lower {
		err := c.setDir("lowerdir+", dir)
		if i == 0 && errors.Is(err, unix.EINVAL) {
			return nil, errNoAppend
		}
		if err != nil {
			return nil, c.fail("add layer", dir, err)
		}
	}
	if t.Upper != "" {
		if err := c.setDir("upperdir", t.Upper); err != nil {
			return nil, c.fail("set upper directory", t.Upper, err)
		}
		if err := c.setDir("workdir", t.Work); err != nil {
			return nil, c.fail("set work directory", t.Work, err)
		}
	}
	for _, o := range t.options() {
		if err := c.set(o); err != nil {
			return nil, c.fail("set overlay option", o.name, err)
		}
	}
	return c.mount(t.where(), t.attributes())
}

func (t Tree) attributes() int {
	if t.ReadOnly {
		return unix.MOUNT_ATTR_RDONLY
	}
	return 0
}

// where names the tree in messages.
func (t Tree) where() string {
	if t.Upper != "" {
		return t.Upper
	}
	return t.Lower[len(t.Lower)-1]
}

// context is a file system context, fsopen(2).
type context struct {
	fd int
	// held are descriptors that stand for paths until the mount is made.
	held []*os.File
}

func newContext(fstype, source string) (*context, error) {
	fd, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, &os.PathError{Op: "open file system", Path: fstype, Err: err}
	}
	c := &context{fd: fd}
	if err := unix.FsconfigSetString(fd, "source", source); err != nil {
		defer c.close()
		return nil, c.fail("set source of", fstype, err)
	}
	return c, nil
}

func (c *context) close() {
	unix.Close(c.fd)
	for _, f := range c.held {
		f.Close()
	}
}

func (c *context) set(o option) error {
	var err error
	if o.value == "" {
		err = unix.FsconfigSetFlag(c.fd, o.name)
	} else {
		err = unix.FsconfigSetString(c.fd, o.name, o.value)
	}
	if o.newer && errors.Is(err, unix.EINVAL) {
		return nil
	}
	return err
}

func (c *context) setDir(key, dir string) error {
	if len(dir) > maxValue || strings.ContainsAny(dir, `\:,`) {
		f, err := openPath(dir)
		if err != nil {
			return errors.Unwrap(err)
		}
		c.held = append(c.held, f)
		dir = "/proc/self/fd/" + strconv.Itoa(int(f.Fd()))
	}
	return unix.FsconfigSetString(c.fd, key, dir)
}

func (c *context) mount(where string, attrs int) (*os.File, error) {
	if err := unix.FsconfigCreate(c.fd); err != nil {
		return nil, c.fail("create mount of", where, err)
	}
	fd, err := unix.Fsmount(c.fd, unix.FSMOUNT_CLOEXEC, attrs)
	if err != nil {
		return nil, c.fail("mount", where, err)
	}
	return os.NewFile(uintptr(fd), where), nil
}

// fail adds what the kernel says about the error, which it hands out as
// messages to be read from the context.
func (c *context) fail(op, path string, err error) error {
	failed := &os.PathError{Op: op, Path: path, Err: err}
	buf := make([]byte, 512)
	for {
		n, rerr := unix.Read(c.fd, buf)
		if rerr != nil || n <= 0 {
			return failed
		}
		if msg, ok := strings.CutPrefix(string(buf[:n]), "e "); ok {
			return fmt.Errorf("%w (%s)", failed, strings.TrimSpace(msg))
		}
	}
}

func openPath(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}
