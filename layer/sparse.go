package layer

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"io"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

const blockSize = 512 // of a tar

// headers passes on a tar to who parses it, and keeps of each entry what tells
// where the parts of a sparse file lie, which archive/tar doesn't.
type headers struct {
	r     io.Reader
	n     int64           // bytes that were read
	left  int64           // bytes before the next header
	have  int             // bytes of the next header that were read
	block [blockSize]byte // the last header
	entry bool            // it is an entry's own, and not of what describes the next one
	after []byte          // what was read behind an entry's header, before its content
}

func (h *headers) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	h.n += int64(n)
	for p = p[:n]; len(p) > 0; {
		switch {
		case h.entry:
			h.after = append(h.after, p...)
			return n, err
		case h.left > 0:
			m := min(h.left, int64(len(p)))
			h.left -= m
			p = p[m:]
		default:
			m := copy(h.block[h.have:], p)
			h.have += m
			p = p[m:]
			h.header()
		}
	}
	return n, err
}

// header looks at a header that is whole.
func (h *headers) header() {
	if h.have < blockSize {
		return
	}
	h.have = 0
	switch h.block[156] {
	case tar.TypeXHeader, tar.TypeXGlobalHeader, tar.TypeGNULongName, tar.TypeGNULongLink:
		h.left = padded(numeric(h.block[124:136]))
	default:
		h.entry, h.after = true, h.after[:0]
	}
}

// padded is a length with what fills its last block.
func padded(n int64) int64 { return n + -n&(blockSize-1) }

// A layout is where the content of an entry lies in the tar.
type layout struct {
	offset int64
	data   []Segment // nil: all of it lies at offset
}

// content tells where the content of the entry hdr lies, whose header
// archive/tar has read just now. It is called for each.
func (h *headers) content(hdr *tar.Header) (layout, error) {
	switch hdr.Typeflag {
	case tar.TypeXGlobalHeader:
		return layout{}, nil
	case tar.TypeLink, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeDir, tar.TypeFifo:
		h.entry, h.left = false, 0
		return layout{}, nil
	}
	h.entry = false
	size, front, parts, err := h.sparse(hdr)
	h.left = padded(size) - front
	if err != nil || parts == nil {
		return layout{offset: h.n}, err
	}
	data, err := segments(parts, h.n, hdr.Size, size-front)
	return layout{h.n, data}, err
}

// sparse returns the parts of a sparse file, offsets and lengths in turn, and nil
// of any other; and how many bytes of the tar are its content, the map in front of
// it included.
func (h *headers) sparse(hdr *tar.Header) (size, front int64, parts []int64, err error) {
	pax := hdr.PAXRecords
	size = numeric(h.block[124:136])
	if s := pax["size"]; s != "" {
		if size, err = strconv.ParseInt(s, 10, 64); err != nil {
			return 0, 0, nil, err
		}
	}
	version := pax["GNU.sparse.major"] + "." + pax["GNU.sparse.minor"]
	switch {
	case hdr.Typeflag == tar.TypeGNUSparse:
		return size, 0, h.gnuParts(), nil
	case version == "1.0":
		parts, err = frontParts(string(h.after))
		return size, int64(len(h.after)), parts, err
	case version == "0.0", version == "0.1", version == "." && pax["GNU.sparse.map"] != "":
		parts, err = decimals(strings.FieldsFunc(pax["GNU.sparse.map"], func(c rune) bool { return c == ',' }))
		return size, 0, parts, err
	}
	return hdr.Size, 0, nil, nil
}

// frontParts reads a map that lies in front of the content: how many parts, and
// the parts, a line each.
func frontParts(list string) ([]int64, error) {
	fields := strings.Split(list, "\n")
	count, err := decimals(fields[:1])
	if err != nil || count[0] < 0 || count[0] > int64(len(fields)-1)/2 {
		return nil, tar.ErrHeader
	}
	return decimals(fields[1:][:2*count[0]])
}

// decimals reads the numbers in fields. It is not nil without an error.
func decimals(fields []string) ([]int64, error) {
	list := make([]int64, len(fields))
	for i, field := range fields {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return nil, tar.ErrHeader
		}
		list[i] = n
	}
	return list, nil
}

// gnuParts reads the map in GNU's old form: four parts in the header, 21 in each
// of the blocks behind it.
func (h *headers) gnuParts() []int64 {
	parts := gnuList([]int64{}, h.block[386:482])
	for block := range slices.Chunk(h.after, blockSize) {
		parts = gnuList(parts, block[:min(len(block), 504)])
	}
	return parts
}

func gnuList(parts []int64, list []byte) []int64 {
	for part := range slices.Chunk(list, 24) {
		if part[0] == 0 || len(part) < 24 {
			break
		}
		parts = append(parts, numeric(part[:12]), numeric(part[12:]))
	}
	return parts
}

// segments makes of parts of a file of that size segments, whose bytes lie one
// behind the other at offset, as many as stored says.
func segments(parts []int64, offset, size, stored int64) ([]Segment, error) {
	data, end := []Segment{}, int64(0)
	for part := range slices.Chunk(parts, 2) {
		if len(part) < 2 || part[0] < end || part[1] < 0 || part[1] > stored || part[0] > size-part[1] {
			return nil, tar.ErrHeader
		}
		end = part[0] + part[1]
		switch last := len(data) - 1; {
		case part[1] == 0:
			continue
		case last >= 0 && data[last].At+data[last].Length == part[0]:
			data[last].Length += part[1]
		default:
			data = append(data, Segment{At: part[0], Length: part[1], Offset: offset})
		}
		offset, stored = offset+part[1], stored-part[1]
	}
	if stored != 0 {
		return nil, &refusal{"a sparse file has other bytes than it says", syscall.EINVAL}
	}
	if len(data) == 1 && data[0].Length == size || size == 0 {
		return nil, nil
	}
	return slices.Clip(data), nil
}

// numeric reads a number of a header, octal or in base 256. Where it is none
// archive/tar ends.
func numeric(field []byte) int64 {
	if field[0]&0x80 != 0 {
		return int64(binary.BigEndian.Uint64(field[len(field)-8:]))
	}
	field, _, _ = bytes.Cut(bytes.Trim(field, " \x00"), []byte{0})
	n, _ := strconv.ParseInt(string(field), 8, 64)
	return n
}
