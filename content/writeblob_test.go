package content_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"

	"distfs/content"

	"github.com/opencontainers/go-digest"
)

var errBroken = errors.New("connection reset")

// broken reads b up to its byte at and then fails.
func broken(b []byte, at int) io.Reader {
	return io.MultiReader(bytes.NewReader(b[:at]), iotest.ErrReader(errBroken))
}

// Kinds of readers that count what is read from them.
type (
	plain  struct{ r *bytes.Reader }
	seeker struct{ plain }
	readAt struct{ plain }
)

func (p plain) Read(b []byte) (int, error)                 { return p.r.Read(b) }
func (s seeker) Seek(off int64, whence int) (int64, error) { return s.r.Seek(off, whence) }
func (r readAt) ReadAt(b []byte, off int64) (int, error)   { return r.r.ReadAt(b, off) }
func newPlain(b []byte) plain                              { return plain{bytes.NewReader(b)} }
func newSeeker(b []byte) seeker                            { return seeker{newPlain(b)} }
func newReadAt(b []byte) readAt                            { return readAt{newPlain(b)} }
func writeBlob(s *content.Store, ref string, r io.Reader, size int64, expected digest.Digest) error {
	_, err := s.WriteBlob(context.Background(), ref, r, size, expected)
	return err
}

func TestWriteBlob(t *testing.T) {
	for _, size := range []int{0, 1, mib - 1, mib, mib + 1, 3 * mib, 3*mib + 5} {
		b := randomBytes(30, size)
		dgst := digest.FromBytes(b)
		for _, total := range []int64{int64(size), -1} {
			for _, expected := range []digest.Digest{dgst, ""} {
				s := newStore(t)
				for range 2 { // the second finds it there
					desc, err := s.WriteBlob(t.Context(), "key", iotest.OneByteReader(iotest.DataErrReader(bytes.NewReader(b))), total, expected)
					if err != nil || desc.Digest != dgst || desc.Size != int64(size) {
						t.Fatalf("WriteBlob(%d, %q) of %d bytes = %v, %v", total, expected, size, desc, err)
					}
					wantBlob(t, s, b)
				}
			}
		}
	}
}

// A call that broke off is gone on from: where it was, if the reader can, else from the beginning.
func TestWriteBlobResumes(t *testing.T) {
	b := randomBytes(31, 5*mib+100)
	dgst := digest.FromBytes(b)
	pipe := func(b []byte) io.Reader { // is a Seeker and a ReaderAt, but can be neither
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			w.Write(b)
			w.Close()
		}()
		t.Cleanup(func() { r.Close() })
		return r
	}
	inMiddle := func(b []byte) io.Reader {
		r := bytes.NewReader(append(make([]byte, 1000), b...))
		if _, err := r.Seek(1000, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		return r
	}
	kinds := map[string]struct {
		reader  func(b []byte) io.Reader
		resumes bool
	}{
		"plain":     {func(b []byte) io.Reader { return newPlain(b) }, false},
		"Seeker":    {func(b []byte) io.Reader { return newSeeker(b) }, true},
		"ReaderAt":  {func(b []byte) io.Reader { return newReadAt(b) }, true},
		"in middle": {inMiddle, true},
		"pipe":      {pipe, false},
	}
	for name, kind := range kinds {
		for _, at := range []int{0, 5, mib, 2*mib + 17, 5 * mib, 5*mib + 99, 5*mib + 100} {
			for _, size := range []int64{int64(len(b)), -1} {
				s := newStore(t)
				err := writeBlob(s, "key", broken(b, at), size, dgst)
				if !errors.Is(err, errBroken) {
					t.Fatalf("WriteBlob of a broken body = %v", err)
				}
				offset := int64(at / mib * mib)
				if size >= 0 && at == len(b) {
					offset = size
				}
				if all, err := s.Ingests(); err != nil || len(all) != 1 || all[0].Offset != offset || all[0].Total != size || all[0].Ref != "key" {
					t.Errorf("Ingests() = %+v, %v, want offset %d", all, err, offset)
				}
				// Where it was resumed the bytes before are never looked at again.
				again := bytes.Clone(b)
				clear(again[:min(offset, 1)])
				err = writeBlob(s, "key", kind.reader(again), size, dgst)
				if !kind.resumes && offset > 0 {
					if !errors.Is(err, syscall.EIO) {
						t.Errorf("%s at %d: WriteBlob = %v, want what it reads from the beginning", name, at, err)
					}
					err = writeBlob(s, "key", kind.reader(b), size, dgst)
				}
				if err != nil {
					t.Errorf("%s at %d: WriteBlob = %v", name, at, err)
				}
				wantBlob(t, s, b)
			}
		}
	}
}

