// Package fs shows image registries as a read-only file system.
//
//	HOST/a/b/                  a repository, or a part of its path: by grammar alone
//	HOST/a/b/sha256:<hex>      an object: a file of the blob's exact bytes
//	HOST/a/b:TAG               a link to b@sha256:<hex>
//	HOST/a/b/.tags             the repository's tags, one a line; looked up, never listed
//	HOST/a/b@sha256:<hex>/     an image:
//
//	  index.json, manifest.json, config.json, layers/N.tar*   links to objects
//	  rootfs/, layers/N/     the files of the image, and of one of its layers
//	  platforms/OS-ARCH      links to the images that an index has
//	  files/TITLE            links to the layers of an artifact
//	  referrers/TYPE/SUBTYPE/sha256:<hex>
//	                         links to what refers to it; looked up, and listed offline only
//
// In each of these names an = may stand for each colon: looked up, never listed.
//
// What it holds to:
//
//   - Looking a name up never asks the network above an image: what can be told
//     by grammar is there, and the question whether it exists is put when its
//     attributes or its bytes are asked for. Listing never asks there either.
//   - A read returns every byte it was asked for up to the object's end, or an
//     error. A small object is served after its digest matched, the end of a
//     large one too. Once a digest did not match, every handle of that object
//     answers EIO for ever, and the next look-up finds a new inode.
//   - An object is two inodes in its life that show the same st_ino: one while
//     it is partly here, read through this process, and one when it is whole,
//     read by the kernel from the store's file where that is allowed. What an
//     inode is never changes, so lazy and passed-through opens never meet.
//   - No request waits for ever and none holds a lock while it waits. An error
//     becomes a number in errno.go alone.
//
// It speaks the protocol of go-fuse's package fuse, with a node table of its
// own. Everything here may be used by many goroutines at once.
package fs

import (
	"context"
	"io"
	"iter"
	"log/slog"
	"os"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"distfs/locator"
)

// A Source is where the file system gets its content. All of it may be called
// by many goroutines at once. Errors are told apart by errors.Is, see errno.go.
type Source interface {
	// Resolve says what a tag is at present. It asks the network.
	Resolve(ctx context.Context, ref locator.Reference, accept ...string) (ocispec.Descriptor, error)

	// Stat returns the size and media type of an object. hint has its digest,
	// and what else is known of it; the network is asked for the rest only.
	Stat(ctx context.Context, loc locator.Locator, hint ocispec.Descriptor) (ocispec.Descriptor, error)

	// Known is Stat without asking: false where the repository has not yet
	// answered for the digest.
	Known(loc locator.Locator, dgst digest.Digest) (ocispec.Descriptor, bool)

	// Open returns the object for reading. It does not wait for its bytes.
	Open(ctx context.Context, loc locator.Locator, desc ocispec.Descriptor) (Object, error)

	// Repos returns the names below prefix of which the store holds
	// something: hosts for "", else the next components.
	Repos(prefix string) ([]string, error)
	// Objects returns the objects that the repository answered for. Of each, the digest alone need be told.
	Objects(loc locator.Locator) ([]ocispec.Descriptor, error)
	// Images returns the images that the store has as wholes, by digest.
	Images() ([]locator.Reference, error)
	// Watch has changed called, one call at a time, with the prefixes of which
	// Repos or Objects may answer something else; with none if that is any of
	// them, if Local may be less for any object, or if Images may be others.
	// Before, it has spoilt called with each object that was whole and was found
	// to have other bytes: of those who have it open, Bad says so.
	// The error is that there can be no watching.
	Watch(changed func(prefixes []string), spoilt func(digest.Digest)) (Watcher, error)
	// Tags returns the tags of the repository as they were last seen.
	Tags(loc locator.Locator) (map[string]ocispec.Descriptor, error)
	// ListTags yields the names of the repository's tags. It asks the network
	// while they are taken; an error is the last that it yields.
	ListTags(ctx context.Context, loc locator.Locator) iter.Seq2[string, error]
	// Referrers returns what refers to an object, with its type: 10,000 at most of
	// one object. Which there are is the remote's word. It asks the network.
	Referrers(ctx context.Context, loc locator.Locator, dgst digest.Digest) ([]ocispec.Descriptor, error)
	// Local returns how many of the object's bytes are here, and when it was
	// committed: the zero time unless all of it is here and verified.
	Local(loc locator.Locator, dgst digest.Digest) (n int64, committed time.Time)

	// OpenSparse is Open for who reads here and there: it fetches what is read, and
	// no more, however small the object is.
	OpenSparse(ctx context.Context, loc locator.Locator, desc ocispec.Descriptor) (Object, error)
	// Range reads from an object, as io.ReaderAt does, what nobody has verified.
	// What it asks the network for is not kept.
	Range(ctx context.Context, loc locator.Locator, desc ocispec.Descriptor, p []byte, off int64) (int, error)

	// LayerIndex returns the index of a layer that KeepLayerIndex kept. The error is
	// iofs.ErrNotExist where there is none. HasLayerIndex says whether there is one
	// that begins with head. KeepLayerIndex keeps what write writes.
	LayerIndex(dgst digest.Digest) ([]byte, error)
	HasLayerIndex(dgst digest.Digest, head []byte) bool
	KeepLayerIndex(dgst digest.Digest, write func(io.Writer) error) error
	DropLayerIndex(dgst digest.Digest) error
	// IndexTurn returns when nobody else on the store makes the layer's index, and then
	// nobody does until done is called. Who stands still is not waited for for ever.
	IndexTurn(ctx context.Context, loc locator.Locator, dgst digest.Digest) (done func(), err error)
	// OpenFile returns the object of a file in a layer, which is read from content
	// where it is not kept. It does not wait for its bytes.
	OpenFile(ctx context.Context, loc locator.Locator, layer digest.Digest, desc ocispec.Descriptor, content Content) (Object, error)
	// LocalFile returns how many bytes of it are kept, beside what is here of the layer.
	LocalFile(loc locator.Locator, layer digest.Digest, desc ocispec.Descriptor) int64

	// Stream opens what parts of a layer decode to, which a NewStream of the key has
	// kept: the error is iofs.ErrNotExist where there is none. Of NewStream it is
	// iofs.ErrExist where there is, or another makes it.
	Stream(key digest.Digest) (Stream, error)
	NewStream(key digest.Digest) (NewStream, error)

	// Hold keeps an object that is whole from being evicted until release.
	Hold(dgst digest.Digest) (release func(), err error)

	// StoreDir is the directory in which the store's files lie.
	StoreDir() string
}

