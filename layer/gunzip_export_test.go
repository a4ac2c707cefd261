package layer

import (
	"errors"
	"io"
)

// A Point is a point, to tests.
type Point struct {
	In      int64
	Bits    uint8
	Out     int64
	Header  bool
	Window  []byte
	Partial byte
}

// Gunzip is newGunzip.
func Gunzip(r io.Reader, every int64, raw io.Writer, at func(Point) error) io.Reader {
	if at == nil {
		return newGunzip(r, every, raw, nil)
	}
	return newGunzip(r, every, raw, func(p point, partial byte) error {
		return at(Point{p.in, p.bits, p.out, p.header, p.window, partial})
	})
}

// Resume is resume.
func Resume(r io.Reader, p Point) io.Reader {
	return resume(r, point{p.In, p.Bits, p.Out, p.Header, p.Window})
}

// CorruptAt returns where a *corruptError says that a stream is wrong.
func CorruptAt(err error) (at int64, ok bool) {
	var e *corruptError
	if !errors.As(err, &e) {
		return 0, false
	}
	return e.at, true
}