// What was there before may be to blame for a wrong digest.
func TestWriteBlobBeginsAgain(t *testing.T) {
	b := randomBytes(32, 3*mib)
	wrong := bytes.Clone(b)
	wrong[7] ^= 1
	for name, r := range map[string]io.Reader{"Seeker": newSeeker(b), "ReaderAt": newReadAt(b), "plain": newPlain(b)} {
		s := newStore(t)
		if err := writeBlob(s, "key", broken(wrong, 2*mib), 3*mib, digest.FromBytes(b)); !errors.Is(err, errBroken) {
			t.Fatal(err)
		}
		if err := writeBlob(s, "key", r, 3*mib, digest.FromBytes(b)); err != nil {
			t.Errorf("%s: WriteBlob = %v", name, err)
		}
		wantBlob(t, s, b)
	}
}

func TestWriteBlobRefuses(t *testing.T) {
	b := randomBytes(33, 2*mib+10)
	other := digest.FromString("other")
	cases := []struct {
		name     string
		size     int64
		expected digest.Digest
		want     []string
		is       []error
		kept     int // ingests
	}{
		{"too long", 2 * mib, "", []string{"too long", "2097152", "2097153"}, []error{syscall.EIO}, 0},
		{"too long, within a chunk", 2*mib + 9, "", []string{"too long"}, []error{syscall.EIO}, 0},
		{"too short", 2*mib + 11, "", []string{"too short", "2097163", "2097162"}, []error{syscall.EIO, io.ErrUnexpectedEOF}, 1},
		{"too short by chunks", 9 * mib, "", []string{"too short", "9437184"}, []error{io.ErrUnexpectedEOF}, 1},
		{"wrong digest", 2*mib + 10, other, []string{string(other), string(digest.FromBytes(b))}, []error{syscall.EIO}, 0},
		{"wrong digest, size unknown", -1, other, []string{string(other), string(digest.FromBytes(b))}, []error{syscall.EIO}, 0},
		{"no digest", -1, "sha256:abc", []string{"sha256:abc"}, nil, 0},
		{"no size", -7, "", []string{"-7"}, nil, 0},
	}
	for _, c := range cases {
		for kind, r := range map[string]io.Reader{"plain": newPlain(b), "Seeker": newSeeker(b)} {
			s := newStore(t)
			err := writeBlob(s, "my key", r, c.size, c.expected)
			if err == nil {
				t.Fatalf("%s, %s: WriteBlob succeeded", c.name, kind)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%s, %s: WriteBlob = %v, want it to name %s", c.name, kind, err, want)
				}
			}
			for _, is := range c.is {
				if !errors.Is(err, is) {
					t.Errorf("%s, %s: WriteBlob = %v, want %v", c.name, kind, err, is)
				}
			}
			if blobs, err := s.Blobs(); err != nil || len(blobs) > 0 {
				t.Errorf("%s, %s: Blobs() = %v, %v", c.name, kind, blobs, err)
			}
			if all, err := s.Ingests(); err != nil || len(all) != c.kept {
				t.Errorf("%s, %s: Ingests() = %v, %v, want %d", c.name, kind, all, err, c.kept)
			}
		}
	}
	s := newStore(t)
	if err := writeBlob(s, "key", bytes.NewReader(b), -1, ""); err != nil {
		t.Fatal(err)
	}
	var size *content.SizeError
	if err := writeBlob(s, "key", nil, 5, digest.FromBytes(b)); !errors.As(err, &size) {
		t.Errorf("WriteBlob of a blob of another size = %v, want a SizeError", err)
	}
}

func TestWriteBlobEnds(t *testing.T) {
	s := newStore(t)
	b := randomBytes(34, 4*mib)
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	r := io.TeeReader(bytes.NewReader(b), writerFunc(func(p []byte) (int, error) {
		if n += len(p); n >= 2*mib {
			cancel()
		}
		return len(p), nil
	}))
	if _, err := s.WriteBlob(ctx, "key", r, int64(len(b)), ""); !errors.Is(err, context.Canceled) {
		t.Errorf("WriteBlob = %v, want context.Canceled", err)
	}
	if all, err := s.Ingests(); err != nil || len(all) != 1 || all[0].Offset != 2*mib {
		t.Errorf("Ingests() = %+v, %v, want offset %d", all, err, 2*mib)
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// Under one key one writes; under several they do not mix.
func TestWriteBlobTogether(t *testing.T) {
	s := newStore(t)
	b := randomBytes(35, 3*mib+1)
	var wg sync.WaitGroup
	var mu sync.Mutex
	locked, wrote := 0, 0
	for i := range 12 {
		wg.Go(func() {
			err := writeBlob(s, []string{"a", "b", "c"}[i%3], newPlain(b), -1, digest.FromBytes(b))
			mu.Lock()
			defer mu.Unlock()
			var l *content.LockedError
			switch {
			case errors.As(err, &l):
				locked++
			case err != nil:
				t.Error(err)
			default:
				wrote++
			}
		})
	}
	wg.Wait()
	if wrote == 0 || wrote+locked != 12 {
		t.Errorf("%d wrote, %d were locked out", wrote, locked)
	}
	if infos, err := s.Blobs(); err != nil || len(infos) != 1 {
		t.Errorf("Blobs() = %v, %v", infos, err)
	}
}

// On a full disk what is there stays, and is gone on from when there is room.
func TestFullDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "small")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m,mode=0700"); err != nil {
		mustRun(t, "mounting a tmpfs: "+err.Error())
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	s := open(t, dir)
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 2*mib), 0o600); err != nil {
		t.Fatal(err)
	}
	b := randomBytes(36, 3*mib)
	err := writeBlob(s, "key", newSeeker(b), 3*mib, digest.FromBytes(b))
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("WriteBlob on a full disk = %v, want ENOSPC", err)
	}
	all, err := s.Ingests()
	if err != nil || len(all) != 1 || all[0].Offset == 0 || all[0].Offset != all[0].Local || all[0].Offset%mib != 0 {
		t.Errorf("Ingests() = %+v, %v", all, err)
	}

	// A shared one, too: its chunk isn't there.
	g, err := s.Ingest(expect(b))
	if err == nil {
		err = put(g, b, 1)
		if got := chunksOf(g); got != nil {
			t.Errorf("it has %v", got)
		}
		g.Close()
		if err := s.Abort(expect(b)); err != nil {
			t.Error(err)
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("WriteAt on a full disk = %v, want ENOSPC", err)
	}

	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := writeBlob(s, "key", newSeeker(slices.Concat(make([]byte, mib), b[mib:])), 3*mib, digest.FromBytes(b)); err != nil {
		t.Errorf("WriteBlob with room again = %v", err)
	}
	wantBlob(t, s, b)
}

