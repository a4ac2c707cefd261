package layer

import (
	"fmt"
	"io"
	"syscall"
)

// A SizeError is a layer, or a part of one, with more bytes than it may have.
type SizeError struct {
	of  string // what has them
	Max int64  // bytes that it may have
}

func (e *SizeError) Error() string { return fmt.Sprintf("more than %d bytes of %s", e.Max, e.of) }

// Is makes it syscall.EFBIG.
func (e *SizeError) Is(target error) bool { return target == syscall.EFBIG }

// limited reads at most left bytes, and then has an error instead of an end.
type limited struct {
	r    io.Reader
	of   string // what they are, for the error
	left int64
	most int64     // what was left first
	copy io.Writer // is given what is read; nil is none
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left == 0 {
		var b [1]byte
		if n, err := l.r.Read(b[:]); n == 0 {
			return 0, err
		}
		return 0, &SizeError{l.of, l.most}
	}
	n, err := l.r.Read(p[:min(int64(len(p)), l.left)])
	l.left -= int64(n)
	if l.copy != nil && n > 0 {
		if _, err := l.copy.Write(p[:n]); err != nil {
			return n, err
		}
	}
	return n, err
}
