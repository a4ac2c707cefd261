package content

import (
	"encoding/json"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The format's version is a file's whole content, so that a store of the future can be named even if all else has changed.
const (
	versionFile = "distfs-store"
	version     = "distfs store 1\n"
)

// algorithms are those that a digest may have.
var algorithms = []digest.Algorithm{digest.SHA256, digest.SHA384, digest.SHA512}

// makeDir makes dir if it isn't there, and returns its path with symlinks resolved if it is ours alone.
func makeDir(dir string) (string, error) {
	if dir == "" {
		return "", errors.New("no directory given")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return "", err
	}
	switch err := os.Mkdir(dir, 0o700); {
	case err == nil:
		if err := os.Chmod(dir, 0o700); err != nil { // whatever the umask
			return "", err
		}
	case !errors.Is(err, iofs.ErrExist):
		return "", err
	}
	path, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", err
	}
	return path, checkDir(path)
}

// checkDir says why the directory path can't be trusted with a store.
func checkDir(path string) error {
	fi, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !fi.IsDir() {
		return &iofs.PathError{Op: "open", Path: path, Err: syscall.ENOTDIR}
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%w: it belongs to uid %d and this process is uid %d: a store has one owner",
			iofs.ErrPermission, st.Uid, os.Geteuid())
	}
	if fi.Mode().Perm()&0o077 == 0 {
		return nil
	}
	switch entries, err := os.ReadDir(path); {
	case err != nil:
		return err
	case len(entries) == 0: // nobody has put anything there yet
		return os.Chmod(path, 0o700)
	case !slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == versionFile }):
		return notStore(entries[0].Name())
	}
	return fmt.Errorf("%w: it has mode %04o, others could read or change it; run: chmod 0700 %s",
		iofs.ErrPermission, fi.Mode().Perm(), path)
}

func notStore(name string) error {
	return fmt.Errorf("the directory holds %q and no %s: it is no store, and not empty either", name, versionFile)
}

// lay makes what a store has and this one has not. Several processes may do so at once.
func (s *Store) lay() error {
	if err := s.checkVersion(); err != nil {
		return err
	}
	dirs := []string{"ingest", "locks", "pins", "repos"}
	for _, algorithm := range algorithms { // all of them now: who watches a store watches these
		dirs = append(dirs, filepath.Join("blobs", algorithm.String()))
	}
	for _, dir := range dirs {
		if err := os.MkdirAll(s.path(dir), 0o700); err != nil && !errors.Is(err, syscall.EROFS) { // what can only be read is not added to
			return err
		}
	}
	layout := ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}
	if err := s.layFile(ocispec.ImageLayoutFile, layout); err != nil {
		return err
	}
	if err := s.layFile(ocispec.ImageIndexFile, noImages()); err != nil {
		return err
	}
	b, err := readBounded(s.path(ocispec.ImageLayoutFile))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, &layout); err != nil {
		return fmt.Errorf("%s: %w", ocispec.ImageLayoutFile, err)
	}
	if layout.Version != ocispec.ImageLayoutVersion {
		return fmt.Errorf("%s has version %q, this program knows %q", ocispec.ImageLayoutFile, layout.Version, ocispec.ImageLayoutVersion)
	}
	return nil
}

// layFile writes v as JSON to the file name, unless it is there.
func (s *Store) layFile(name string, v any) error {
	if _, err := os.Lstat(s.path(name)); !errors.Is(err, iofs.ErrNotExist) {
		return err
	}
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return writeNew(s.path("ingest"), s.path(name), b)
}

// checkVersion compares the store's version with ours, and writes ours into a directory that is empty.
func (s *Store) checkVersion() error {
	for range 2 { // again if another process made the store meanwhile
		b, err := readBounded(s.path(versionFile))
		if err == nil {
			return compareVersion(string(b))
		}
		if !errors.Is(err, iofs.ErrNotExist) {
			return err
		}
		entries, err := os.ReadDir(s.dir)
		if err != nil {
			return err
		}
		made := false
		for _, e := range entries {
			switch name := e.Name(); {
			case name == versionFile:
				made = true
			case name == "lost+found", strings.HasPrefix(name, newPrefix):
			case !made: // entries are sorted, but what sorts before distfs-store may be the store's too
				if _, err := os.Lstat(s.path(versionFile)); err == nil {
					made = true
					continue
				}
				return notStore(name)
			}
		}
		if made {
			continue
		}
		if err := writeNew(s.dir, s.path(versionFile), []byte(version)); err != nil {
			return err
		}
	}
	b, err := readBounded(s.path(versionFile))
	if err != nil {
		return err
	}
	return compareVersion(string(b))
}

func compareVersion(have string) error {
	if have == version {
		return nil
	}
	if len(have) > 64 {
		have = have[:64] + "…"
	}
	return fmt.Errorf("its format is %q, this program knows %q", strings.TrimSpace(have), strings.TrimSpace(version))
}
