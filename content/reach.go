package content

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const maxIndex = 64 << 20 // bytes of index.json: some 200,000 images

// Reachable returns the blobs that index.json names, and those that the manifests and indexes named there name, however deep, as
// far as the store has them. They are not to be evicted: an image that is whole stays so.
//
// What is no manifest, is larger than 4 MiB or lost on the disk keeps only itself. That index.json can't be read, or a manifest
// can't be opened, is an error, for then nobody knows what it keeps.
func (s *Store) Reachable() (map[digest.Digest]struct{}, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	roots, err := s.indexed()
	if err != nil {
		return nil, err
	}
	return s.reach(roots)
}

// Kept returns what is reachable, as Reachable says, from index.json and from pins, and what is pinned itself: all that is not to
// be evicted though nobody has it open. What is on its way in counts too.
func (s *Store) Kept() (map[digest.Digest]struct{}, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	roots, err := s.indexed()
	if err != nil {
		return nil, err
	}
	pins, err := s.Pins()
	if err != nil {
		return nil, err
	}
	return s.reach(append(roots, pins...))
}

// indexed returns the digests that index.json names. They may be no digests.
func (s *Store) indexed() ([]digest.Digest, error) {
	b, err := readAtMost(s.path(ocispec.ImageIndexFile), maxIndex)
	if errors.Is(err, iofs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ocispec.ImageIndexFile, bare(err))
	}
	var index struct {
		Manifests []struct {
			Digest digest.Digest `json:"digest"`
		} `json:"manifests"`
	}
	if err := json.Unmarshal(b, &index); err != nil {
		return nil, fmt.Errorf("%s: %w", ocispec.ImageIndexFile, err)
	}
	digests := make([]digest.Digest, len(index.Manifests))
	for i, m := range index.Manifests {
		digests[i] = m.Digest
	}
	return digests, nil
}

// reach returns what is here of roots and of what they name.
func (s *Store) reach(roots []digest.Digest) (map[digest.Digest]struct{}, error) {
	coming, err := s.coming()
	if err != nil {
		return nil, err
	}
	w := walk{s: s, coming: coming, found: make(map[digest.Digest]struct{}), read: make(map[digest.Digest]bool)}
	if err := w.manifests(roots); err != nil {
		return nil, err
	}
	for len(w.unread) > 0 {
		dgst := w.unread[len(w.unread)-1]
		w.unread = w.unread[:len(w.unread)-1]
		if err := w.follow(dgst); err != nil {
			return nil, err
		}
	}
	return w.found, nil
}

// coming returns the digests that have an ingest.
func (s *Store) coming() (map[digest.Digest]bool, error) {
	entries, err := readDir(s.path("ingest"))
	if err != nil {
		return nil, err
	}
	coming := make(map[digest.Digest]bool)
	for _, e := range entries {
		if dgst := ingestDigest(e.Name()); dgst.Validate() == nil && !isDerived(e.Name()) {
			coming[dgst] = true
		}
	}
	return coming, nil
}

// A walk goes down from index.json. Each manifest is read once, so that it ends when there are no more, however deep they stand.
type walk struct {
	s      *Store
	coming map[digest.Digest]bool // has an ingest
	found  map[digest.Digest]struct{}
	read   map[digest.Digest]bool // for what they name, or to be
	unread []digest.Digest        // of these, those to be
}

// manifests adds what is to be read.
func (w *walk) manifests(all []digest.Digest) error {
	for _, dgst := range all {
		there, err := w.add(dgst)
		if err != nil {
			return err
		}
		if there && !w.read[dgst] {
			w.read[dgst] = true
			w.unread = append(w.unread, dgst)
		}
	}
	return nil
}

// follow adds what a manifest names.
func (w *walk) follow(dgst digest.Digest) error {
	n, err := w.s.namesOf(dgst)
	if err != nil {
		return err
	}
	for _, p := range n.made() {
		if _, err := w.add(p.Digest); err != nil {
			return err
		}
	}
	return w.manifests(n.followed())
}

// add adds dgst if it is a blob of the store or on its way in. Whatever manifests claim, there are never more than of these.
func (w *walk) add(dgst digest.Digest) (bool, error) {
	if _, known := w.found[dgst]; known {
		return true, nil
	}
	if valid := dgst.Validate() == nil; !valid {
		return false, nil // a manifest may claim what it likes
	}
	there, err := w.s.hasBlob(dgst)
	if there = there || w.coming[dgst]; there {
		w.found[dgst] = struct{}{}
	}
	return there, err
}

// readAtMost reads a file of up to limit bytes. That is no use of it, where the system lets us say so.
func readAtMost(path string, limit int64) ([]byte, error) {
	f, err := openUnused(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := sizeOf(f)
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, fmt.Errorf("%w: larger than %d bytes", errDamaged, limit)
	}
	return io.ReadAll(io.LimitReader(f, limit))
}
