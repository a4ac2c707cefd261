#!/bin/sh
# Runs every fuzz target of every package for $FUZZTIME (10s).
set -eu
cd "$(dirname "$0")/.."

for pkg in $(go list ./...); do
	for target in $(go test -list '^Fuzz' "$pkg" | grep '^Fuzz' || true); do
		echo "$pkg $target"
		go test -run "^$" -fuzz "^$target\$" -fuzztime "${FUZZTIME:-10s}" "$pkg"
	done
done
