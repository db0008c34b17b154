package mount

import "os"

// OpenLegacy opens an overlay as on a kernel without "lowerdir+".
func OpenLegacy(t Tree) (*os.File, error) {
	lower, err := t.lowers()
	if err != nil {
		return nil, err
	}
	return t.openLegacy(lower)
}
