#!/bin/sh
# Makes testdata/layouts/library/hello anew: the small image hello:1 that the tests and the demo mount.
# It needs Go alone. internal/mkimage says what is in the image and why it is the same at every run.
set -eu
cd "$(dirname "$0")/.."
rm -rf testdata/layouts/library/hello
go run ./internal/mkimage/cmd testdata/layouts/library/hello
echo "made testdata/layouts/library/hello, $(du -sh testdata/layouts/library/hello | cut -f1)" >&2
