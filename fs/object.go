package fs

import (
	iofs "io/fs"
	"sync"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"distfs/locator"
)

// passFrom is the size from which on the kernel reads a whole object itself.
// Smaller ones are read faster from its own cache.
const passFrom = 1 << 20

// An objectKey is an object of a repository.
type objectKey struct {
	loc  locator.Locator
	dgst digest.Digest
}

// objects is what is remembered of objects beyond the life of their nodes. The
// zero value is ready.
type objects struct {
	mu       sync.Mutex
	attempts map[objectKey]int       // how often the digest did not match; guarded by mu
	unpassed map[objectKey]bool      // the kernel would not take the file; guarded by mu
	lost     map[objectKey]time.Time // was whole and is not, as of then; guarded by mu
}

func (o *objects) attempt(k objectKey) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.attempts[k]
}

// failed ends an attempt, if it is still the last one.
func (o *objects) failed(k objectKey, attempt int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.attempts == nil {
		o.attempts = make(map[objectKey]int)
	}
	if o.attempts[k] == attempt {
		o.attempts[k]++
	}
}

func (o *objects) refused(k objectKey) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.unpassed == nil {
		o.unpassed = make(map[objectKey]bool)
	}
	o.unpassed[k] = true
}

func (o *objects) lose(k objectKey) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.lost == nil {
		o.lost = make(map[objectKey]time.Time)
	}
	o.lost[k] = time.Now()
}

// form is that of an object whose bytes are all here.
func (o *objects) form(k objectKey, size int64, pass bool) form {
	o.mu.Lock()
	defer o.mu.Unlock()
	if since, ok := o.lost[k]; ok {
		if time.Since(since) < failureHolds {
			return formLazy
		}
		delete(o.lost, k)
	}
	if pass && size >= passFrom && !o.unpassed[k] {
		return formPassed
	}
	return formCached
}

// object returns the node of an object as things are now.
func (s *server) object(loc locator.Locator, dgst digest.Digest, path string) (node, error) {
	if s.opts.Offline && !s.here(loc, dgst) {
		return nil, iofs.ErrNotExist
	}
	k := objectKey{loc, dgst}
	desc, known := s.src.Known(loc, dgst)
	if known {
		if _, committed := s.src.Local(loc, dgst); !committed.IsZero() {
			if f := s.objects.form(k, desc.Size, s.conn.passes); f != formLazy {
				return newWhole(s, k, desc, path, f), nil
			}
		}
	} else {
		desc = s.hearsay(k)
	}
	n := newLazy(s, k, desc, path)
	if old, ok := s.table.find(n.id).(*lazy); ok && old.isBad() {
		n = newLazy(s, k, desc, path)
	}
	return n, nil
}

// hint is all that is known of an object without asking: its repository's own
// word, or hearsay.
func (s *server) hint(loc locator.Locator, dgst digest.Digest) ocispec.Descriptor {
	said := s.hearsay(objectKey{loc, dgst})
	desc, ok := s.src.Known(loc, dgst)
	switch {
	case !ok:
		return said
	case said.MediaType != "" && desc.MediaType == octets:
		desc.MediaType = said.MediaType
	}
	return desc
}

// octets is the media type of which a manifest knows better: a registry, and a layout,
// know none of a blob.
const octets = "application/octet-stream"

// hearsay is what a manifest or a tag says of an object. Its Size is
// unknownSize where none does.
func (s *server) hearsay(k objectKey) ocispec.Descriptor {
	if desc, ok := s.images.hints.get(k); ok {
		return desc
	}
	return ocispec.Descriptor{Digest: k.dgst, Size: unknownSize}
}

// unknownSize is the size in a hint that has none.
const unknownSize = -1

func objectAttributes(size int64, entry, valid time.Duration) attributes {
	return attributes{mode: syscall.S_IFREG | 0o444, size: size, entry: entry, valid: valid}
}
