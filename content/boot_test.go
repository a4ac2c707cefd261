package content_test

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"distfs/content"
)

var (
	bootA = [16]byte{1, 2, 3}
	bootB = [16]byte{4, 5, 6}
)

func openBoot(tb testing.TB, dir string, boot [16]byte) *content.Store {
	tb.Helper()
	s, err := content.OpenBoot(dir, boot)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// abandon leaves g as a process that is killed does: nothing is synced.
func abandon(t *testing.T, s *content.Store, e content.Expect, b []byte, chunks ...int64) {
	t.Helper()
	g := ingest(t, s, e)
	fill(t, g, b, chunks...)
	dir := g.IngestDir()
	kept := filepath.Join(t.TempDir(), "kept")
	copyMap(t, filepath.Join(dir, "ranges"), kept)
	if err := g.Close(); err != nil { // which syncs
		t.Fatal(err)
	}
	copyMap(t, kept, filepath.Join(dir, "ranges"))
}

func copyMap(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAnotherBoot(t *testing.T) {
	for _, keyed := range []bool{false, true} {
		dir := filepath.Join(t.TempDir(), "store")
		b := randomBytes(20, 9*mib+1)
		e := expect(b)
		if keyed {
			e = content.Expect{Ref: "key", Total: -1}
		}
		s := openBoot(t, dir, bootA)
		g := ingest(t, s, e)
		fill(t, g, b, 0, 3, 4)
		if err := g.Checkpoint(); err != nil {
			t.Fatal(err)
		}
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
		abandon(t, s, e, b, 1, 7)

		// In the same boot all counts.
		g = ingest(t, openBoot(t, dir, bootA), e)
		if got, want := present(g, 10), []int64{0, 1, 3, 4, 7}; !slices.Equal(got, want) {
			t.Errorf("in the same boot it has %v, want %v", got, want)
		}
		ranges, err := os.ReadFile(filepath.Join(g.IngestDir(), "ranges"))
		if err != nil {
			t.Fatal(err)
		}
		g.Close()
		if err := os.WriteFile(filepath.Join(g.IngestDir(), "ranges"), ranges, 0o600); err != nil {
			t.Fatal(err)
		}

		// In another one, what was synced.
		s = openBoot(t, dir, bootB)
		all, err := s.Ingests()
		if err != nil || len(all) != 1 || all[0].Local != 3*mib {
			t.Errorf("Ingests() = %+v, %v, want 3 MiB", all, err)
		}
		g = ingest(t, s, e)
		if got, want := present(g, 10), []int64{0, 3, 4}; !slices.Equal(got, want) {
			t.Errorf("in another boot it has %v, want %v", got, want)
		}
		g.Close()
		abandon(t, s, e, b, 1)
		g = ingest(t, openBoot(t, dir, bootB), e)
		if got, want := present(g, 10), []int64{0, 1, 3, 4}; !slices.Equal(got, want) {
			t.Errorf("in that boot it has %v, want %v", got, want)
		}
	}
}

func present(g *content.Ingest, n int64) (have []int64) {
	for i := range n {
		if g.Has(i, 1) {
			have = append(have, i)
		}
	}
	return have
}

// Close syncs, and who comes after a process that was killed knows that something is to be synced.
func TestCloseSyncs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	b := randomBytes(26, 3*mib)
	e := expect(b)
	s := openBoot(t, dir, bootA)
	abandon(t, s, e, b, 0)
	synctest.Test(t, func(t *testing.T) {
		g := ingest(t, s, e)
		defer g.Close()
		time.Sleep(time.Minute)
		if !g.Due() {
			t.Error("not Due() with chunks that a killed process wrote")
		}
		fill(t, g, b, 1)
	})
	g := ingest(t, openBoot(t, dir, bootB), e)
	if got, want := chunksOf(g), []int64{0, 1}; !slices.Equal(got, want) {
		t.Errorf("after Close and another boot it has %v, want %v", got, want)
	}
}

// Who had an ingest open when its map was destroyed by hand does its successor no harm.
func TestSuccessor(t *testing.T) {
	s := newStore(t)
	b := randomBytes(27, 2*mib)
	old := ingest(t, s, expect(b))
	fill(t, old, make([]byte, 2*mib))
	if err := os.Remove(filepath.Join(old.IngestDir(), "ranges")); err != nil {
		t.Fatal(err)
	}
	g := ingest(t, s, expect(b))
	fill(t, g, b)
	if err := old.Discard(); err != nil {
		t.Fatal(err)
	}
	if err := finish(g); err != nil {
		t.Fatal(err)
	}
	wantBlob(t, s, b)

	keyed := content.Expect{Ref: "key", Total: 2 * mib}
	old = ingest(t, s, keyed)
	fill(t, old, make([]byte, 2*mib))
	if ok, err := old.TryOwn(); !ok || err != nil {
		t.Fatalf("TryOwn = %v, %v", ok, err)
	}
	dir := old.IngestDir()
	if err := errors.Join(old.Verify(), os.Remove(filepath.Join(dir, "data")), os.WriteFile(filepath.Join(dir, "data"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := old.Commit(); !errors.Is(err, content.ErrDiscarded) {
		t.Errorf("Commit of what is no longer there = %v, want ErrDiscarded", err)
	}
	if infos, err := s.Blobs(); err != nil || len(infos) != 1 {
		t.Errorf("Blobs() = %v, %v, want one", infos, err)
	}
}

// Only what is done when Checkpoint begins, and all of that, is synced.
func TestCheckpointBesideWriters(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	b := randomBytes(21, 64*mib)
	e := expect(b)
	g := ingest(t, openBoot(t, dir, bootA), e)
	done := make(chan error)
	go func() {
		var errs []error
		for i := range g.Chunks() {
			errs = append(errs, put(g, b, i))
		}
		done <- errors.Join(errs...)
	}()
	for {
		before := present(g, g.Chunks())
		if err := g.Checkpoint(); err != nil {
			t.Fatal(err)
		}
		ranges, err := os.ReadFile(filepath.Join(g.IngestDir(), "ranges"))
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range before {
			if ranges[64+i] != 2 {
				t.Errorf("chunk %d is %d after a checkpoint", i, ranges[64+i])
			}
		}
		if len(before) == int(g.Chunks()) {
			break
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// damage is what may be found on a disk instead of an ingest; after each the ingest begins anew.
var damage = []struct {
	name string
	do   func(dir string) error
}{
	{"no ranges", func(dir string) error { return os.Remove(dir + "/ranges") }},
	{"no data", func(dir string) error { return os.Remove(dir + "/data") }},
	{"nothing", func(dir string) error {
		return errors.Join(os.Remove(dir+"/data"), os.Remove(dir+"/ranges"), os.Remove(dir+"/expect"))
	}},
	{"a file", func(dir string) error { return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600)) }},
	{"an empty map", func(dir string) error { return os.Truncate(dir+"/ranges", 0) }},
	{"half a header", func(dir string) error { return os.Truncate(dir+"/ranges", 30) }},
	{"a short map", func(dir string) error { return os.Truncate(dir+"/ranges", 64+5) }},
	{"a long map", func(dir string) error { return os.Truncate(dir+"/ranges", 64+7) }},
	{"another magic", func(dir string) error { return overwrite(dir+"/ranges", 0, []byte("distfsR2")) }},
	{"another size", func(dir string) error {
		return overwrite(dir+"/ranges", 24, binary.LittleEndian.AppendUint64(nil, 7*mib))
	}},
	{"almost its size", func(dir string) error {
		return overwrite(dir+"/ranges", 24, binary.LittleEndian.AppendUint64(nil, 5*mib+8))
	}},
	{"a huge size", func(dir string) error {
		return overwrite(dir+"/ranges", 24, binary.LittleEndian.AppendUint64(nil, 1<<63))
	}},
	{"unknown size", func(dir string) error {
		return overwrite(dir+"/ranges", 24, binary.LittleEndian.AppendUint64(nil, 1<<64-1))
	}},
	{"other chunks", func(dir string) error {
		return overwrite(dir+"/ranges", 32, binary.LittleEndian.AppendUint64(nil, 4096))
	}},
	{"a state of its own", func(dir string) error { return overwrite(dir+"/ranges", 40, []byte{9}) }},
	{"committed, but left", func(dir string) error { return overwrite(dir+"/ranges", 40, []byte{1}) }},
	{"discarded, but left", func(dir string) error { return overwrite(dir+"/ranges", 40, []byte{2}) }},
	{"what should be zero", func(dir string) error { return overwrite(dir+"/ranges", 60, []byte{1}) }},
	{"a chunk of garbage", func(dir string) error { return overwrite(dir+"/ranges", 66, []byte{200}) }},
	{"long data", func(dir string) error { return os.Truncate(dir+"/data", 6*mib) }},
}

func overwrite(path string, off int64, p []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(p, off)
	return errors.Join(err, f.Close())
}

func TestDamageBeginsAnew(t *testing.T) {
	for _, d := range damage {
		t.Run(d.name, func(t *testing.T) {
			s := newStore(t)
			b := randomBytes(22, 5*mib+9)
			g := ingest(t, s, expect(b))
			fill(t, g, b, 0, 1, 5)
			if err := g.Close(); err != nil {
				t.Fatal(err)
			}
			if err := d.do(g.IngestDir()); err != nil {
				t.Fatal(err)
			}
			if all, err := s.Ingests(); err != nil || len(all) > 1 {
				t.Errorf("Ingests() = %v, %v", all, err)
			}
			g = ingest(t, open(t, s.Dir()), expect(b))
			if g.Resumed() || g.Has(0, 1) {
				t.Errorf("it was gone on with")
			}
			fill(t, g, b)
			if err := finish(g); err != nil {
				t.Fatal(err)
			}
			wantBlob(t, s, b)
		})
	}
}

// What isn't needed to go on may be missing.
func TestLittleDamageIsMended(t *testing.T) {
	cases := map[string]struct {
		do   func(dir string) error
		want []int64
	}{
		"no expect":        {func(dir string) error { return os.Remove(dir + "/expect") }, []int64{0, 1, 5}},
		"an empty expect":  {func(dir string) error { return os.Truncate(dir+"/expect", 0) }, []int64{0, 1, 5}},
		"another's expect": {func(dir string) error { return os.WriteFile(dir+"/expect", []byte(`{"ref":"x","total":5}`), 0o600) }, []int64{0, 1, 5}},
		"a long expect":    {func(dir string) error { return os.Truncate(dir+"/expect", 1<<20) }, []int64{0, 1, 5}},
		"short data":       {func(dir string) error { return os.Truncate(dir+"/data", 2*mib-1) }, []int64{0}},
		"no data's bytes":  {func(dir string) error { return os.Truncate(dir+"/data", 0) }, nil},
		"died in Commit":   {func(dir string) error { return os.Chmod(dir+"/data", 0o444) }, []int64{0, 1, 5}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			b := randomBytes(22, 5*mib+9)
			g := ingest(t, s, expect(b))
			fill(t, g, b, 0, 1, 5)
			if err := g.Close(); err != nil {
				t.Fatal(err)
			}
			if err := c.do(g.IngestDir()); err != nil {
				t.Fatal(err)
			}
			g = ingest(t, s, expect(b))
			if got := chunksOf(g); !slices.Equal(got, c.want) {
				t.Errorf("it has %v, want %v", got, c.want)
			}
			for i := range g.Chunks() {
				if !g.Has(i, 1) {
					fill(t, g, b, i)
				}
			}
			if st, err := s.IngestStatus(expect(b).Digest, "example.com"); err != nil || st.Offset != st.Total {
				t.Errorf("IngestStatus = %+v, %v", st, err)
			}
			if err := finish(g); err != nil {
				t.Fatal(err)
			}
			wantBlob(t, s, b)
		})
	}
}

// A process died between the rename of data and the end of the ingest.
func TestDiedBehindRename(t *testing.T) {
	s := newStore(t)
	b := randomBytes(23, 3*mib)
	e := expect(b)
	g := ingest(t, s, e)
	other := ingest(t, s, e)
	fill(t, g, b)
	blob := filepath.Join(s.Dir(), "blobs", "sha256", e.Digest.Encoded())
	if err := errors.Join(g.File().Chmod(0o444), os.Rename(filepath.Join(g.IngestDir(), "data"), blob), g.Close()); err != nil {
		t.Fatal(err)
	}
	if ok, err := other.TryOwn(); ok || !errors.Is(err, os.ErrExist) {
		t.Errorf("TryOwn = %v, %v, want fs.ErrExist", ok, err)
	}
	if other.State() != content.Committed {
		t.Errorf("State = %d, want Committed", other.State())
	}
	wantBlob(t, s, b)
}

// FuzzRanges opens an ingest whose map is garbage: it must begin anew or be gone on with, and never be committed wrong.
func FuzzRanges(f *testing.F) {
	b := randomBytes(24, 2*mib+5)
	f.Add([]byte{})
	f.Add([]byte("distfsR1"))
	dir, err := os.MkdirTemp("/dev/shm", "distfs-fuzz-*") // where to sync costs nothing
	if err != nil {
		dir = f.TempDir()
	}
	f.Cleanup(func() { os.RemoveAll(dir) })
	s := open(f, dir)
	g := ingest(f, s, expect(b))
	fill(f, g, b, 1)
	if err := g.Close(); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(filepath.Join(g.IngestDir(), "ranges"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(append(slices.Clone(good), 1))
	all := slices.Clone(good)
	copy(all[64:], []byte{1, 1, 1})
	f.Add(all) // says more than is true
	e := expect(b)
	f.Fuzz(func(t *testing.T, ranges []byte) {
		g := ingest(t, s, e)
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(g.IngestDir(), "ranges"), ranges, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Ingests(); err != nil {
			t.Fatal(err)
		}
		g = ingest(t, s, expect(b))
		defer g.Close()
		if err := fillMissing(g, b); err != nil {
			t.Fatal(err)
		}
		if err := finish(g); err != nil {
			if err := g.Discard(); err != nil {
				t.Fatal(err)
			}
			wantNoBlob(t, s, expect(b).Digest)
			return
		}
		wantBlob(t, s, b)
		if err := s.Delete(expect(b).Digest); err != nil {
			t.Fatal(err)
		}
	})
}

func fillMissing(g *content.Ingest, b []byte) error {
	for i := range g.Chunks() {
		if !g.Has(i, 1) {
			if err := put(g, b, i); err != nil {
				return err
			}
		}
	}
	return nil
}
