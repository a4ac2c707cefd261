package main

import (
	"fmt"
)

// A testcase is a row of the table.
type testcase struct {
	name, target string
	root         bool // it cannot be measured by another user
	measure      func(b *bench) (measured, detail string, err error)
}

var cases = []testcase{
	{"complete, `cat` as root, × ext4", "≥ 0.95", true, func(b *bench) (string, string, error) { return b.warm(true) }},
	{"complete, `cat` again without passthrough, × ext4", "≥ 0.9", true, func(b *bench) (string, string, error) { return b.warm(false) }},
	{"cold, `cat` as root, against curl -o and a SHA-256", "≤ 1.1", true, func(b *bench) (string, string, error) { return b.cold(true, b.curlAndHash) }},
	{"cold, `cat` as another user, against the same", "≤ 1.3", true, func(b *bench) (string, string, error) { return b.cold(false, b.curlAndHash) }},
	{"cold, `cat` as root, against crane blob to a file", "≤ 1.2", true, func(b *bench) (string, string, error) { return b.cold(true, b.craneToFile(false)) }},
	{"fetch-object, cold, to /dev/null, against crane blob to a file and a sync of it", "≤ 1.0", false, (*bench).fetchObject},
	{"4 KiB at 800 MB, cold: moved, requests after the HEAD", "≤ 1.1 MiB, ≤ 2", false, (*bench).farRead},
	{"4 KiB at 800 MB, cold, a link of 40 ms: round trips", "≤ 4", false, (*bench).roundTrips},
	{"fetch-object, a link of 40 ms and 20 MB/s a connection, against crane blob", "≤ 0.35", false, (*bench).slowLink},
	{"stat of a known object, hot", "≥ 200 k/s", false, (*bench).stats},
	{"fetch-object over TLS, a link of 40 ms and 20 MB/s a connection, against crane blob", "≤ 0.35", false, (*bench).slowTLS},
	{"1,000 readers of one partial 64 MiB object: sent, × its size", "≤ 1.02", false, (*bench).oneObject},
	{"200 readers stuck on a dead registry: another's reads, p99", "< 50 ms", false, (*bench).deadRegistry},
	{"8 objects of a host stalled: first byte of a ninth", "≤ 3 s", false, (*bench).stalledHost},
	{"1,000 readers of separate files stuck, then released: peak memory", "≤ 96 MiB", false, (*bench).stuckReaders},
	{"a store with 100,000 blobs: mounted and first `ls`", "< 0.5 s", false, (*bench).largeStore},
	{"four processes on one store, the same object: sent, × its size", "≤ 1.01", false, (*bench).fourProcesses},
	{"fetch of an image of 4 layers, 278 MB, against crane pull --format=oci and a sync", "≤ 1.0", false, (*bench).fetchImage},
	{"the same over a link of 40 ms and 20 MB/s a connection", "≤ 0.5", false, (*bench).fetchSlowly},
	{"pull of it, against skopeo copy and umoci unpack", "≤ 0.5", true, func(b *bench) (string, string, error) { return b.pullImage(b.skopeoAndUmoci) }},
	{"pull of it, against curl | tar xz for each layer", "≤ 1.0", true, func(b *bench) (string, string, error) { return b.pullImage(b.curlAndTar) }},
	{"push of it to an empty registry, against skopeo copy", "≤ 1.1", false, (*bench).pushImage},
	{"peak memory of fetch, pull and push", "≤ 64 MiB", false, func(b *bench) (string, string, error) {
		return fmt.Sprintf("%.1f MiB", float64(b.imagePeak)/1024), "", nil
	}},
	{"peak memory of the daemon over all of the above but the 1,000 files", "≤ 64 MiB", false, func(b *bench) (string, string, error) {
		return fmt.Sprintf("%.1f MiB", float64(b.peak)/1024), "", nil
	}},
	{"empty store, `cat` of usr/lib/os-release, eStargz: time, moved, requests", "≤ 0.15 s, ≤ 1.5 × the TOCs + 1 MiB, ≤ 10", false, func(b *bench) (string, string, error) { return b.lazily("estargz") }},
	{"the same, zstd:chunked", "≤ 0.15 s, ≤ 1.5 × the TOCs + 1 MiB, ≤ 10", false, func(b *bench) (string, string, error) { return b.lazily("zchunked") }},
	{"the same, gzip never seen, against curl \\| gunzip of the layers side by side", "≤ 1.1", false, func(b *bench) (string, string, error) { return b.neverSeen(b.curlAndGunzip) }},
	{"the same, against skopeo copy and umoci unpack", "≤ 0.4", true, func(b *bench) (string, string, error) { return b.neverSeen(b.skopeoAndUmoci) }},
	{"the same, gzip, index kept from before", "≤ 30 ms", false, (*bench).indexKept},
	{"disk, gzip, index only, × the layers", "≤ 1.03", false, (*bench).diskOfIndex},
	{"`find` of rootfs, the first after indexing, × ext4 warm", "≤ 8", true, func(b *bench) (string, string, error) { return b.found(true) }},
	{"`find` of rootfs, warm, × ext4 warm", "≤ 1.2", true, func(b *bench) (string, string, error) { return b.found(false) }},
	{"`tar` of rootfs, cold, gzip, against curl \\| tar xz of all layers", "≤ 1.0", true, func(b *bench) (string, string, error) { return b.tarCold(imageTag) }},
	{"the same, eStargz, against that", "≤ 1.0", true, func(b *bench) (string, string, error) { return b.tarCold("estargz") }},
	{"the same, gzip, a link of 40 ms and 20 MB/s a connection", "≤ 1.0", true, func(b *bench) (string, string, error) { return b.tarSlowly(imageTag) }},
	{"the same, eStargz, that link", "≤ 1.0", true, func(b *bench) (string, string, error) { return b.tarSlowly("estargz") }},
	{"`tar` of rootfs, the second in one mount, × ext4 warm", "≤ 3", true, func(b *bench) (string, string, error) { return b.tarAgain(false) }},
	{"the same, the image mounted alone", "≤ 1.2", true, func(b *bench) (string, string, error) { return b.tarAgain(true) }},
	{"random 4 KiB in a file of 64 MiB in a gzip layer, index and layer kept: p50", "≤ 15 ms", false, (*bench).randomReads},
	{"peak memory, one image listed and read", "≤ 96 MiB", false, (*bench).browsed},
	{"peak memory, the names of an image of 1 M entries listed", "≤ 400 MiB", false, (*bench).manyListed},
}
