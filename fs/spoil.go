package fs

import "github.com/opencontainers/go-digest"

// spoilt is called when an object that was whole was found to have other bytes.
// Whoever opens it from now on finds a new inode; who has it open gets EIO, but
// not where the kernel reads the file itself.
func (s *server) spoilt(dgst digest.Digest) {
	for _, n := range s.table.all() {
		switch n := n.(type) {
		case *whole:
			if n.key.dgst == dgst {
				n.spoil()
			}
		case *lazy:
			// It can have pages of the time when it was whole.
			if n.key.dgst == dgst && !n.isBad() {
				s.tasks.Go(func() { s.drop(n) })
			}
		}
	}
}

func (w *whole) spoil() {
	if w.spoilt.Swap(true) {
		return
	}
	w.s.log.Error("wrong bytes in the store", "path", w.path)
	w.s.objects.failed(w.key, w.attempt)
	w.s.lists.touch(w.key.loc.String()) // listings tell st_ino
	// In a goroutine of its own, for it waits for the reads that are held.
	w.s.tasks.Go(func() { w.s.drop(w) })
}
