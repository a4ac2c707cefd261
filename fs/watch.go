package fs

import (
	"errors"
	iofs "io/fs"
	"sync"
)

// A Watcher says when what a Source lists may have changed. All of it may be
// called by many goroutines at once.
type Watcher interface {
	// Add adds a prefix of repositories' paths, as Repos has it, again if need
	// be. What Repos and Objects answer after it, its changes are told of. The
	// error is iofs.ErrNotExist if they answer nothing.
	Add(prefix string) error
	// Remove takes a prefix out.
	Remove(prefix string)
	// Sync returns when all that changed before was told.
	Sync() error
	// Close returns when nothing is told any more.
	Close() error
}

// A watched directory lists what is known of a prefix, as long as somebody says
// when that changes. Then the kernel keeps its listing.
type watchedDir interface {
	node
	watchedPrefix() string
}

// lists is what a mount knows of which listings hold. The kernel asks at each
// opendir whether the listing that it keeps still does, so none that is over is
// read by who opens after that, in whichever order answers and changes meet.
type lists struct {
	s       *server
	watcher Watcher // nil: there is no watching. Set before the first request
	w       Watcher // the same, nil where no listing is kept

	mu       sync.Mutex
	prefixes map[string]*listings // guarded by mu
	version  uint64               // goes up with each change; guarded by mu
	all      uint64               // the version of the last change of all; guarded by mu
	said     bool                 // that there is no watching; guarded by mu
}

// A settledDir lists the same for life, once it is settled.
type settledDir interface {
	node
	settled() bool
}

// listings are those of one prefix.
type listings struct {
	changed uint64        // the version of its last change
	kept    map[node]bool // that the kernel may keep, made after that
}

// start begins to watch, where listings may be kept at all.
func (w *lists) start(s *server) {
	w.s, w.prefixes = s, make(map[string]*listings)
	changed := w.change
	if s.opts.Offline { // there they depend on more: on ranges that are here, and tags
		changed = func([]string) {}
	}
	watcher, err := s.src.Watch(changed, s.spoilt)
	if err != nil {
		s.log.Warn("listings are not kept, nor is seen what is found bad in the store", "err", err)
		return
	}
	w.watcher = watcher
	if !s.opts.Offline {
		w.w = watcher
	}
}

func (w *lists) close() {
	if w.watcher == nil {
		return
	}
	if err := w.watcher.Close(); err != nil {
		w.s.log.Warn("watch", "err", err)
	}
}

// begin is called before d is listed. It returns the version to call keep
// with, and whether changes will be told.
func (w *lists) begin(d watchedDir) (version uint64, ok bool) {
	if w.w == nil {
		return 0, false
	}
	if err := w.w.Sync(); err != nil {
		return 0, false // it ends
	}
	prefix := d.watchedPrefix()
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.w.Add(prefix); err != nil {
		delete(w.prefixes, prefix)
		if !w.said && !errors.Is(err, iofs.ErrNotExist) {
			w.said = true
			w.s.log.Warn("not all listings are kept", "path", d.String(), "err", err)
		}
		return 0, false
	}
	if w.prefixes[prefix] == nil {
		w.version++
		w.prefixes[prefix] = &listings{changed: w.version, kept: make(map[node]bool)}
	}
	return w.version, true
}

// keep says that d was listed for the kernel to keep. What changed since
// version makes it be listed anew.
func (w *lists) keep(d watchedDir, version uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if l := w.prefixes[d.watchedPrefix()]; l != nil && l.changed <= version {
		l.kept[d] = true
	}
}

// holds says whether the listing of d that the kernel has, if it has one, is
// as it would be made now.
func (w *lists) holds(d watchedDir) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.prefixes[d.watchedPrefix()]
	return l != nil && l.kept[d]
}

// change ends the listings of these prefixes, of all for none, and has the
// kernel drop what it has of them, for who has such a directory open. It may be
// called with locks held.
func (w *lists) change(prefixes []string) {
	if over := w.end(prefixes); len(over) > 0 {
		w.s.tasks.Go(func() {
			for _, n := range over {
				w.s.drop(n)
			}
		})
	}
}

// touch is change for what this process learnt of a repository.
func (w *lists) touch(prefix string) { w.change([]string{prefix}) }

func (w *lists) end(prefixes []string) (over []node) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.version++
	end := func(l *listings) {
		l.changed = w.version
		for n := range l.kept {
			over = append(over, n)
		}
		clear(l.kept)
	}
	for _, prefix := range prefixes {
		if l := w.prefixes[prefix]; l != nil {
			end(l)
		}
	}
	if len(prefixes) == 0 {
		w.all = w.version
		for _, l := range w.prefixes {
			end(l)
		}
	}
	return over
}

// forgotten is called for a directory that the kernel has no more. The last
// one of a prefix is watched no more.
func (w *lists) forgotten(d watchedDir) {
	if w.w == nil {
		return
	}
	prefix := d.watchedPrefix()
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.prefixes[prefix]
	if l == nil {
		return
	}
	delete(l.kept, d)
	if len(l.kept) == 0 {
		delete(w.prefixes, prefix)
		w.w.Remove(prefix)
	}
}

// lastAll is the version of the last change that was one of all, and whether
// the next one will be told.
func (w *lists) lastAll() (version uint64, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all, w.w != nil
}

// drop has the kernel drop what it keeps of a node: pages, or a listing.
func (s *server) drop(n node) {
	if id := s.table.id(n); id != 0 {
		s.conn.srv.InodeNotify(id, 0, -1)
	}
}