// Where no digest is expected, what is gone on from is what was begun, or it is begun again.
func TestWriteBlobGoesOnFromTheSame(t *testing.T) {
	b := randomBytes(37, 4*mib+9)
	other := bytes.Clone(b)
	other[mib+5] ^= 1
	for name, reader := range map[string]func([]byte) io.Reader{
		"Seeker":   func(b []byte) io.Reader { return newSeeker(b) },
		"ReaderAt": func(b []byte) io.Reader { return newReadAt(b) },
	} {
		for _, body := range [][]byte{b, other, b[:mib+3], other[:2*mib], nil} {
			s := newStore(t)
			if err := writeBlob(s, "key", broken(b, 3*mib), -1, ""); !errors.Is(err, errBroken) {
				t.Fatal(err)
			}
			desc, err := s.WriteBlob(t.Context(), "key", reader(body), -1, "")
			if err != nil || desc.Digest != digest.FromBytes(body) {
				t.Errorf("%s of %d bytes: WriteBlob = %v, %v, want %s", name, len(body), desc, err, digest.FromBytes(body))
			}
			wantBlob(t, s, body)
		}
	}
}

// A key may be any bytes, and is told as it is.
func TestWriteBlobOddKeys(t *testing.T) {
	s := newStore(t)
	b := randomBytes(38, 2*mib)
	for _, key := range []string{"a\nb", "\xff\xfe/..", "é\u202e", "\uFFFD", " "} {
		if err := writeBlob(s, key, broken(b, mib), 2*mib, ""); !errors.Is(err, errBroken) {
			t.Fatal(err)
		}
		if all, err := s.Ingests(); err != nil || len(all) != 1 || all[0].Ref != key || all[0].Offset != mib {
			t.Errorf("Ingests = %+v, %v, want one of %q", all, err, key)
		}
		if err := writeBlob(s, key, newSeeker(b), 2*mib, digest.FromBytes(b)); err != nil {
			t.Errorf("%q: WriteBlob = %v", key, err)
		}
		wantBlob(t, s, b)
		if err := s.Delete(digest.FromBytes(b)); err != nil {
			t.Fatal(err)
		}
	}
}

// A blob that came another way ends what was begun under the key, and Open sweeps what a writer left who died when it was done.
func TestWriteBlobLeavesNothing(t *testing.T) {
	s := newStore(t)
	b := randomBytes(39, 2*mib)
	if err := writeBlob(s, "key", broken(b, mib), -1, ""); !errors.Is(err, errBroken) {
		t.Fatal(err)
	}
	for _, key := range []string{"other", "key"} {
		if err := writeBlob(s, key, newPlain(b), -1, digest.FromBytes(b)); err != nil {
			t.Fatal(err)
		}
	}
	wantBlob(t, s, b)

	if err := writeBlob(s, "key", broken(b, mib), -1, ""); !errors.Is(err, errBroken) {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(s.Dir(), "ingest", "key-*"))
	if err != nil || len(left) != 1 {
		t.Fatal(left, err)
	}
	open(t, s.Dir())
	if _, err := os.Stat(left[0]); err != nil {
		t.Errorf("Open swept what can be gone on from: %v", err)
	}
	if err := os.Remove(filepath.Join(left[0], "data")); err != nil {
		t.Fatal(err)
	}
	open(t, s.Dir())
	wantEmpty(t, filepath.Join(s.Dir(), "ingest"))
}
