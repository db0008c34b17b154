package executor

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// MakeMountPoints fills an empty directory with the mount points that nearly
// every step needs. As the lowest layer below an image, it keeps steps from
// making those that the image lacks: they need not be removed again, and the
// directory that they are in is not copied up, so that a step that changes
// nothing leaves an empty layer. Whatever the image has takes precedence.
func MakeMountPoints(dir string) error {
	dirs := []string{"dev", "etc", "proc", "sys"}
	for _, name := range dirs {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			return fmt.Errorf("make mount points: %w", err)
		}
	}
	files := []string{"etc/hosts", "etc/resolv.conf"}
	for _, name := range files {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			return fmt.Errorf("make mount points: %w", err)
		}
	}
	// The umask is not the image's concern, and the time of day neither. The
	// times of directories last: making files has changed them.
	for _, name := range append(files, dirs...) {
		p := filepath.Join(dir, name)
		mode := os.FileMode(0o644)
		if filepath.Dir(name) == "." {
			mode = 0o755
		}
		if err := os.Chmod(p, mode); err != nil {
			return fmt.Errorf("make mount points: %w", err)
		}
		if err := os.Chtimes(p, time.Unix(0, 0), time.Unix(0, 0)); err != nil {
			return fmt.Errorf("make mount points: %w", err)
		}
	}
	return nil
}
