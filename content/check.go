package content

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// CheckBlob hashes the blob dgst as it lies on disk. That is no use of it, and leaves the system's cache as it is where the file
// system lets us. If it has another digest the error is a *MismatchError, and if the disk can't read it syscall.EIO; either is
// moved to aside, out of the way of who wants the right bytes; who has it open reads on.
// The error is fs.ErrNotExist if the store doesn't have it.
func (s *Store) CheckBlob(ctx context.Context, dgst digest.Digest) (aside string, err error) {
	return s.checkBy(ctx, dgst, hashFile)
}

// checkBy is CheckBlob that hashes by hash.
func (s *Store) checkBy(ctx context.Context, dgst digest.Digest, hash func(context.Context, *os.File, digest.Algorithm) (digest.Digest, error)) (aside string, err error) {
	if err := s.checkBlob(dgst); err != nil {
		return "", err
	}
	path := s.blobPath(dgst)
	f, err := openDirect(path)
	if err != nil {
		return "", fmt.Errorf("blob %s: %w", dgst, bare(err))
	}
	defer f.Close()
	got, err := hash(ctx, f, dgst.Algorithm())
	var bad error
	switch {
	case errors.Is(err, unix.EIO):
		bad = fmt.Errorf("blob %s: %w", dgst, bare(err))
	case err != nil:
		return "", fmt.Errorf("blob %s: %w", dgst, bare(err))
	case got == dgst:
		return "", nil
	default:
		bad = &MismatchError{Ref: "blob " + string(dgst), Want: dgst, Got: got}
	}
	aside, err = s.setAsideFile(dgst, f)
	if err != nil {
		if !errors.Is(err, iofs.ErrNotExist) {
			err = errors.Join(bad, err)
		}
		return "", err
	}
	return aside, bad
}

// setAsideFile moves a blob to bad/, which is the file f. The error is fs.ErrNotExist if by now it is another.
func (s *Store) setAsideFile(dgst digest.Digest, f *os.File) (string, error) {
	path := s.blobPath(dgst)
	replaced := fmt.Errorf("blob %s: %w: it was replaced meanwhile", dgst, iofs.ErrNotExist)
	if !sameFile(path, f) {
		return "", replaced
	}
	aside, err := s.setAside(dgst)
	if err != nil {
		return "", err
	}
	if !sameFile(aside, f) { // in that moment, by who had it deleted and fetched
		err := os.Link(aside, path)
		if err == nil || errors.Is(err, iofs.ErrExist) {
			err = os.Remove(aside)
		}
		return "", errors.Join(replaced, err)
	}
	return aside, nil
}

// hashFile hashes f, opened by openDirect, from its beginning to its end.
func hashFile(ctx context.Context, f *os.File, alg digest.Algorithm) (digest.Digest, error) {
	hash := alg.Hash()
	buf := alignedBuffer(ChunkSize)
	for {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		n, err := f.Read(buf)
		if errors.Is(err, unix.EINVAL) && isDirect(f) { // this file system wants other blocks, or none
			err = setBuffered(f)
			if err == nil {
				continue
			}
		}
		hash.Write(buf[:n])
		if errors.Is(err, io.EOF) {
			return digest.NewDigest(alg, hash), nil
		}
		if err != nil {
			return "", err
		}
	}
}

// setAside moves a blob to bad/.
func (s *Store) setAside(dgst digest.Digest) (string, error) {
	if err := os.MkdirAll(s.path("bad"), 0o700); err != nil {
		return "", err
	}
	aside := s.asidePath(dgst)
	if err := os.Rename(s.blobPath(dgst), aside); err != nil {
		return "", err
	}
	_ = s.logBad(dgst) // without it who misses the event reads on
	return aside, errors.Join(syncPath(s.path("bad")), syncPath(filepath.Dir(s.blobPath(dgst))))
}

// Aside returns the digests of what CheckBlob moved aside, sorted.
func (s *Store) Aside() ([]digest.Digest, error) { return s.digestsIn(s.path("bad")) }

// DropAside removes what was moved aside from dgst. The error is fs.ErrNotExist if nothing was.
func (s *Store) DropAside(dgst digest.Digest) error {
	if err := s.checkBlob(dgst); err != nil {
		return err
	}
	if err := os.Remove(s.asidePath(dgst)); err != nil {
		return fmt.Errorf("blob %s: %w", dgst, bare(err))
	}
	return nil
}

func (s *Store) asidePath(dgst digest.Digest) string { return s.path("bad", digestName(dgst)) }
