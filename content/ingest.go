package content

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// An Ingest is bytes on their way into a store: a file as long as the blob, and the map of the chunks that it has.
// All methods may be called by many goroutines at once, and all but Close fail with os.ErrClosed after Close.
type Ingest struct {
	s       *Store
	e       Expect // as merged with what was recorded; but for Total, which End may find out
	total   atomic.Int64
	resumed bool
	lock    *lockFile // claims, structure and, by key, the writer
	release func()    // who evicts spares it until then

	life   sync.RWMutex // held for reading by every call, so that Close waits
	closed bool
	data   *os.File
	ranges *rangeMap
	last   State // once closed

	structure sync.Mutex // held with structureByte, which can't exclude goroutines of one Ingest
	claims    claims
	disk      checkpoints
	front     front
}

// Ingest opens the ingest that e means, and makes it where there is none.
//
// The error is fs.ErrExist if the blob, or of a derived ingest the file, is in the store already, a *ConflictError if the ingest was begun with another
// total or digest, and a *LockedError if it is by key and has its writer, in this process or another.
func (s *Store) Ingest(e Expect) (*Ingest, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	if err := e.check(); err != nil {
		return nil, err
	}
	if !e.shared() {
		e.Origin = ""
	}
	g, err := s.openIngest(e)
	if err == nil {
		return g, nil
	}
	_, conflict := errors.AsType[*ConflictError](err)
	_, locked := errors.AsType[*LockedError](err)
	if conflict || locked { // they say which ingest
		return nil, err
	}
	return nil, fmt.Errorf("ingest %.200s: %w", e.label(), err)
}

func (s *Store) openIngest(e Expect) (_ *Ingest, err error) {
	name := e.name()
	release := func() {}
	if e.shared() { // by key it has its writer's lock
		if release, err = s.Hold(e.Digest); err != nil {
			return nil, err
		}
	}
	defer func() {
		if err != nil {
			release()
		}
	}()
	lock, err := s.openLock(name)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			lock.close()
		}
	}()
	if err := lock.wait(structureByte); err != nil {
		return nil, err
	}
	defer lock.unlock(structureByte, 1)
	if !e.shared() {
		if err := lock.becomeWriter(e.Ref); err != nil {
			return nil, err
		}
	}
	if e.Digest != "" {
		there, err := isFile(s.goal(e, e.Digest))
		if err != nil {
			return nil, err
		}
		if there {
			return nil, errors.Join(fmt.Errorf("blob: %w", iofs.ErrExist), s.retire(name, Discarded))
		}
	}
	g := &Ingest{s: s, e: e, lock: lock, release: release}
	err = g.load()
	if errors.Is(err, errDamaged) {
		if err := s.retire(name, Discarded); err != nil {
			return nil, err
		}
		if err := s.create(e); err != nil {
			return nil, err
		}
		err = g.load()
	}
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(g.data.Fd()), &st); err == nil {
		used(filepath.Join(g.dir(), "data"), &st)
	}
	return g, nil
}

// create makes the directory of an ingest that is not there, aside, so that nobody sees it half made.
// The structure must be locked.
func (s *Store) create(e Expect) (err error) {
	dir, err := os.MkdirTemp(s.path("ingest"), newPrefix+"*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(noSpace(err), os.RemoveAll(dir))
		}
	}()
	if err := writeExpect(dir, dir, expectationOf(e, time.Now().UTC())); err != nil {
		return err
	}
	if err := createSized(filepath.Join(dir, "data"), nil, max(e.Total, 0)); err != nil {
		return err
	}
	h := header{boot: s.boot, total: e.Total}
	b := h.bytes()
	if e.Total >= 0 {
		// Written, and not left to a hole: where the disk is full that is an error
		// now, and not a signal when the map is read.
		b = append(b, make([]byte, mapChunks(e.Total))...)
	}
	if err := createSized(filepath.Join(dir, "ranges"), b, headerSize+mapChunks(e.Total)); err != nil {
		return err
	}
	return os.Rename(dir, s.path("ingest", e.name()))
}

