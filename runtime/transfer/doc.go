// Package transfer copies files between two trees by the rules of `docker cp`:
// a container's and the user's.
//
//	source ──▶ Pack ──▶ tar stream ──▶ fileop.Extract ──▶ destination
//	             │                          ▲
//	             └─▶ standard output        └── standard input
//
// Both sides are a place: a root, and a path in it as the user wrote it. The
// root of the user's side is "/". Either tree may be hostile and may change
// meanwhile: paths are resolved inside their root, what is read or written is
// reached by descriptor, and nothing but regular files and directories is ever
// opened, so that no FIFO blocks and no device reacts.
//
// # Where a copy lands
//
//	destination            source is a directory       source is a file
//	a directory            in it, by its name          in it, by its name
//	a file                 refused                     replaced
//	missing                made, with its contents     made, by that name
//	missing, ends in '/'   made, with its contents     refused
//
// A source that ends in "/." stands for the contents of the directory. A
// symlink is copied itself, unless the path ends in a slash or links are to be
// followed. The directory that holds the destination must be there; symlinks to
// it, and the destination if it is one, are followed inside its root.
package transfer
