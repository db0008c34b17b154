package exporter

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// errNoStdout says that an archive has nowhere to go.
var errNoStdout = errors.New("standard output is a terminal, or there is none: give dest=FILE")

// writeTo hands fill a file that becomes dest when fill has succeeded. Until
// then it has no name, so that whatever interrupts the export, nothing is left.
func (j *job) writeTo(ctx context.Context, dest string, fill func(w io.Writer) error) error {
	if dest == "-" || dest == "" {
		if j.opts.Stdout == nil {
			return errNoStdout
		}
		return fill(&checked{ctx, j.opts.Stdout})
	}
	dest, special, err := destination(dest)
	if err != nil {
		return err
	}
	if special {
		return writeSpecial(ctx, dest, fill)
	}
	f, err := unnamed(filepath.Dir(dest))
	if err != nil {
		return err
	}
	defer f.Close()
	if err := fill(&checked{ctx, f}); err != nil {
		return errors.Join(err, f.drop())
	}
	info, err := f.Stat()
	if err = errors.Join(err, ctx.Err()); err != nil {
		return errors.Join(err, f.drop())
	}
	if err := f.rename(dest); err != nil {
		return err
	}
	j.p.Status("writing "+dest, info.Size(), info.Size(), true)
	return nil
}

// destination follows links to what is to be replaced. Devices and pipes are
// written to, not replaced.
func destination(dest string) (string, bool, error) {
	info, err := os.Stat(dest)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return dest, false, nil
	case err != nil:
		return "", false, fmt.Errorf("write %s: %w", dest, err)
	case info.IsDir():
		return "", false, fmt.Errorf("%s is a directory, and the output is a file", dest)
	case !info.Mode().IsRegular():
		return dest, true, nil
	}
	// The path is the user's own; no step of a build can change it.
	if dest, err = filepath.EvalSymlinks(dest); err != nil { //nolint:forbidigo // see above
		return "", false, fmt.Errorf("write %s: %w", dest, err)
	}
	return dest, false, nil
}

func writeSpecial(ctx context.Context, dest string, fill func(w io.Writer) error) error {
	f, err := os.OpenFile(dest, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	if err := fill(&checked{ctx, f}); err != nil {
		return errors.Join(err, f.Close())
	}
	return f.Close()
}

// checked is a writer that ends with its context.
type checked struct {
	ctx context.Context
	w   io.Writer
}

// Write implements io.Writer.
func (c *checked) Write(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.w.Write(p)
}

// ReadFrom implements io.ReaderFrom: the kernel copies from file to file.
func (c *checked) ReadFrom(r io.Reader) (int64, error) {
	to, ok := c.w.(io.ReaderFrom)
	if !ok {
		return io.Copy(struct{ io.Writer }{c}, r)
	}
	var total int64
	for {
		if err := c.ctx.Err(); err != nil {
			return total, err
		}
		n, err := to.ReadFrom(io.LimitReader(r, 64<<20))
		total += n
		if n == 0 || err != nil {
			return total, err
		}
	}
}

// newFile is a file on its way to its name.
type newFile struct {
	*os.File
	name string // "" while it has none
}

// unnamed makes a file without a name, or with a temporary one where the file
// system cannot do that.
func unnamed(dir string) (*newFile, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o666)
	if err == nil {
		return &newFile{File: os.NewFile(uintptr(fd), filepath.Join(dir, "unnamed file"))}, nil
	}
	if errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("write output: the directory %s does not exist", dir)
	}
	name := temporary(dir)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, fmt.Errorf("write output: %w", err)
	}
	return &newFile{f, name}, nil
}

func temporary(dir string) string {
	return filepath.Join(dir, ".strata-"+strconv.FormatUint(rand.Uint64(), 36))
}

// drop removes the temporary name, if there is one.
func (f *newFile) drop() error {
	if f.name == "" {
		return nil
	}
	return os.Remove(f.name)
}

// rename gives the file its name. linkat(2) cannot replace, so an unnamed file
// gets a temporary name for a moment.
func (f *newFile) rename(dest string) error {
	if f.name == "" {
		f.name = temporary(filepath.Dir(dest))
		if err := unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), unix.AT_FDCWD, f.name, unix.AT_SYMLINK_FOLLOW); err != nil {
			return &os.LinkError{Op: "link", Old: "unnamed file", New: f.name, Err: err}
		}
	}
	if err := os.Rename(f.name, dest); err != nil {
		return errors.Join(fmt.Errorf("write output: %w", err), f.drop())
	}
	return nil
}

// writeBuffered is writeTo for many small writes.
func (j *job) writeBuffered(ctx context.Context, dest string, fill func(w io.Writer) error) error {
	return j.writeTo(ctx, dest, func(w io.Writer) error {
		buf := bufio.NewWriterSize(w, 1<<20)
		if err := fill(buf); err != nil {
			return err
		}
		return buf.Flush()
	})
}
