#!/bin/sh
# make demo: mounts the small image of testdata, looks at it, and does the same
# again offline, from what the store then holds. Everything else is in a folder
# that is gone afterwards, and no step takes longer than half a minute.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
PATH=$top/bin:$PATH

[ "$(id -u)" = 0 ] || "$top/scripts/need.sh" fusermount3:fuse3
if [ ! -e /dev/fuse ]; then
	echo "demo: /dev/fuse is missing: the kernel's module fuse is not loaded, or this container has no access to it" >&2
	exit 1
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/distfs-demo.XXXXXX")
daemon=
finish() {
	status=$?
	trap - EXIT
	if [ -n "$daemon" ]; then
		timeout 10 distfs umount "$work/mnt" || kill -9 "$daemon"
	fi
	if grep -q " $work/mnt " /proc/self/mountinfo; then
		echo "demo: $work/mnt is still mounted: distfs umount it" >&2
	else
		rm -rf "$work"
	fi
	exit $status
}
trap finish EXIT
trap 'exit 1' INT TERM HUP PIPE

cd "$work"
mkdir mnt
cat >config.toml <<END
[host."demo.local"]
layouts = "$top/testdata/layouts"
END
: >empty.toml
export DISTFS_STORE="$work/store"

# run shows a command as it would be typed, and runs it.
run() {
	printf '\n$ %s\n' "$1"
	timeout 30 sh -ec "$1"
}

# mount ARGS… starts a mount and waits until it serves.
mount() {
	printf '\n$ distfs %s &\n' "$*"
	: >log
	distfs "$@" 2>log &
	daemon=$!
	for _ in $(seq 300); do
		if grep '^mounted' log; then return; fi
		kill -0 "$daemon" 2>/dev/null || break
		sleep 0.1
	done
	cat log >&2
	exit 1
}

umount() {
	run "distfs umount mnt"
	wait "$daemon"
	daemon=
}

look() {
	run "ls -l mnt/demo.local/library/hello:1/"
	run "cat mnt/demo.local/library/hello:1/manifest.json"
	run "ls -l mnt/demo.local/library/hello:1/layers/"
	layer=$(readlink mnt/demo.local/library/hello:1/layers/2.tar.gz)
	run "echo '${layer##*:}  mnt/demo.local/library/hello/${layer##*/}' | sha256sum -c"
	run "tar -tvzf mnt/demo.local/library/hello:1/layers/1.tar.gz"
	run "ls -lR mnt/demo.local/library/hello:1/rootfs/"
}

mount mount --config config.toml mnt
look
run "mnt/demo.local/library/hello:1/rootfs/bin/hello"
umount
run "distfs list"

echo
echo "Now the same offline, and without the configuration that says where demo.local is."
mount mount --config empty.toml --offline mnt
look
umount
