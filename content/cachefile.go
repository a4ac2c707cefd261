package content

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// Files of trees are derived: they are made again from a layer. So nothing of them is synced. Of this boot what may be read is
// whole, for it got the mode 0400 when it was written, 0200 before; of an earlier one, which a power cut may have ended, that says
// nothing. (To write a file without a name and link it takes up to five times as long.)

// bootFilesAge is how old the files of an earlier boot are when they are removed without being asked for.
const bootFilesAge = 30 * 24 * time.Hour

// File opens the content of a file of a tree, kept by KeepFile or committed from a derived ingest, which is a use of it. The
// caller closes it. One of an earlier boot is hashed first: that takes as long as it takes to read it.
// The error is fs.ErrNotExist if it isn't kept.
func (s *Store) File(dgst digest.Digest) (*os.File, error) {
	if err := s.checkBlob(dgst); err != nil {
		return nil, err
	}
	f, err := openWhole(s.filePath(s.boot, dgst))
	for _, boot := range s.boots {
		if !errors.Is(err, iofs.ErrNotExist) {
			break
		}
		f, err = s.carryOver(boot, dgst)
	}
	if err != nil {
		return nil, fmt.Errorf("file %s: %w", dgst, bare(err))
	}
	return f, nil
}

// HasFile says whether File has something to open, which of an earlier boot need not be right.
func (s *Store) HasFile(dgst digest.Digest) bool {
	if s.checkBlob(dgst) != nil {
		return false
	}
	return isWhole(s.filePath(s.boot, dgst)) || slices.ContainsFunc(s.boots, func(boot bootID) bool { return isWhole(s.filePath(boot, dgst)) })
}

// openWhole opens a file of this boot if it was written to its end.
func openWhole(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		if errors.Is(err, iofs.ErrPermission) { // root may, others may not
			err = iofs.ErrNotExist
		}
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Mode&0o400 == 0 {
		f.Close()
		return nil, errors.Join(iofs.ErrNotExist, err)
	}
	used(path, &st)
	return f, nil
}

// KeepFile keeps b as the content of a file of a tree. One that is kept already is left alone.
// The error is a *MismatchError if b has another digest than dgst. With any other one, as of a full disk (syscall.ENOSPC), b has
// it and is not kept.
func (s *Store) KeepFile(dgst digest.Digest, b []byte) error {
	if err := s.checkBlob(dgst); err != nil {
		return err
	}
	if got := dgst.Algorithm().FromBytes(b); got != dgst {
		return &MismatchError{Ref: string(dgst), Want: dgst, Got: got}
	}
	path := s.filePath(s.boot, dgst)
	err := writeWhole(path, b)
	if errors.Is(err, iofs.ErrNotExist) { // the first of its directory
		if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
			err = writeWhole(path, b)
		}
	}
	if errors.Is(err, iofs.ErrExist) && !isWhole(path) { // somebody writes it, or died when he did
		err = replace(s.path("ingest"), path, b, func(f *os.File) error { return f.Chmod(0o400) })
	}
	if err != nil && !errors.Is(err, iofs.ErrExist) {
		return fmt.Errorf("file %s: %w", dgst, noSpace(bare(err)))
	}
	return nil
}

// writeWhole writes b to the new file path, which may be read when it is whole. The error is fs.ErrExist if there is one.
func writeWhole(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o200)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Write(b)
	if err == nil {
		err = f.Chmod(0o400)
	}
	if err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

func isWhole(path string) bool {
	fi, err := os.Lstat(path)
	return err == nil && fi.Mode() == 0o400
}

// carryOver opens a file of an earlier boot and makes it one of this boot. One that hasn't its digest is removed, and the error
// is fs.ErrNotExist.
func (s *Store) carryOver(boot bootID, dgst digest.Digest) (_ *os.File, err error) {
	old, path := s.filePath(boot, dgst), s.filePath(s.boot, dgst)
	f, err := os.Open(old)
	if errors.Is(err, iofs.ErrPermission) { // it was not written to its end
		return nil, errors.Join(iofs.ErrNotExist, os.Remove(old))
	}
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	got, err := hashFile(context.Background(), f, dgst.Algorithm())
	if err == nil && got != dgst || errors.Is(err, unix.EIO) {
		return nil, errors.Join(iofs.ErrNotExist, os.Remove(old))
	}
	if err != nil {
		return nil, err
	}
	if f.Chmod(0o400) == nil && os.MkdirAll(filepath.Dir(path), 0o700) == nil && os.Rename(old, path) == nil { // else the next one hashes it again
		touch(path)
	}
	_, err = f.Seek(0, io.SeekStart)
	return f, err
}

// sweepFiles removes the directories of earlier boots that are empty or old, and remembers the others.
func (s *Store) sweepFiles() error {
	boots, err := readDir(s.path("cache", "files"))
	if err != nil {
		return err
	}
	for _, e := range boots {
		boot, ok := parseBootID(e.Name())
		if !ok || boot == s.boot {
			continue
		}
		dir := s.path("cache", "files", e.Name())
		algs, err := readDir(dir)
		if err != nil {
			return err
		}
		for _, alg := range algs {
			path := filepath.Join(dir, alg.Name())
			if fi, err := alg.Info(); err == nil && time.Since(fi.ModTime()) > bootFilesAge {
				_ = os.RemoveAll(path)
			} else {
				_ = os.Remove(path) // if it is empty
			}
		}
		if os.Remove(dir) != nil {
			s.boots = append(s.boots, boot)
		}
	}
	return nil
}

func (s *Store) filePath(boot bootID, dgst digest.Digest) string {
	return s.path("cache", "files", boot.String(), dgst.Algorithm().String(), dgst.Encoded())
}

// String returns the id as its directory in cache/files is named.
func (id bootID) String() string { return hex.EncodeToString(id[:]) }

func parseBootID(name string) (id bootID, ok bool) {
	b, err := hex.DecodeString(name)
	ok = err == nil && len(b) == len(id) && hex.EncodeToString(b) == name
	copy(id[:], b)
	return id, ok
}
