// Package layer turns layer directories (see package tree) into the tar blobs
// of images, and back.
//
// # Writing
//
// [WriteTar] walks a layer directory and writes a tar. The same directory gives
// the same bytes on every machine: names in byte order, owners as numbers,
// times in whole seconds and not after the epoch, ustar headers, and PAX
// records only where ustar has no room. The bytes are those that archive/tar
// writes for the same headers, and the entries are those of containerd and
// BuildKit: names without a leading './', directories with a trailing slash,
// whiteouts as empty files .wh.NAME, no entry for the root directory. Sockets
// are left out. A file that is itself called .wh.something cannot be stored in
// a layer, and is an error.
//
// A blob is made in one pass: tar, digest of the tar (the diff ID), compression,
// digest of the blob. Compression in parallel cuts the tar into blocks of a
// fixed size, so that the bytes do not depend on the number of cores.
//
// # Unpacking
//
// [Apply] trusts nothing in a tar. Names are taken inside the layer's directory
// whatever they say; a parent that is a symlink is followed as it would be after
// chroot into the image, as containerd does, by this package's own lookup and
// never by the kernel's. A name that comes twice: the last wins. Data is written
// by several goroutines, while names are looked up by one:
//
//	blob ─▶ decompress ─▶ tar reader ──┬─▶ writer ─▶ file
//	        (goroutine)   names, dirs, ├─▶ writer ─▶ file
//	                      links        └─▶ writer ─▶ file
//
// Layers are unpacked without the layers below, so that an image's layers are
// unpacked at the same time. That is not possible for a layer with a file whose
// parent directory it does not have, or with a hard link to a file below: Apply
// then says NeedsLower, and is called again with a view of what is below.
//
// # Store
//
// [Store] relates layers to their diff IDs and blobs, makes each blob once, and
// reuses what came from a registry.
package layer
