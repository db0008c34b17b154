#!/bin/sh
# Makes the container's own host keys, admits the owner of AUTHORIZED_KEY, and
# becomes sshd. Keys are made at first start: those in an image would be
# everybody's.
set -eu

: "${AUTHORIZED_KEY:?set it to a public key: -e AUTHORIZED_KEY=\"\$(cat ~/.ssh/id_ed25519.pub)\"}"

ssh-keygen -A
mkdir -p -m 0700 /root/.ssh
printf '%s\n' "$AUTHORIZED_KEY" > /root/.ssh/authorized_keys
chmod 0600 /root/.ssh/authorized_keys
exec /usr/sbin/sshd -D -e "$@"
