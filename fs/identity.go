package fs

import (
	"crypto/sha256"
	"encoding/binary"
	"strconv"

	"github.com/opencontainers/go-digest"

	"distfs/locator"
)

// An identity is what makes an inode the same inode: 63 bits that programs
// see as st_ino, and 64 more, its generation. Both are cut from a SHA-256, so
// that no two names can be made to share them.
type identity struct{ ino, gen uint64 }

// identify hashes a kind and what is told apart within it.
func identify(kind string, parts ...string) identity {
	return cut(sum(kind, parts...), 1)
}

// sum hashes its arguments with their lengths, so that no two lists collide.
func sum(kind string, parts ...string) [sha256.Size]byte {
	b := make([]byte, 0, 256)
	b = appendPart(b, kind)
	for _, p := range parts {
		b = appendPart(b, p)
	}
	return sha256.Sum256(b)
}

func appendPart(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// cut takes st_ino from the first 63 bits and the generation from the i-th of
// the other three words.
func cut(h [sha256.Size]byte, i int) identity {
	return identity{
		ino: binary.BigEndian.Uint64(h[:]) >> 1,
		gen: binary.BigEndian.Uint64(h[8*i:]),
	}
}

// A form is what an object's inode is for. The forms of one object have one
// st_ino, for cp and fts compare it, and differ in their generation.
type form int

const (
	formLazy   form = 1 + iota // partly here
	formPassed                 // whole, read by the kernel from the store's file
	formCached                 // whole, read through this process
)

// identifyObject is the identity of one form of an object. The attempt goes up
// each time that its digest did not match.
func identifyObject(loc locator.Locator, dgst digest.Digest, attempt int, f form) identity {
	return cut(sum("object", loc.Host, loc.Path, string(dgst), strconv.Itoa(attempt)), int(f))
}
