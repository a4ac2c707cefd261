package content

import (
	"errors"
	iofs "io/fs"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// directAlign is what buffers, offsets and lengths of reads past the cache are multiples of: no disk has larger blocks.
const directAlign = 4096

// openUnused opens a file to read it without that being a use of it, where the system lets us say so.
func openUnused(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOATIME, 0)
	if errors.Is(err, iofs.ErrPermission) {
		f, err = os.Open(path)
	}
	return f, err
}

// openDirect opens a file to read it past the system's cache, where the file system can, and without that being a use of it: who
// reads everything once would push out what others read, and would see what the cache holds rather than the disk.
func openDirect(path string) (*os.File, error) {
	f, err := openUnused(path)
	if err != nil {
		return nil, err
	}
	_ = setFlags(f, func(flags int) int { return flags | unix.O_DIRECT }) // else it is read like any other
	return f, nil
}

func setBuffered(f *os.File) error {
	return setFlags(f, func(flags int) int { return flags &^ unix.O_DIRECT })
}

func isDirect(f *os.File) bool {
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	return err == nil && flags&unix.O_DIRECT != 0
}

func setFlags(f *os.File, change func(int) int) error {
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_SETFL, change(flags))
	}
	return err
}

// alignedBuffer returns n bytes as O_DIRECT wants them.
func alignedBuffer(n int) []byte {
	b := make([]byte, n+directAlign)
	skip := -uintptr(unsafe.Pointer(&b[0])) % directAlign
	return b[skip : int(skip)+n]
}