// createSized makes a file that begins with b and is size bytes long.
func createSized(path string, b []byte, size int64) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Truncate(size), f.Close())
}

// retire takes the ingest name out of the way, for good; who has it open sees the state st. It need not be there.
// The structure must be locked.
func (s *Store) retire(name string, st State) error {
	dir := s.path("ingest", name)
	if _, err := os.Lstat(dir); errors.Is(err, iofs.ErrNotExist) {
		return nil
	}
	if f, err := os.OpenFile(filepath.Join(dir, "ranges"), os.O_WRONLY, 0); err == nil {
		if err := errors.Join(setState(f, st), f.Close()); err != nil {
			return err
		}
	}
	for {
		gone, err := os.MkdirTemp(s.path("ingest"), gonePrefix+"*")
		if err != nil {
			return err
		}
		err = os.Rename(dir, filepath.Join(gone, name))
		if err == nil {
			return os.RemoveAll(gone)
		}
		if !errors.Is(err, iofs.ErrNotExist) {
			return errors.Join(err, os.Remove(gone))
		}
		// A process that opens the store has swept gone away, or the ingest is no more.
		_ = os.Remove(gone)
		if _, err := os.Lstat(dir); err != nil {
			return nil //nolint:nilerr // it is out of the way
		}
	}
}

// Total returns the blob's size in bytes, or -1 while it isn't known.
func (g *Ingest) Total() int64 { return g.total.Load() }

// Chunks returns how many chunks the blob has, or -1 while that isn't known. All but the last are ChunkSize long.
func (g *Ingest) Chunks() int64 {
	if total := g.Total(); total >= 0 {
		return chunksOf(total)
	}
	return -1
}

// Resumed says whether the ingest had chunks when it was opened.
func (g *Ingest) Resumed() bool { return g.resumed }

// File returns the file that holds the chunks that are there, and zeros elsewhere. After Commit it is the blob, also for
// those who had the ingest open in other processes; or, if the blob was there already, it has the same bytes. It is only to be
// read, and is valid until Close.
func (g *Ingest) File() *os.File { return g.data }

// State returns what has become of the ingest, here or in any other process. It costs no call of the kernel.
func (g *Ingest) State() State {
	g.life.RLock()
	defer g.life.RUnlock()
	if g.closed {
		return g.last
	}
	return g.ranges.state()
}

// Close lets go of the claims, of the right to hash and commit, and of the files, when the calls that run have returned.
// What was written since the last checkpoint it syncs, if the ingest is still filling. To close it again does nothing.
func (g *Ingest) Close() error {
	g.life.Lock()
	defer g.life.Unlock()
	if g.closed {
		return nil
	}
	err := g.checkpoint()
	g.last = g.ranges.state()
	g.closed = true
	g.front.close()
	err = errors.Join(err, g.ranges.close(), g.data.Close(), g.lock.close())
	g.release()
	return err
}

// enter begins a call, which ends with g.life.RUnlock.
func (g *Ingest) enter() error {
	g.life.RLock()
	if g.closed {
		g.life.RUnlock()
		return g.wrap(os.ErrClosed)
	}
	return nil
}

// filling returns the error of changing an ingest that is no longer filling.
func (g *Ingest) filling() error {
	if err := g.ended(); err != nil {
		return g.wrap(err)
	}
	return nil
}

func (g *Ingest) ended() error {
	switch g.ranges.state() {
	case Filling:
		return nil
	case Committed:
		return iofs.ErrExist
	default:
		return ErrDiscarded
	}
}

func (g *Ingest) wrap(err error) error {
	return fmt.Errorf("ingest %.200s: %w", g.e.label(), err)
}

// goal returns where what e means lies once it is committed with the digest dgst.
func (s *Store) goal(e Expect, dgst digest.Digest) string {
	if e.Derived {
		return s.filePath(s.boot, dgst)
	}
	return s.blobPath(dgst)
}

func (g *Ingest) dir() string { return g.s.path("ingest", g.e.name()) }

func (g *Ingest) want() digest.Digest { return g.e.Digest }
