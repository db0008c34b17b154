// Package compiler translates a Spec into LLB and image configs.
//
// The law of the package: what a Spec compiles to is the very LLB that
// BuildKit's Dockerfile front end (dockerfile2llb) emits for the equivalent
// Dockerfile, op digest by op digest, and the same image config with its
// history. Only metadata differs: names, progress groups, and the positions
// in the user's CUE files that every vertex carries. So one cache serves both
// languages, here and on a BuildKit fleet, and `convert` can prove its output
// with Equal.
//
// # From images to targets
//
//	Spec ── jobs ──▶ image × platform ──▶ stage ──▶ marshal ──▶ Target
//	          │                             ▲
//	          └── prefetch: all references ─┘ config of base images
//
// A stage is an image, or a stage of one, as it is translated: an LLB state,
// a config, and the paths that it reads of context directories. Stages are
// memoised by image and platform; an image that others start from or copy
// from is translated once. Equal images that are not the same value in
// memory become equal ops, since nothing of an image's name is in them.
//
// # Order
//
// The fields of an image apply in this order, which is that of the usual
// Dockerfile:
//
//	platform, from    FROM (then the ONBUILD triggers of the base)
//	args              ARG, one each
//	env               ENV, one for all
//	shell             SHELL
//	workdir           WORKDIR, which makes the directory
//	steps             in their order
//	author            MAINTAINER
//	user              USER
//	expose            EXPOSE
//	volumes           VOLUME
//	labels            LABEL, one for all
//	annotations       (no part of the config)
//	stopSignal        STOPSIGNAL
//	healthcheck       HEALTHCHECK
//	onbuild           ONBUILD, one each
//	entrypoint        ENTRYPOINT, which resets an inherited cmd
//	cmd               CMD
//
// So steps see args, env, shell and workdir, and never user or what follows;
// but they do see the user of the base. A step `set` applies the fields given
// in it at its place, in the same order among themselves; from there on its
// user counts for steps too.
//
// # Steps
//
//	run         RUN. A string that starts with #! is a script, as RUN <<EOF
//	            with one. stdin becomes a heredoc with a quoted delimiter; a
//	            command that is only `<<NAME` has its script in stdin. env,
//	            workdir and user apply to this command alone, which a
//	            Dockerfile cannot say.
//	            Mounts come in this order: mounts, cache, tmpfs, secrets, ssh.
//	copy, add   COPY and ADD; one instruction for each {source: destination}.
//	            files are heredocs with these names beside the sources.
//	file        COPY <<EOF path, one for each path: a mkfile on scratch, and a
//	            copy of it. With `to`, one COPY of heredocs that have the
//	            given names.
//	mkdir, rm   one LLB file op with an action for each path. rm takes
//	            wildcards, and what is not there needs no removal.
//	symlink     one LLB file op, with a mkdir of the link's directory.
//	set, arg    no op, or the mkdir of a workdir.
//
// Strings are literal. A step with `expand` has the words expanded that a
// Dockerfile would expand, by its lexer, with the environment and arguments
// at that place: so quotes and backslashes count there, the command of run
// stays for the shell, and the content of file is expanded without quotes.
// `from` and `platform` of an image may have $TARGETARCH and the like, and
// the arguments of the image, without asking; a switch is decided by them, for
// each platform, and only the case that is taken is compiled.
//
// # Where the equivalent Dockerfile says less
//
// `platform` of an image that starts from scratch, or from another image,
// counts: the other image is compiled for it. A Dockerfile ignores it there.
// TARGETSTAGE is always "default". A named context takes the place of a
// reference as if it stood there, so registry images stay pinned.
//
// # Context directories
//
// Each directory that images read has one name in a plan: "context" for that
// of the first image, and the path from there for others. Targets return the
// directories by name. A context is a local source that follows just the
// paths which the stages of a target read; that differs from target to
// target, so a stage's state refers to a stand-in, which marshalling
// replaces. Ignore files apply to every directory.
package compiler
