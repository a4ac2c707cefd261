package layer

import (
	"hash/crc32"
	"io"
)

// The flags of a member's header, RFC 1952.
const (
	headerCRC      = 1 << 1
	headerExtra    = 1 << 2
	headerName     = 1 << 3
	headerComment  = 1 << 4
	headerReserved = 7 << 5
)

// header reads a member's header, or what may be instead of one behind the last.
func (z *gunzip) header() error {
	if z.fill(1); z.members && (z.pos == z.end || z.in[z.pos] == 0) {
		return z.padding()
	}
	if err := z.boundary(); err != nil {
		return err
	}
	var crc uint32
	var fixed [10]byte
	for i := range fixed {
		var err error
		if fixed[i], err = z.headerByte(&crc); err != nil {
			return err
		}
		if i < 3 && fixed[i] != "\x1f\x8b\x08"[i] {
			return z.corrupt("no gzip header")
		}
	}
	flags := fixed[3]
	if flags&headerReserved != 0 {
		return z.corrupt("an unknown kind of gzip header")
	}
	if err := z.headerFields(flags, &crc); err != nil {
		return err
	}
	z.member = true
	z.reset(z.next)
	return nil
}

// headerFields passes over what the flags say that there is.
func (z *gunzip) headerFields(flags byte, crc *uint32) error {
	if flags&headerExtra != 0 {
		n, err := z.headerNumber(crc)
		if err != nil {
			return err
		}
		for range n {
			if _, err := z.headerByte(crc); err != nil {
				return err
			}
		}
	}
	for _, flag := range []byte{headerName, headerComment} {
		for c := flags & flag; c != 0; {
			var err error
			if c, err = z.headerByte(crc); err != nil {
				return err
			}
		}
	}
	if flags&headerCRC == 0 {
		return nil
	}
	want := uint16(*crc)
	got, err := z.headerNumber(crc)
	if err == nil && got != want {
		err = z.corrupt("a wrong checksum of a gzip header")
	}
	return err
}

func (z *gunzip) headerByte(crc *uint32) (byte, error) {
	if z.fill(1); z.pos == z.end {
		return 0, z.ended()
	}
	z.pos++
	b := z.in[z.pos-1 : z.pos]
	*crc = crc32.Update(*crc, crc32.IEEETable, b)
	return b[0], nil
}

func (z *gunzip) headerNumber(crc *uint32) (uint16, error) {
	low, err := z.headerByte(crc)
	if err != nil {
		return 0, err
	}
	high, err := z.headerByte(crc)
	return uint16(low) | uint16(high)<<8, err
}

// padding passes over zeros to the end of the stream. Its error is io.EOF there.
func (z *gunzip) padding() error {
	for {
		if z.fill(1); z.pos == z.end {
			break
		}
		if z.in[z.pos] != 0 {
			return z.corrupt("neither a gzip member nor its padding")
		}
		z.pos++
	}
	if z.rerr == io.EOF { //nolint:errorlint // wrapped it is r's own
		if err := z.give(); err != nil {
			return err
		}
	}
	return z.rerr
}
