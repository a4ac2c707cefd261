package content

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// load opens the files of an ingest and brings its map into a state in which all that it says is true.
// An error that is errDamaged means that there is nothing to go on with. The structure must be locked.
func (g *Ingest) load() (err error) {
	dir := g.dir()
	ranges, err := openPart(dir, "ranges")
	if err != nil {
		return err
	}
	data, err := openPart(dir, "data")
	if err != nil {
		ranges.Close()
		return err
	}
	defer func() {
		if err == nil {
			return
		}
		data.Close()
		if g.ranges != nil {
			g.ranges.close()
			g.ranges = nil
		} else {
			ranges.Close()
		}
	}()
	h, err := readHeader(ranges)
	if err != nil {
		return err
	}
	size, err := sizeOf(data)
	if err != nil {
		return err
	}
	if err := g.merge(dir, h, size); err != nil {
		return err
	}
	if h.total < 0 {
		if err := g.resize(ranges, &h, size); err != nil {
			return err
		}
	}
	if h.total >= 0 && size > h.total {
		return fmt.Errorf("%w: data is longer than %d bytes", errDamaged, h.total)
	}
	if g.ranges, err = newRangeMap(ranges, mapChunks(h.total)); err != nil {
		return err
	}
	g.ranges.top.Store(chunksOf(h.total))
	if h.total < 0 {
		g.ranges.top.Store(size / ChunkSize)
	}
	if err := g.settle(h, size); err != nil {
		return err
	}
	if h.total > size {
		if err := data.Truncate(h.total); err != nil {
			return err
		}
	}
	g.data = data
	g.total.Store(h.total)
	g.resumed = g.ranges.next(0, g.ranges.top.Load(), true) < g.ranges.top.Load()
	g.disk.begin(g.ranges)
	return nil
}

// merge joins what is recorded of the ingest to what g was opened with, and records what is new.
func (g *Ingest) merge(dir string, h header, size int64) error {
	x, err := readExpect(dir, g.e.name())
	if err != nil && !errors.Is(err, errDamaged) {
		return err
	}
	if err != nil {
		x = expectationOf(g.e, time.Now().UTC()) // its header and its name tell all but the label
		x.Total = h.total
	}
	if err == nil && x.Total >= 0 && h.total >= 0 && x.Total != h.total {
		return fmt.Errorf("%w: a total of %d in the map and one of %d recorded", errDamaged, h.total, x.Total)
	}
	x.Total = max(x.Total, h.total)
	e, mergeErr := g.e.merge(x.expect())
	if mergeErr != nil {
		return mergeErr
	}
	if h.total < 0 && e.Total >= 0 && size > e.Total {
		return &ConflictError{e.label(), "a total of at least", strconv.FormatInt(size, 10), strconv.FormatInt(e.Total, 10)}
	}
	g.e = e
	if err != nil || expectationOf(e, x.Started) != x {
		return writeExpect(g.s.path("ingest"), dir, expectationOf(e, x.Started))
	}
	return nil
}

// resize brings the map of an ingest of unknown size, whose data has size bytes, to its length: that of the total if it is
// known now, else the longest, with nothing behind data's last whole chunk.
func (g *Ingest) resize(ranges *os.File, h *header, size int64) error {
	if err := ranges.Truncate(headerSize + size/ChunkSize); err != nil {
		return err
	}
	if err := ranges.Truncate(headerSize + mapChunks(g.e.Total)); err != nil {
		return err
	}
	if g.e.Total < 0 {
		return nil
	}
	h.total = g.e.Total
	_, err := ranges.WriteAt(h.bytes(), 0)
	return err
}

// settle takes out of the map what isn't true: chunks beyond the size bytes of data and, after another boot, what may not have
// reached the disk. Only when that is on the disk is the map one of this boot.
func (g *Ingest) settle(h header, size int64) error {
	m := g.ranges
	for i := range m.top.Load() {
		b := m.at(i)
		if b > synced {
			return fmt.Errorf("%w: chunk %d is %d", errDamaged, i, b)
		}
		end := (i + 1) * ChunkSize
		if h.total >= 0 {
			end = min(end, h.total)
		}
		if b != absent && (end > size || b == written && h.boot != g.s.boot) {
			if err := m.set(i, 1, absent); err != nil {
				return err
			}
		}
	}
	if h.boot == g.s.boot {
		return nil
	}
	if err := m.f.Sync(); err != nil {
		return err
	}
	h.boot = g.s.boot
	if _, err := m.f.WriteAt(h.bytes(), 0); err != nil {
		return err
	}
	return m.f.Sync()
}

// openPart opens a file of an ingest's directory. A missing one is errDamaged.
func openPart(dir, name string) (*os.File, error) {
	path := filepath.Join(dir, name)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, iofs.ErrPermission) { // died in Commit, which makes it read-only
		if err := os.Chmod(path, 0o600); err != nil {
			return nil, err
		}
		f, err = os.OpenFile(path, os.O_RDWR, 0)
	}
	if errors.Is(err, iofs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, fmt.Errorf("%w: no %s", errDamaged, name)
	}
	return f, err
}

// readHeader reads the header of a map that is filling.
func readHeader(f *os.File) (header, error) {
	b := make([]byte, headerSize)
	if n, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return header{}, err
	} else if n < headerSize {
		return header{}, fmt.Errorf("%w: a header of %d bytes", errDamaged, n)
	}
	size, err := sizeOf(f)
	if err != nil {
		return header{}, err
	}
	h, st, err := parseHeader(b, size)
	if err == nil && st != Filling {
		err = fmt.Errorf("%w: it is left over", errDamaged)
	}
	return h, err
}

func sizeOf(f *os.File) (int64, error) {
	fi, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}

// writeExpect writes the file expect of the ingest directory dir. It is synced with the first checkpoint, and can be missed before.
func writeExpect(aside, dir string, x expectation) error {
	b, err := json.Marshal(x)
	if err != nil {
		return err
	}
	return replace(aside, filepath.Join(dir, "expect"), b, func(*os.File) error { return nil })
}