// An Object is an open object of a Source.
type Object interface {
	Size() int64

	// Here says whether the n bytes from off on can be read without waiting.
	// The range lies within the object.
	Here(off, n int64) bool
	// Wait returns when they can.
	Wait(ctx context.Context, off, n int64) error
	// ReadAt reads all of p, or up to the object's end with io.EOF, or fails.
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
	// Verify fetches what is missing and returns nil once the whole digest
	// matched. The error is syscall.EIO where it did not.
	Verify(ctx context.Context) error
	// Bad is not nil once the digest did not match.
	Bad() error
	// File is the whole and verified file, valid until Close; nil before.
	File() *os.File
	Close() error
}

// A Stream is a file of the store. It may be used by any number of goroutines.
type Stream interface {
	io.ReaderAt
	io.Closer
}

// A NewStream is one that is being made. Closed before Commit it leaves nothing.
type NewStream interface {
	Stream
	io.WriterAt
	Commit() error
}

// A Content is a file's content as its layer has it.
type Content interface {
	// ReadAt reads verified bytes. It is as io.ReaderAt's.
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
}

// A Verify says which reads wait until an object's whole digest matched.
type Verify int

// The ways to verify. An object of up to 4 MiB is verified before its first
// byte is served in all of them.
const (
	AtEnd      Verify = iota // reads that touch the last MiB
	BeforeRead               // every read
	NeverHold                // none
)

// Options regulate a mount. A nil *Options means the zero value.
type Options struct {
	AllowOther    bool             // let users other than the one who mounts in
	Offline       bool             // show what the store holds and nothing else
	TagTTL        time.Duration    // how long a tag's digest holds; 0 is a minute, < 0 is not at all
	Verify        Verify           // which reads wait for the digest
	Platform      ocispec.Platform // of which manifest.json is; the zero value is the host's, see MountImage
	DistrustTOC   bool             // index every layer's tar, also where it has a table of contents
	UserOverlay   bool             // mark opaque directories in layers/N by user.overlay.opaque
	Log           *slog.Logger     // nil discards
	Dev, Suid     bool             // leave out nodev, nosuid
	NoExec        bool             // no program below the mount is run
	NoPassthrough bool             // read complete objects through this process too
	StateDir      string           // where mounts leave word that they live; "" is under /run
	Grace         time.Duration    // how long Unmount serves who is still in; 0 is 30 s
}

const (
	defaultTagTTL = time.Minute
	defaultGrace  = 30 * time.Second
)

// withDefaults returns a copy of o in which the defaults are spelled out.
func (o *Options) withDefaults() Options {
	var opts Options
	if o != nil {
		opts = *o
	}
	if opts.TagTTL == 0 {
		opts.TagTTL = defaultTagTTL
	}
	if opts.Grace == 0 {
		opts.Grace = defaultGrace
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.StateDir == "" {
		opts.StateDir = defaultStateDir()
	}
	return opts
}
