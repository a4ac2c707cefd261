package content

import (
	"encoding/json"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"time"

	"github.com/opencontainers/go-digest"
)

// A pin is the content of a file in pins/. That the file is there is what counts.
type pin struct {
	Pinned time.Time `json:"pinned"`
}

// Pin keeps dgst, its blob and its ingests, from being evicted until Unpin, and if it is a manifest or an index all that it names,
// as index.json does (see Kept). Nothing of that need be there yet; what is there when Pin returns stays, also if another evicts
// just then. To pin it again changes nothing.
func (s *Store) Pin(dgst digest.Digest) error {
	// Held, it is not just being evicted: who evicts looks for the pin when nobody holds it.
	release, err := s.Hold(dgst)
	if err != nil {
		return err
	}
	defer release()
	there, err := s.Pinned(dgst)
	if err != nil {
		return err
	}
	if there { // perhaps just now, by who waits still
		return s.awaitRemoval()
	}
	b, err := json.Marshal(pin{time.Now().UTC()})
	if err != nil {
		return err
	}
	if err := writeAside(s.path("ingest"), s.pinPath(dgst), b); err != nil {
		return fmt.Errorf("pin %s: %w", dgst, noSpace(err))
	}
	return errors.Join(syncPath(s.path("pins")), s.awaitRemoval())
}

// awaitRemoval waits until who evicts has removed what was seen not to be kept. From then on what is kept now stays.
func (s *Store) awaitRemoval() error {
	lock, err := s.openLock(evictLock)
	if err != nil {
		return err
	}
	defer lock.close()
	return lock.wait(removeByte)
}

// Unpin lets dgst be evicted. The error is fs.ErrNotExist if it isn't pinned.
func (s *Store) Unpin(dgst digest.Digest) error {
	if err := s.checkBlob(dgst); err != nil {
		return err
	}
	if err := os.Remove(s.pinPath(dgst)); err != nil {
		return fmt.Errorf("pin %s: %w", dgst, bare(err))
	}
	return syncPath(s.path("pins"))
}

// Pinned says whether dgst is pinned.
func (s *Store) Pinned(dgst digest.Digest) (bool, error) {
	if err := s.checkBlob(dgst); err != nil {
		return false, err
	}
	_, err := os.Lstat(s.pinPath(dgst))
	if errors.Is(err, iofs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Pins returns all digests that are pinned, sorted. A name that is no digest is left out.
func (s *Store) Pins() ([]digest.Digest, error) { return s.digestsIn(s.path("pins")) }

// digestsIn returns the digests that files of the directory dir are named after, sorted. It need not be there.
func (s *Store) digestsIn(dir string) ([]digest.Digest, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	entries, err := readDir(dir)
	if err != nil {
		return nil, err
	}
	all := make([]digest.Digest, 0, len(entries))
	for _, e := range entries {
		if dgst := namedDigest(e.Name()); dgst.Validate() == nil {
			all = append(all, dgst)
		}
	}
	return all, nil
}

func (s *Store) pinPath(dgst digest.Digest) string { return s.path("pins", digestName(dgst)) }
