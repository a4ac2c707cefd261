package content

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"time"

	"github.com/opencontainers/go-digest"
)

// uploadLock is the lock file in which the byte that a hash of repository and digest says is held by who uploads the one to the
// other.
const uploadLock = "uploads"

// uploadDir has the notes.
const uploadDir = "uploads"

// An UploadNote is where an upload of a blob to a repository can be gone on with, by this process or, when that has ended, by a
// later one. It lies in uploads/ under a hash of both. It need not outlive a power cut.
type UploadNote struct {
	s    *Store
	path string
	lock *lockFile
}

type uploadRecord struct {
	Place string `json:"place"` // a URL, which may be all that is needed to write there
}

// NoteUpload returns the note of dgst's upload to the repository repo, for one process, and one upload in it, at a time: ok is
// false while another has it. The caller closes it.
func (s *Store) NoteUpload(repo string, dgst digest.Digest) (n *UploadNote, ok bool, err error) {
	if err := s.checkBlob(dgst); err != nil {
		return nil, false, err
	}
	if _, err := s.repoPath(repo); err != nil {
		return nil, false, err
	}
	lock, err := s.openLock(uploadLock)
	if err != nil {
		return nil, false, err
	}
	sum := sha256.Sum256([]byte(repo + "@" + dgst.String()))
	if ok, err = lock.try(uploadByte(sum[:]), 1); err != nil || !ok {
		return nil, false, errors.Join(err, lock.close())
	}
	return &UploadNote{s, s.path(uploadDir, hex.EncodeToString(sum[:])), lock}, true, nil
}

func uploadByte(sum []byte) int64 { return int64(binary.BigEndian.Uint64(sum) >> 2) }

// uploadAge is how old a note must be for its session to be gone: registries end those that nobody goes on with after a week
// at most, which is what distribution does unless it is told otherwise.
const uploadAge = 7 * 24 * time.Hour

// sweepUploads removes the notes of uploads that nobody went on with.
func (s *Store) sweepUploads() error {
	entries, err := os.ReadDir(s.path(uploadDir))
	if errors.Is(err, iofs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if fi, err := e.Info(); err == nil && time.Since(fi.ModTime()) > uploadAge {
			errs = append(errs, s.sweepUpload(e.Name()))
		}
	}
	return errors.Join(errs...)
}

// sweepUpload removes a note unless its upload is under way: it may stand still for longer.
func (s *Store) sweepUpload(name string) error {
	sum, err := hex.DecodeString(name)
	if err != nil || len(sum) != sha256.Size {
		return nil // not ours
	}
	lock, err := s.openLock(uploadLock)
	if err != nil {
		return err
	}
	defer lock.close()
	if ok, err := lock.try(uploadByte(sum), 1); err != nil || !ok {
		return err
	}
	if err := os.Remove(s.path(uploadDir, name)); !errors.Is(err, iofs.ErrNotExist) {
		return err
	}
	return nil
}

// Place returns what was kept last; "" is nothing.
func (n *UploadNote) Place() string {
	var r uploadRecord
	b, err := readBounded(n.path)
	if err != nil || json.Unmarshal(b, &r) != nil {
		return ""
	}
	return r.Place
}

// Set keeps place, in the place of what was kept before; "" is nothing.
func (n *UploadNote) Set(place string) error {
	if place == "" {
		_ = os.Remove(n.path) // it need not be there
		return nil
	}
	b, err := json.Marshal(uploadRecord{place})
	if err != nil {
		return err
	}
	if len(b) > maxRecord {
		return fmt.Errorf("the place of an upload of %d bytes", len(b))
	}
	if err := os.MkdirAll(n.s.path(uploadDir), 0o700); err != nil {
		return noSpace(err)
	}
	return noSpace(replace(n.s.path("ingest"), n.path, b, func(*os.File) error { return nil }))
}

// Close lets another have it.
func (n *UploadNote) Close() error { return n.lock.close() }
