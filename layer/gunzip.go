package layer

import (
	"encoding/binary"
	"hash/crc32"
	"io"
)

// A point is where a gzip stream can be gone on with.
type point struct {
	in     int64  // the byte of the blob with the first bit
	bits   uint8  // how many low bits of that byte belong to what comes before; 0..7
	out    int64  // how many bytes were inflated before
	header bool   // a member's header begins here: then bits is 0 and no window is needed
	window []byte // up to 32 KiB that were inflated before, of this member; valid during the call only
}

// A gunzip is a reader of what a gzip stream, RFC 1952, inflates to: one or more
// members, behind which there may be zeros. Its errors are final, and come once all
// that is right before them was read. They are a *corruptError, or of the reader,
// of raw and of at as they are. It reads its input by 64 KiB and inflates by 224
// KiB, and has no more memory than these 350 KB, whatever the stream is.
type gunzip struct {
	inflater
	every int64
	at    func(p point, partial byte) error

	member    bool   // it is in a member, not before a header
	members   bool   // there was one before
	unchecked bool   // the member was begun in its middle
	crc       uint32 // of the member up to out[summed]
	size      uint32 // likewise
	summed    int
	skip      uint  // low bits of the first byte that are no part of this
	total     int64 // what was inflated up to out[summed]
	due       int64 // how much is inflated when the next point is due

	rest []byte // what Read has not given yet
	err  error
}

// newGunzip returns a reader of what r inflates to. raw, if not nil, is given each
// byte of r once and in order, as it is used up. at, if not nil, is called for the
// first header and then for the first boundary, of blocks or members, after every
// bytes or more since the last point; raw was given exactly the bytes before p.in
// by then. Where p.bits is not 0, partial is the byte at p.in, which raw is given
// later. at may be called before what lies in front of the point was read. Where
// raw or at fails, so does reading.
func newGunzip(r io.Reader, every int64, raw io.Writer, at func(p point, partial byte) error) *gunzip {
	z := &gunzip{every: every, at: at}
	z.r, z.raw = r, raw
	return z
}

// resume returns a reader of what follows p in r, whose first byte is that at p.in,
// through further members. The checksum of a member begun in its middle can't be
// checked.
func resume(r io.Reader, p point) *gunzip {
	z := &gunzip{}
	z.resume(r, p)
	return z
}

// resume makes z, whatever it was, what the function resume returns.
func (z *gunzip) resume(r io.Reader, p point) {
	*z = gunzip{}
	z.r, z.base = r, p.in
	if !p.header {
		z.member, z.unchecked, z.skip = true, true, uint(p.bits)
		z.next = copy(z.out[:historySize], p.window)
		z.summed = z.next
	}
}

// Read reads what was inflated.
func (z *gunzip) Read(p []byte) (int, error) {
	if len(z.rest) == 0 {
		var err error
		if z.rest, err = z.chunk(); err != nil {
			return 0, err
		}
	}
	n := copy(p, z.rest)
	z.rest = z.rest[n:]
	return n, nil
}

// WriteTo writes all that was not read yet to w.
func (z *gunzip) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for {
		if len(z.rest) > 0 {
			n, err := w.Write(z.rest)
			total += int64(n)
			z.rest = z.rest[n:]
			if err != nil {
				return total, err
			}
		}
		var err error
		if z.rest, err = z.chunk(); err == io.EOF { //nolint:errorlint // it is chunk's own
			return total, nil
		} else if err != nil {
			return total, err
		}
	}
}

// chunk inflates up to 224 KiB, which are valid until the next call. They are far
// less only before the end or an error. It is what Read copies from.
func (z *gunzip) chunk() ([]byte, error) {
	if z.err != nil {
		return nil, z.err
	}
	z.slide()
	z.summed = z.next
	begin := z.next
	for !z.full() && z.err == nil {
		z.err = z.part()
	}
	z.sum()
	if z.next == begin {
		return nil, z.err
	}
	return z.out[begin:z.next], nil
}

// part goes on with the stream by a header, a part of a block or a trailer.
func (z *gunzip) part() error {
	if z.skip > 0 {
		if err := z.load(8); err != nil {
			return err
		}
		z.take(z.skip)
		z.skip = 0
	}
	switch {
	case !z.member:
		return z.header()
	case z.phase != atBlock:
		return z.step()
	case z.final:
		return z.trailer()
	}
	if err := z.boundary(); err != nil {
		return err
	}
	return z.step()
}

// boundary calls at if it is time.
func (z *gunzip) boundary() error {
	out := z.total + int64(z.next-z.summed)
	if z.at == nil || out < z.due {
		return nil
	}
	if err := z.give(); err != nil {
		return err
	}
	z.due = out + z.every
	p := point{in: z.offset(), out: out, header: !z.member}
	if p.header {
		return z.at(p, 0)
	}
	var partial byte
	if z.nbits > 0 {
		p.bits, partial = uint8(8-z.nbits), z.in[z.pos-1]
	}
	p.window = z.history()
	return z.at(p, partial)
}

// sum adds what was inflated since to the member's checksum.
func (z *gunzip) sum() {
	since := z.out[z.summed:z.next]
	if !z.unchecked {
		z.crc = crc32.Update(z.crc, crc32.IEEETable, since)
	}
	z.size += uint32(len(since))
	z.total += int64(len(since))
	z.summed = z.next
}

// trailer checks the end of a member.
func (z *gunzip) trailer() error {
	z.bits, z.nbits = 0, 0
	z.fill(8)
	if z.end-z.pos < 8 {
		return z.ended()
	}
	z.sum()
	trailer := z.in[z.pos : z.pos+8]
	if !z.unchecked {
		if binary.LittleEndian.Uint32(trailer) != z.crc {
			return z.corrupt("a wrong checksum")
		}
		if binary.LittleEndian.Uint32(trailer[4:]) != z.size {
			return z.corrupt("a wrong size")
		}
	}
	z.pos += 8
	z.crc, z.size = 0, 0
	z.member, z.members, z.unchecked = false, true, false
	return nil
}
