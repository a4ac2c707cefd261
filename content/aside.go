package content

import (
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
)

// What begins with these in ingest/ is being made, or is being thrown away.
const (
	newPrefix  = ".new-"
	gonePrefix = ".gone-"
)

// maxRecord is the size in bytes above which a small file of the store is taken for damaged.
const maxRecord = 64 << 10

// writeAside writes b to path: aside, synced, then renamed over whatever is there. Who reads path sees the old or the new
// content, also after a power cut. aside is a directory of the same file system.
func writeAside(aside, path string, b []byte) error {
	return replace(aside, path, b, (*os.File).Sync)
}

// replace writes b to a new file in aside, and then what finish writes or syncs, and renames it over path.
func replace(aside, path string, b []byte, finish func(*os.File) error) error {
	name, err := writeTemp(aside, b, finish)
	if err != nil {
		return err
	}
	if err := os.Rename(name, path); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}

// writeNew is writeAside for a file that isn't there: one that another process has made meanwhile is left alone.
func writeNew(aside, path string, b []byte) error {
	name, err := writeTemp(aside, b, (*os.File).Sync)
	if err != nil {
		return err
	}
	if err := os.Link(name, path); err != nil && !errors.Is(err, iofs.ErrExist) {
		return errors.Join(err, os.Remove(name))
	}
	return os.Remove(name)
}

// writeTemp writes b to a new file in dir, calls finish, and returns its path.
func writeTemp(dir string, b []byte, finish func(*os.File) error) (_ string, err error) {
	f, err := os.CreateTemp(dir, newPrefix+"*") // mode 0600
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(b)
	if err == nil {
		err = finish(f)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return "", err
	}
	return f.Name(), nil
}

// readBounded reads a small file of the store. One that is too large is errDamaged.
func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxRecord+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxRecord {
		return nil, fmt.Errorf("%s: %w: larger than %d bytes", path, errDamaged, maxRecord)
	}
	return b, nil
}

// syncPath makes a file, or the names in a directory, durable.
func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
