package mount

import "os"

// OnThrowawayThread is onThrowawayThread, for tests that mount.
func OnThrowawayThread(fn func()) { onThrowawayThread(fn) }

// OpenLegacy opens an overlay as on a kernel without "lowerdir+".
func OpenLegacy(t Tree) (*os.File, error) {
	lower, err := t.lowers()
	if err != nil {
		return nil, err
	}
	return t.openLegacy(lower)
}
