package content

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// State says what has become of an ingest.
type State byte

// The states of an ingest. It leaves Filling once.
const (
	Filling   State = 0 // bytes come in
	Committed State = 1 // its blob is in the store
	Discarded State = 2 // its bytes were thrown away; who wants the blob opens an ingest anew
)

// The bytes of a chunk in the map.
const (
	absent  = 0
	written = 1
	synced  = 2
)

const (
	magic      = "distfsR1"
	headerSize = 64
	stateAt    = 40 // offset of the state in the header

	maxTotal   = 1 << 44              // 16 TiB: the longest blob. ext4's longest file is about that
	maxChunks  = maxTotal / ChunkSize // and what a map of unknown size has room for; it is a sparse file
	unknownLen = 1<<64 - 1            // a total of -1, in the header
)

// A header is the first 64 bytes of a map, but for the state.
type header struct {
	boot  bootID
	total int64 // -1 is unknown
}

func (h header) bytes() []byte {
	b := make([]byte, 0, headerSize)
	b = append(b, magic...)
	b = append(b, h.boot[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.total)) // -1 is 2^64-1
	b = binary.LittleEndian.AppendUint64(b, ChunkSize)
	return append(b, make([]byte, headerSize-len(b))...)
}

// errDamaged is the kind of what is wrong with a file of the store that is not what it should be.
var errDamaged = errors.New("damaged")

// parseHeader reads the header of a map whose file has size bytes.
func parseHeader(b []byte, size int64) (h header, st State, err error) {
	if len(b) < headerSize || string(b[:len(magic)]) != magic {
		return h, 0, fmt.Errorf("%w: no map", errDamaged)
	}
	copy(h.boot[:], b[8:24])
	total := binary.LittleEndian.Uint64(b[24:32])
	if total > maxTotal && total != unknownLen {
		return h, 0, fmt.Errorf("%w: a total of %d", errDamaged, total)
	}
	h.total = int64(total)
	if n := binary.LittleEndian.Uint64(b[32:40]); n != ChunkSize {
		return h, 0, fmt.Errorf("%w: chunks of %d", errDamaged, n)
	}
	st = State(b[stateAt])
	if st > Discarded || !bytes.Equal(b[stateAt+1:headerSize], make([]byte, headerSize-stateAt-1)) {
		return h, 0, fmt.Errorf("%w: header", errDamaged)
	}
	if want := headerSize + mapChunks(h.total); size != want {
		return h, 0, fmt.Errorf("%w: a map of %d bytes, not %d", errDamaged, size, want)
	}
	return h, st, nil
}

// chunksOf returns how many chunks total bytes are.
func chunksOf(total int64) int64 { return (total + ChunkSize - 1) / ChunkSize }

// mapChunks returns how many chunks the map of a blob of total bytes has room for.
func mapChunks(total int64) int64 {
	if total < 0 {
		return maxChunks
	}
	return chunksOf(total)
}

// A rangeMap is an ingest's file ranges, mapped to be read and written by pwrite.
type rangeMap struct {
	f   *os.File
	mem []byte       // shared with all who have it mapped; read by words, atomically
	top atomic.Int64 // no chunk from this on is there; all below can be read
}

// newRangeMap maps f, which has room for chunks chunks and whose header is right; it belongs to the map then.
func newRangeMap(f *os.File, chunks int64) (*rangeMap, error) {
	size := (headerSize + chunks + 7) &^ 7 // whole words: the rest of the last page reads as zeros
	mem, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, &os.PathError{Op: "mmap", Path: f.Name(), Err: err}
	}
	return &rangeMap{f: f, mem: mem}, nil
}

func (m *rangeMap) close() error {
	return errors.Join(unix.Munmap(m.mem), m.f.Close())
}

// word returns the eight bytes of the map from off on, which must be a multiple of 8.
func (m *rangeMap) word(off int64) (b [8]byte) {
	w := atomic.LoadUint64((*uint64)(unsafe.Pointer(&m.mem[off]))) // mem begins with a page
	binary.NativeEndian.PutUint64(b[:], w)
	return b
}

// at returns the byte of chunk i.
func (m *rangeMap) at(i int64) byte {
	if i < 0 || i >= m.top.Load() {
		return absent
	}
	off := headerSize + i
	w := m.word(off &^ 7)
	return w[off&7]
}

// state returns the ingest's state.
func (m *rangeMap) state() State {
	w := m.word(stateAt)
	return State(w[0])
}

// next returns the first chunk in [first, end) that is there or, if not there, that is absent; end if none is.
func (m *rangeMap) next(first, end int64, there bool) int64 {
	top := m.top.Load()
	for i := max(first, 0); i < end; i++ {
		if i%8 == 0 && i+8 <= min(end, top) { // eight at once where all are alike
			w := m.word(headerSize + i)
			if there && w == [8]byte{} || !there && bytes.IndexByte(w[:], absent) < 0 {
				i += 7
				continue
			}
		}
		if i >= top && there {
			break
		}
		if (m.at(i) != absent) == there {
			return i
		}
	}
	return end
}

// set writes v for n chunks from first on.
func (m *rangeMap) set(first, n int64, v byte) error {
	if n <= 0 {
		return nil
	}
	if _, err := m.f.WriteAt(bytes.Repeat([]byte{v}, int(n)), headerSize+first); err != nil {
		return noSpace(err)
	}
	if v == absent {
		return nil
	}
	for {
		top := m.top.Load()
		if first+n <= top || m.top.CompareAndSwap(top, first+n) {
			return nil
		}
	}
}

// setState writes the state into the header, where all who have the map see it.
func (m *rangeMap) setState(st State) error {
	return setState(m.f, st)
}

func setState(f io.WriterAt, st State) error {
	_, err := f.WriteAt([]byte{byte(st)}, stateAt)
	return err
}

// A run is n chunks from first on.
type run struct{ first, n int64 }

// runs returns the runs of chunks whose byte is v, which is not absent.
func (m *rangeMap) runs(v byte) (rs []run) {
	top := m.top.Load()
	for i := range top {
		if m.at(i) != v {
			continue
		}
		if k := len(rs) - 1; k >= 0 && rs[k].first+rs[k].n == i {
			rs[k].n++
		} else {
			rs = append(rs, run{i, 1})
		}
	}
	return rs
}
