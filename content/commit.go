package content

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// mediaTypeAny is what is known of the type of bytes that nobody described.
const mediaTypeAny = "application/octet-stream"

// Commit makes the blob of what Verify found right: synced, read-only, under its digest, for all and for good. The ingest ends.
// A blob that is there already is as good; then the ingest just ends. Two that commit at once find the same bytes right, and the
// second finds the first one's blob.
//
// If the bytes can't be synced, nobody knows what the disk holds, and they are thrown away.
//
// What is derived becomes a file of this boot instead, and is not synced.
func (g *Ingest) Commit() (ocispec.Descriptor, error) {
	if err := g.enter(); err != nil {
		return ocispec.Descriptor{}, err
	}
	defer g.life.RUnlock()
	f := &g.front
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.got == "" {
		return ocispec.Descriptor{}, g.wrap(errors.New("it isn't verified"))
	}
	desc := ocispec.Descriptor{MediaType: mediaTypeAny, Digest: f.got, Size: g.Total()}
	if g.ranges.state() == Committed {
		return desc, nil
	}
	if err := g.seal(); err != nil {
		return ocispec.Descriptor{}, g.wrap(errors.Join(err, g.discard()))
	}
	if err := g.publish(desc); err != nil {
		return ocispec.Descriptor{}, g.wrap(err)
	}
	return desc, nil
}

// seal makes the bytes durable, unless they are derived.
func (g *Ingest) seal() error {
	size, err := sizeOf(g.data)
	if err != nil {
		return err
	}
	if size != g.Total() {
		return &SizeError{g.e.label(), g.Total(), size}
	}
	if g.e.Derived {
		return nil
	}
	return g.data.Sync()
}

// publish makes what is sealed read-only and renames it to the name of its digest.
func (g *Ingest) publish(desc ocispec.Descriptor) error {
	unlock, err := g.lockStructure()
	if err != nil {
		return err
	}
	defer unlock()
	if g.ranges.state() == Committed {
		return nil // by another, meanwhile
	}
	if err := g.ended(); err != nil {
		return err
	}
	data := filepath.Join(g.dir(), "data")
	if !sameFile(data, g.data) {
		return fmt.Errorf("%s was replaced: %w", data, ErrDiscarded)
	}
	// Not before the lock: who opens the ingest makes a read-only file writable again.
	mode := os.FileMode(0o444)
	if g.e.Derived {
		mode = 0o400
	}
	if err := g.data.Chmod(mode); err != nil {
		return err
	}
	goal := g.s.goal(g.e, desc.Digest)
	there, err := isFile(goal)
	if err != nil {
		return err
	}
	if !there {
		if err := g.rename(data, goal); err != nil {
			return err
		}
	}
	// The blob is there. Should this fail, others find the blob in TryOwn, and Open sweeps.
	_ = g.s.retire(g.e.name(), Committed)
	return nil
}

// rename gives data its final name, durably or not at all, but for what is derived.
func (g *Ingest) rename(data, goal string) error {
	dir := filepath.Dir(goal)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := os.Rename(data, goal); err != nil {
		return err
	}
	if g.e.Derived {
		return nil
	}
	if err := syncPath(dir); err != nil {
		return errors.Join(err, os.Remove(goal), g.s.retire(g.e.name(), Discarded))
	}
	return nil
}

// Discard throws the bytes away. Everyone who has the ingest open, in whatever process, sees the state Discarded. Anyone may do
// so at any time; of an ingest that has ended already it changes nothing.
func (g *Ingest) Discard() error {
	if err := g.enter(); err != nil {
		return err
	}
	defer g.life.RUnlock()
	return g.discard()
}

func (g *Ingest) discard() error { return g.end(Discarded) }

// end ends a filling ingest in the state st.
func (g *Ingest) end(st State) error {
	unlock, err := g.lockStructure()
	if err != nil {
		return g.wrap(err)
	}
	defer unlock()
	return g.endLocked(st)
}

// endAtOnce is end for what is over anyway: where the structure is locked, by who ends it now or stands still, it is left for
// the next who opens the store.
func (g *Ingest) endAtOnce(st State) error {
	if !g.structure.TryLock() {
		return nil
	}
	defer g.structure.Unlock()
	if ok, err := g.lock.try(structureByte, 1); err != nil || !ok {
		return err
	}
	defer g.lock.unlock(structureByte, 1)
	return g.endLocked(st)
}

// endLocked is end. The structure must be locked.
func (g *Ingest) endLocked(st State) error {
	if g.ranges.state() != Filling {
		return nil
	}
	if err := g.ranges.setState(st); err != nil {
		return g.wrap(err)
	}
	if !sameFile(filepath.Join(g.dir(), "ranges"), g.ranges.f) {
		return nil // its successor lies there
	}
	if err := g.s.retire(g.e.name(), st); err != nil {
		return g.wrap(err)
	}
	return nil
}

// lockStructure keeps others from opening, committing and discarding the ingest until unlock.
func (g *Ingest) lockStructure() (unlock func(), err error) {
	g.structure.Lock()
	if err := g.lock.wait(structureByte); err != nil {
		g.structure.Unlock()
		return nil, err
	}
	return func() {
		g.lock.unlock(structureByte, 1)
		g.structure.Unlock()
	}, nil
}

// sameFile says whether path names the file that f is.
func sameFile(path string, f *os.File) bool {
	a, err := os.Lstat(path)
	if err != nil {
		return false
	}
	b, err := f.Stat()
	return err == nil && os.SameFile(a, b)
}
