// Package conformance compares what Strata builds with what buildkitd v0.33.1
// builds, case by case, in one run: the flattened file tree (type, mode,
// owner, size, hash, links, extended attributes, devices, times), the number
// of layers, and the whole image config. Cases in testdata/refuse must fail on
// both sides, on the same line of the Dockerfile.
//
// A case is a txtar file. Its comment says what it shows, in lines that begin
// with #, and how it is built, in headers:
//
//	args: --build-arg A=1      flags, as `docker build` takes them, split at spaces
//	arg: --label=a b           one flag, whole
//	env: NAME=VALUE            a variable of the client's environment
//	setup: chmod 4755 suid     a line of a shell script, run in the context before the build
//	change: echo 2 >f          the same, run behind the build; then both build again
//	platforms: 2               how many images come out, if not one
//	line: 3                    (refuse) the line that both complain about; 0 is none
//	error: Dockerfile:3: …     (refuse) the first line that Strata prints; UPDATE=1 rewrites it
//
// Its files make the context; those below ../ lie beside it: ../secret,
// ../named/file. A ../base.Dockerfile is built first, by buildkitd with the
// context ../base, and pushed; so a base image can be anything that a
// Dockerfile can say. In every text stand for themselves:
//
//	@registry@   the registry with the bases of bases_test.go
//	@base@       the image of ../base.Dockerfile
//	@www@        ../www over http
//	@git@        ../git over git's http
//	@agent@      the socket of an ssh agent
//	@case@       the name of the case, to keep cache mounts apart
//
// Files and directories are made with the modes 0644 and 0755 and a time of
// the case's own before 2021; SOURCE_DATE_EPOCH is in 2023 on both sides.
package conformance
