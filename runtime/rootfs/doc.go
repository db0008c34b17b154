// Package rootfs does path operations inside an open directory, as a process
// would after chroot into it, without ever trusting a path string.
//
// Everything that a build step can write to is hostile: between two looks at
// one path, a directory may have become a symlink that leaves the root. So no
// operation here joins strings and hands them to the kernel's ordinary path
// lookup. There are two layers instead:
//
//   - A [Root] resolves a path with openat2(2), RESOLVE_IN_ROOT and
//     RESOLVE_NO_MAGICLINKS: absolute symlinks start again at the root, '..'
//     stops there, and links such as /proc/self/fd/3 are refused. The kernel
//     does it atomically. An operation that makes, moves or removes a name
//     resolves the parent directory only, and works on the last name relative
//     to the parent's descriptor, without following a link that stands there.
//   - A [Dir] is an open directory. Its methods take one plain name and never
//     follow a link. Work on many files goes through it, at one system call an
//     operation.
//
// Where a canonical path is wanted, or missing directories are to be made, the
// package walks the components itself (see [Root.Resolve]); each step opens the
// next component without following it, so the walk cannot be led astray.
//
// A name that does not exist is an error that satisfies
// errors.Is(err, fs.ErrNotExist), a symlink loop or a refused magic link one
// that satisfies errors.Is(err, unix.ELOOP).
package rootfs
