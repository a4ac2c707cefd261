package layer

import (
	"fmt"
	"io"
)

const (
	historySize = 32 << 10  // how far back a copy may reach, RFC 1951
	bufferSize  = 256 << 10 // of that and what is new; a power of two, as
	inputSize   = 64 << 10  // is that of the input
	bufferMask  = bufferSize - 1

	// What quick may use up: of the input 8 bytes a load, of which there are two in
	// a turn and one before the first; of the room three literals and a copy, or 24
	// bytes that a short copy writes too many.
	loopInput  = 16
	turnInput  = 8 + loopInput
	turnOutput = 3 + 258 + 24
)

// A corruptError says what is wrong with a gzip stream, and where in the blob. It
// is io.ErrUnexpectedEOF where the stream is cut short.
type corruptError struct {
	at   int64
	what string
	kind error
}

func (e *corruptError) Error() string { return fmt.Sprintf("%s at byte %d", e.what, e.at) }
func (e *corruptError) Unwrap() error { return e.kind }

// An inflater inflates a deflated stream, RFC 1951, into a buffer of its own. It is
// driven from outside: step goes on to the next boundary of blocks, or until the
// buffer is full.
type inflater struct {
	r    io.Reader
	rerr error // what ended r
	base int64 // where in the blob in begins
	pos  int   // in in, what bits has not yet
	end  int   // of what in holds

	bits  uint64 // what comes next, the first bit the lowest
	nbits uint   // how many it holds; below 8 between steps

	raw   io.Writer // is given what is used up; nil is nobody
	given int       // how much of in it was given

	phase phase
	final bool // this block is the last
	fixed bool // the tables are those of the fixed code
	left  int  // of a stored block

	start int // of what may be copied from in out
	next  int // where in out the next byte goes

	literals  [literalCodes]code
	distances [distanceCodes]code
	in        [inputSize + 8]byte
	out       [bufferSize + 16]byte // what was inflated before, and what is new
}

// A phase is what a stream goes on with.
type phase uint8

const (
	atBlock   phase = iota // a block's header, or the end if the last was final
	inStored               // the bytes of a stored block
	inSymbols              // the symbols of another one
)

// reset begins with a stream that may copy from what was inflated since start.
func (f *inflater) reset(start int) {
	f.phase, f.final, f.start = atBlock, false, start
}

// full tells whether the buffer lacks the room for a turn.
func (f *inflater) full() bool { return f.next > bufferSize-turnOutput }

// slide makes room, and keeps what may be copied from.
func (f *inflater) slide() {
	if n := f.next - historySize; n > 0 {
		copy(f.out[:], f.out[n:f.next])
		f.next -= n
		f.start = max(f.start-n, 0)
	}
}

// history returns what may be copied from.
func (f *inflater) history() []byte {
	return f.out[max(f.start, f.next-historySize):f.next]
}

// used returns how much of in is used up, but for the bits of one byte.
func (f *inflater) used() int { return f.pos - int(f.nbits+7)>>3 }

// offset returns where in the blob the next bit is.
func (f *inflater) offset() int64 { return f.base + int64(f.used()) }

// give gives raw what was used up since.
func (f *inflater) give() error {
	used := f.used()
	if f.raw != nil && f.given < used {
		if _, err := f.raw.Write(f.in[f.given:used]); err != nil {
			return err
		}
	}
	f.given = used
	return nil
}

// fill sees to it that there are n bytes of input, at most turnInput, if r has
// them.
func (f *inflater) fill(n int) {
	if f.end-f.pos >= n || f.rerr != nil {
		return
	}
	if len(f.in)-f.pos < n {
		if f.rerr = f.give(); f.rerr != nil {
			return
		}
		f.end = copy(f.in[:], f.in[f.given:f.end])
		f.base += int64(f.given)
		f.pos -= f.given
		f.given = 0
	}
	for f.end-f.pos < n && f.rerr == nil {
		var m int
		m, f.rerr = f.r.Read(f.in[f.end:])
		f.end += m
	}
}

// load has bits hold n bits, at most 32.
func (f *inflater) load(n uint) error {
	f.fill(4)
	for ; f.nbits < n; f.nbits += 8 {
		if f.pos == f.end {
			return f.ended()
		}
		f.bits |= uint64(f.in[f.pos]) << f.nbits
		f.pos++
	}
	return nil
}

// take returns the next n bits, which were loaded.
func (f *inflater) take(n uint) int {
	v := f.bits & (1<<n - 1)
	f.bits >>= n
	f.nbits -= n
	return int(v)
}

// unload leaves no whole byte in bits.
func (f *inflater) unload() {
	f.pos -= int(f.nbits >> 3)
	f.nbits &= 7
	f.bits &= 1<<f.nbits - 1
}

// ended is the error where there should be more input.
func (f *inflater) ended() error {
	if f.rerr != io.EOF { //nolint:errorlint // wrapped it is r's own
		return f.rerr
	}
	return &corruptError{f.base + int64(f.end), "unexpected EOF", io.ErrUnexpectedEOF}
}

func (f *inflater) corrupt(what string) error { return &corruptError{f.offset(), what, nil} }

// step goes on with the stream to the end of a block or until the buffer is full.
func (f *inflater) step() error {
	for !f.full() {
		var err error
		switch f.phase {
		case atBlock:
			err = f.block()
		case inStored:
			err = f.stored()
		case inSymbols:
			err = f.symbols()
		}
		f.unload()
		if err != nil || f.phase == atBlock {
			return err
		}
	}
	return nil
}

// block reads the header of a block.
func (f *inflater) block() error {
	if err := f.load(3); err != nil {
		return err
	}
	f.final = f.take(1) == 1
	switch f.take(2) {
	case 0:
		return f.storedHeader()
	case 1:
		f.fixedTables()
	case 2:
		if err := f.dynamicTables(); err != nil {
			return err
		}
	default:
		return f.corrupt("a block of no kind")
	}
	f.phase = inSymbols
	return nil
}

func (f *inflater) storedHeader() error {
	f.unload()
	f.bits, f.nbits = 0, 0
	if err := f.load(32); err != nil {
		return err
	}
	n := f.take(16)
	if f.take(16) != n^0xffff {
		return f.corrupt("a stored block of two lengths")
	}
	f.left, f.phase = n, inStored
	return nil
}

func (f *inflater) stored() error {
	for f.left > 0 && !f.full() {
		f.fill(1)
		n := min(f.left, f.end-f.pos, len(f.out)-f.next)
		if n == 0 {
			return f.ended()
		}
		copy(f.out[f.next:], f.in[f.pos:f.pos+n])
		f.next += n
		f.pos += n
		f.left -= n
	}
	if f.left == 0 {
		f.phase = atBlock
	}
	return nil
}
