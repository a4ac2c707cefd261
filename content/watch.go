package content

import (
	"encoding/binary"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// maxWatched is how many prefixes a Watch takes. Each is two of the user's inotify watches.
const maxWatched = 4096

const (
	namesChange   = unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO
	isGone        = unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_UNMOUNT | unix.IN_IGNORED
	directoryOnly = unix.IN_ONLYDIR | unix.IN_DONT_FOLLOW
)

// A Watch tells when what the store has recorded may have changed, whichever process did it. Its methods may be called by
// many goroutines at once.
type Watch struct {
	s       *Store
	changed func(prefixes []string)
	spoilt  func(digest.Digest)
	file    *os.File // of inotify
	done    chan struct{}
	root    int32 // the watch of the store's directory, for index.json
	blobs   map[int32]digest.Algorithm
	reading sync.Mutex // held from when events are read until they were told; taken before mu
	told    int64      // up to there spoilt was called for what bad.log has; guarded by reading

	mu       sync.Mutex
	prefixes map[int32]string   // by watch; guarded by mu
	watches  map[string][]int32 // by prefix; guarded by mu
	closed   bool               // guarded by mu
}

// Watch has changed called, one call at a time, with the prefixes added to the Watch of which [Store.Repos] or
// [Store.Objects] may now say something else; with none if that is any of them, if blobs were deleted, or if index.json is
// another. The caller closes the Watch.
//
// Before that it has spoilt called, if it isn't nil, with each blob that was moved away: as CheckBlob does it, which found it bad.
// Who has it open has bad bytes. It may be there again by then. Where the kernel lost events it is called for all that were moved
// since the last that it didn't lose, some perhaps a second time.
//
// The error is syscall.EMFILE or ENOSPC if the user has no more inotify instances or watches.
func (s *Store) Watch(changed func(prefixes []string), spoilt func(digest.Digest)) (*Watch, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	w := &Watch{
		s: s, changed: changed, spoilt: spoilt, told: s.badLogEnd(), file: os.NewFile(uintptr(fd), "inotify"), done: make(chan struct{}),
		blobs: make(map[int32]digest.Algorithm), prefixes: make(map[int32]string), watches: make(map[string][]int32),
	}
	if err := w.watchStore(); err != nil {
		w.file.Close()
		return nil, err
	}
	go w.run()
	return w, nil
}

// watchStore watches index.json and all blobs.
func (w *Watch) watchStore() (err error) {
	if w.root, err = w.watch(w.s.dir, unix.IN_MOVED_TO|unix.IN_CLOSE_WRITE|unix.IN_CREATE); err != nil {
		return err
	}
	for _, algorithm := range algorithms {
		wd, err := w.watch(w.s.path("blobs", algorithm.String()), unix.IN_DELETE|unix.IN_MOVED_FROM)
		if errors.Is(err, iofs.ErrNotExist) { // a store on a medium that is only read, and lacks it for good
			continue
		}
		if err != nil {
			return err
		}
		w.blobs[wd] = algorithm
	}
	return nil
}

// Add adds a prefix, "host/a" or "" for all hosts. What is asked of the store after Add, changed will be called for when it is
// so no longer. To add a prefix again is right, and needed once changed was called for it.
//
// The error is fs.ErrNotExist if the store has no records below the prefix, syscall.ENOSPC if the user has no more inotify
// watches or the Watch has 4,096 prefixes, and os.ErrClosed after Close.
func (w *Watch) Add(prefix string) error {
	dir := w.s.path("repos")
	if prefix != "" {
		var err error
		if dir, err = w.s.repoPath(prefix); err != nil {
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return fmt.Errorf("watch: %w", os.ErrClosed)
	}
	if _, ok := w.watches[prefix]; !ok && len(w.watches) == maxWatched {
		return fmt.Errorf("watch %.300q: %d are watched: %w", prefix, maxWatched, syscall.ENOSPC)
	}
	err := w.add(prefix, dir)
	if err == nil {
		err = w.add(prefix, dir+"/_objects")
		if errors.Is(err, iofs.ErrNotExist) { // it will be made in dir
			err = nil
		}
	}
	if err != nil {
		w.remove(prefix)
	}
	return err
}

// add watches one directory for a prefix. w.mu is held.
func (w *Watch) add(prefix, dir string) error {
	wd, err := w.watch(dir, namesChange|unix.IN_DELETE_SELF|unix.IN_MOVE_SELF)
	if err != nil {
		return err
	}
	w.prefixes[wd] = prefix
	if !slices.Contains(w.watches[prefix], wd) {
		w.watches[prefix] = append(w.watches[prefix], wd)
	}
	return nil
}

func (w *Watch) watch(dir string, mask uint32) (int32, error) {
	raw, err := w.file.SyscallConn()
	if err != nil {
		return 0, err
	}
	wd, werr := 0, error(nil)
	err = raw.Control(func(fd uintptr) { wd, werr = unix.InotifyAddWatch(int(fd), dir, mask|directoryOnly) })
	if err := errors.Join(err, werr); err != nil {
		return 0, fmt.Errorf("watch %s: %w", dir, err)
	}
	return int32(wd), nil
}

// Remove takes a prefix out.
func (w *Watch) Remove(prefix string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.remove(prefix)
}

// remove is Remove with w.mu held.
func (w *Watch) remove(prefix string) {
	raw, err := w.file.SyscallConn()
	for _, wd := range w.watches[prefix] {
		delete(w.prefixes, wd)
		if err == nil {
			_ = raw.Control(func(fd uintptr) { _, _ = unix.InotifyRmWatch(int(fd), uint32(wd)) })
		}
	}
	delete(w.watches, prefix)
}

// Close ends the Watch. When it has returned changed is not called any more; changed itself must not call it, nor Sync.
func (w *Watch) Close() error {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	err := w.file.Close()
	<-w.done
	return err
}

// Sync returns when changed was called for all that changed before. The error is os.ErrClosed after Close.
func (w *Watch) Sync() error {
	raw, err := w.file.SyscallConn()
	if err == nil {
		err = raw.Control(w.drain)
	}
	if err != nil {
		return fmt.Errorf("watch: %w", os.ErrClosed) // nothing else fails there
	}
	return nil
}

// run ends when the file is closed.
func (w *Watch) run() {
	defer close(w.done)
	raw, err := w.file.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Read(func(fd uintptr) (done bool) {
		w.drain(fd)
		return false
	})
}

// drain tells of all events that there are.
func (w *Watch) drain(fd uintptr) {
	w.reading.Lock()
	defer w.reading.Unlock()
	told := w.s.badLogEnd() // of what is there by now the events are, too
	defer func() { w.told = told }()
	buf := make([]byte, 16<<10)
	for {
		n, err := unix.Read(int(fd), buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n <= 0 {
			return
		}
		prefixes, moved, all, lost := w.sort(buf[:n])
		if lost {
			var more []digest.Digest
			more, told = w.s.badSince(w.told)
			moved = append(moved, more...)
		}
		if w.spoilt != nil {
			for _, dgst := range moved {
				w.spoilt(dgst)
			}
		}
		switch {
		case all:
			w.changed(nil)
		case len(prefixes) > 0:
			w.changed(prefixes)
		}
	}
}

// sort tells of which prefixes events are, each once, which blobs were moved away, and whether events were lost.
func (w *Watch) sort(events []byte) (prefixes []string, moved []digest.Digest, all, lost bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(events) >= unix.SizeofInotifyEvent {
		wd := int32(binary.NativeEndian.Uint32(events))
		mask := binary.NativeEndian.Uint32(events[4:])
		end := min(unix.SizeofInotifyEvent+int(binary.NativeEndian.Uint32(events[12:])), len(events))
		name := strings.TrimRight(string(events[unix.SizeofInotifyEvent:end]), "\x00")
		events = events[end:]
		prefix, ok := w.prefixes[wd]
		switch {
		case mask&unix.IN_Q_OVERFLOW != 0:
			all, lost = true, true
		case ok:
			if !slices.Contains(prefixes, prefix) {
				prefixes = append(prefixes, prefix)
			}
			if mask&isGone != 0 {
				w.remove(prefix)
			}
		case wd == w.root:
			all = all || name == ocispec.ImageIndexFile
		case mask&(unix.IN_DELETE|unix.IN_MOVED_FROM) != 0: // of a blob
			all = true
			if dgst := digest.NewDigestFromEncoded(w.blobs[wd], name); mask&unix.IN_MOVED_FROM != 0 && dgst.Validate() == nil {
				moved = append(moved, dgst)
			}
		}
	}
	return prefixes, moved, all, lost
}
