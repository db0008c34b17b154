package buildcmd

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/moby/buildkit/client/llb"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/runtime/engine"
)

// archiveHeader is how much of a stream tells an archive: two blocks of tar.
const archiveHeader = 1024

// archiveMagic begins compressed archives: bzip2, gzip, xz, zstd.
func archiveMagic() []string {
	return []string{"BZh", "\x1f\x8b\x08", "\xfd7zXZ\x00", "\x28\xb5\x2f\xfd"}
}

// stdinIsArchive looks at standard input without taking anything from it.
func (a *app) stdinIsArchive() (bool, error) {
	buffered, ok := a.Stdin.(*bufio.Reader)
	if !ok {
		buffered = bufio.NewReader(a.Stdin)
		a.Stdin = buffered
	}
	header, err := buffered.Peek(archiveHeader)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("read standard input: %w", err)
	}
	if len(header) == 0 {
		return false, cli.Misuse("standard input is empty: it takes a Dockerfile, or a tar archive as the build context")
	}
	for _, magic := range archiveMagic() {
		if bytes.HasPrefix(header, []byte(magic)) {
			return true, nil
		}
	}
	_, err = tar.NewReader(bytes.NewReader(header)).Next()
	return err == nil, nil
}

// contextFromStdin takes standard input for the context if it is an archive,
// and otherwise for the Dockerfile of an empty context.
func (a *app) contextFromStdin(e *engine.Engine, o *inputOptions, in *dockerfileInput) error {
	if o.file == "-" {
		return cli.Misuse("standard input cannot be both the build context and the Dockerfile")
	}
	archive, err := a.stdinIsArchive()
	if err != nil {
		return err
	}
	if !archive {
		if o.file != "" {
			return cli.Misuse("there are two Dockerfiles: standard input, and -f %s", o.file)
		}
		return a.dockerfileFromStdin(e, in)
	}
	if e == nil {
		return errors.New("an archive on standard input needs a store to be unpacked in")
	}
	dir, err := e.Store.TempDir()
	if err != nil {
		return err
	}
	in.req.Archive = filepath.Join(dir, "context")
	in.reader.AddLocal(in.req.ArchiveLocal(), dir)
	return a.saveStdin(in.req.Archive)
}

// dockerfileFromStdin gives a Dockerfile without a context an empty one.
func (a *app) dockerfileFromStdin(e *engine.Engine, in *dockerfileInput) (err error) {
	if e != nil {
		if in.req.Context, err = e.Store.TempDir(); err != nil {
			return err
		}
	}
	in.req.Filename = dockerfileName
	in.req.Text, err = a.stdinText()
	return err
}

func (a *app) stdinText() ([]byte, error) {
	text, err := io.ReadAll(a.Stdin)
	if err != nil {
		return nil, fmt.Errorf("read standard input: %w", err)
	}
	if text == nil {
		text = []byte{}
	}
	return text, nil
}

// saveStdin writes standard input to a file.
func (a *app) saveStdin(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, a.Stdin); err != nil {
		return errors.Join(fmt.Errorf("read standard input: %w", err), f.Close())
	}
	return f.Close()
}

// download reads the Dockerfile behind a URL.
func download(ctx context.Context, reader *engine.Reader, url string) ([]byte, error) {
	if reader == nil {
		return nil, fmt.Errorf("the Dockerfile %s needs a store to be downloaded to", url)
	}
	def, err := llb.HTTP(url, llb.Filename(dockerfileName)).Marshal(ctx)
	if err != nil {
		return nil, fmt.Errorf("download %s: %w", url, err)
	}
	return reader.ReadFile(ctx, def.ToPB(), dockerfileName)
}
