// Package content keeps blobs on disk under their digests.
//
// A store is a directory that is an OCI image layout, and more:
//
//	oci-layout, index.json         as the image layout says; index.json names the images that are whole
//	distfs-store                   the version of this format; another one is refused by name
//	blobs/<algorithm>/<encoded>    a blob: complete, verified, synced, mode 0444
//	ingest/<alg>-<hex>.<origin>/   bytes on their way in, whose digest and size are known;
//	                               origin is 16 hex digits of the SHA-256 of who sends them
//	ingest/<alg>-<hex>.<origin>.file/   the same for the content of a file of a tree, whose origin is the layer
//	ingest/key-<hex>/              bytes on their way in that belong to a key (hex: its SHA-256)
//	ingest/.new-…  .gone-…         being made or thrown away; left over after a crash, Open removes them
//	locks/<ingest name>            claims on the ingest's chunks, who hashes it, and the right to make or end it; never unlinked
//	locks/use                      who has which digest open; never unlinked
//	locks/evict                    the one who evicts, and who removes a blob just then; never unlinked
//	locks/index                    the one who changes index.json; never unlinked
//	locks/<alg>-<hex>.stream       who makes which stream; never unlinked
//	locks/layers                   who makes the index of which layer; never unlinked
//	locks/uploads                  who uploads what to which repository; never unlinked
//	bad/<alg>-<hex>                what lay under this digest and did not have it; for who wants to look, nothing reads it; evicted first
//	bad.log                        a line for each digest that was moved there, the latest last
//	pins/<alg>-<hex>               this digest is not to be evicted, nor what it names
//	run/<pid>-<start>.sock         each process at work, see [Store.Listen]; who finds a dead one's removes it
//	repos/<host>/<path>/_objects/<alg>-<hex>, repos/<host>/<path>/_tags/<tag>   what a repository answered
//	cache/index/<alg>-<hex>.v1     the index of a layer, which bears its own checksum
//	cache/files/<boot>/<algorithm>/<encoded>   the content of a file of a tree, mode 0400, of this boot or, unverified, of another
//	cache/streams/<boot>/<algorithm>/<encoded>   what the parts of a layer decode to that have its small files, mode 0400, of this boot
//	uploads/<hex>                  where an upload can be gone on with, see [Store.NoteUpload]; Open removes those of last week
//
// An ingest is the only way in: [Ingest.Verify] compares the digest, [Ingest.Commit] syncs and renames. Its directory has
//
//	data    the bytes, sparse, as long as the blob
//	ranges  which chunks of data are there
//	expect  JSON: ref, digest, origin, total, started
//
// ranges is 64 bytes of header and then a byte a chunk of 1 MiB. The header is the magic "distfsR1", 16 bytes of the boot id,
// the size of the blob (2^64-1 is unknown) and that of a chunk as little-endian uint64, a byte of state (0 filling,
// 1 committed, 2 discarded) and zeros. A chunk's byte is 0 absent, 1 written, 2 synced. A chunk that is written counts
// in the boot it was written in; after another boot, which may be a power cut, only those that are synced do.
// So data is synced first and then the map says so. A map that is damaged is never trusted: its ingest begins anew.
//
// What is in cache/, and on its way there, is derived from what was fetched: it is not synced, and evicted first. The files of
// a boot are trusted in that boot, in which they got their names when they were verified; those of another are hashed at first
// use, and then moved to this one's directory or removed.
//
// Any number of goroutines and of processes of one machine and one user may share a store, and fill an ingest together.
// They exclude each other by open-file-description locks, which the kernel drops when a process dies. In
// locks/<ingest name> byte i is the claim on chunk i, byte 2^62 is held by who hashes and commits, so that it is done once, or by
// the one writer of an ingest by key, and byte 2^62+1 is held while the ingest is made, opened, committed or discarded.
// In locks/use the byte that a digest's first 62 bits are is locked by who has the digest open, together with others; and by who
// evicts it, alone, without waiting. In locks/layers such a byte is locked by who makes that layer's index.
// A chunk is written only by who holds its claim, only while the map says that it is absent; so what is there never changes.
//
// The map is read where it is mapped and written by pwrite: a full disk is then an error and no signal. What can still end
// the process is another program that truncates ranges under it (SIGBUS); the store's mode, 0700, keeps others out.
package content

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
	"sync/atomic"

	_ "crypto/sha256" // go-digest knows only the algorithms that are linked in
	_ "crypto/sha512"

	"github.com/opencontainers/go-digest"
)

// ChunkSize is the size of a chunk in bytes: the unit in which an ingest is claimed, written and remembered.
const ChunkSize = 1 << 20

// A Store is a directory of blobs. Its methods may be called by many goroutines at once.
type Store struct {
	dir    string // absolute, symlinks resolved
	boot   bootID
	boots  []bootID // earlier ones, of which files were there when the store was opened
	closed atomic.Bool
	uses   uses
}

// Open opens the store in dir, which it makes, with mode 0700, where there is none.
//
// It refuses, with an error that says what to do, a directory that belongs to another user or that others may enter,
// a store of another format version, and a directory that holds something but no store. Symlinks in dir are followed once, now.
// It also removes what processes that died have left half made or half thrown away.
func Open(dir string) (*Store, error) {
	boot, err := currentBoot()
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", dir, err)
	}
	return open(dir, boot)
}

func open(dir string, boot bootID) (*Store, error) {
	path, err := makeDir(dir)
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", dir, err)
	}
	s := &Store{dir: path, boot: boot}
	if err := s.lay(); err != nil {
		return nil, fmt.Errorf("store %s: %w", dir, err)
	}
	if err := s.sweep(); err != nil {
		return nil, fmt.Errorf("store %s: %w", dir, err)
	}
	return s, nil
}

// Dir returns the store's directory: absolute, with its symlinks resolved.
func (s *Store) Dir() string { return s.dir }

// Close ends the use of s: later calls of its methods fail with os.ErrClosed.
// Ingests that are open stay so until they are closed themselves, and so does what is held. To close it again does nothing.
func (s *Store) Close() error {
	s.closed.Store(true)
	s.uses.close()
	return nil
}

func (s *Store) check() error {
	if s.closed.Load() {
		return fmt.Errorf("store %s: %w", s.dir, os.ErrClosed)
	}
	return nil
}

func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

func (s *Store) blobPath(dgst digest.Digest) string {
	return s.path("blobs", dgst.Algorithm().String(), dgst.Encoded())
}

// hasBlob says whether the blob dgst, which must be valid, is there.
func (s *Store) hasBlob(dgst digest.Digest) (bool, error) { return isFile(s.blobPath(dgst)) }

// isFile says whether a file is at path.
func isFile(path string) (bool, error) {
	fi, err := os.Lstat(path)
	if errors.Is(err, iofs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return fi.Mode().IsRegular(), nil
}
