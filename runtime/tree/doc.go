// Package tree copies, compares and merges directory trees: plain ones, and
// layers.
//
// A layer is a directory in overlayfs' upper-directory format. It holds what
// the layer adds or changes, whole, with the parent directories of it, and
// three kinds of marks (see [Format]):
//
//   - A whiteout, a character device 0/0, hides the name in the layers below.
//   - An opaque directory (an extended attribute) hides all that the layers
//     below have in it.
//   - An override (an extended attribute too, see [Override]) gives the
//     intended owner and type of a file where the kernel does not let us set
//     them, because only one user id is mapped.
//
// [Walk] visits one layer as it is, or the merged view of several: a directory
// of the view is a stack of directories, top first, that ends at the first
// opaque one. All work goes through directory handles, so that trees deeper
// than a path can name, or that change meanwhile, do no harm.
//
// [Compare] is the inverse of applying a layer: it finds what turns one plain
// tree into another.
package tree
