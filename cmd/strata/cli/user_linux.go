package cli

import (
	"os"

	"github.com/strata-build/strata/runtime/executor/userns"
)

// realUID is the user's own id, also inside of the user namespace that the
// command continues in.
func realUID() int {
	if info, err := userns.Current(); err == nil && info.Rootless {
		return int(info.UID)
	}
	return os.Getuid()
}
