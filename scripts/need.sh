#!/bin/sh
# need.sh COMMAND:PACKAGE… installs the Debian packages whose command is not here, and says so.
set -eu

missing=
for need in "$@"; do
	command -v "${need%%:*}" >/dev/null || [ -x "/usr/sbin/${need%%:*}" ] || missing="$missing ${need#*:}"
done
[ -n "$missing" ] || exit 0

echo "installing$missing (apt-get)" >&2
sudo=
if [ "$(id -u)" != 0 ]; then
	command -v sudo >/dev/null || { echo "need.sh: not root and no sudo: install$missing yourself" >&2; exit 1; }
	sudo="sudo env"
fi
command -v apt-get >/dev/null || { echo "need.sh: no apt-get: install$missing yourself" >&2; exit 1; }
apt() { $sudo DEBIAN_FRONTEND=noninteractive timeout 300 apt-get -q "$@" </dev/null >&2; }
[ -n "$sudo" ] || sudo=env
ls /var/lib/apt/lists/*_Packages* >/dev/null 2>&1 || apt update
# shellcheck disable=SC2086 # a list of words
apt install -y --no-install-recommends $missing || { apt update && apt install -y --no-install-recommends $missing; }
