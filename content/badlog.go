package content

import (
	"io"
	"os"
	"strings"

	"github.com/opencontainers/go-digest"
)

// badLog is the file that has a line for each digest that was moved to bad/, in that order: what lies in bad/ is dropped once it is
// repaired, and who missed the event must know of it all the same.
const badLog = "bad.log"

// maxBadLog is how long it gets, in bytes, before it begins anew.
const maxBadLog = 1 << 20

// logBad adds a line. It is written at once, so that those of two processes don't mix.
func (s *Store) logBad(dgst digest.Digest) error {
	f, err := os.OpenFile(s.path(badLog), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if size, err := sizeOf(f); err == nil && size >= maxBadLog {
		if err := f.Truncate(0); err != nil {
			return err
		}
	}
	_, err = f.WriteString(string(dgst) + "\n")
	return err
}

// badLogEnd returns where the next line will be.
func (s *Store) badLogEnd() int64 {
	info, err := os.Lstat(s.path(badLog))
	if err != nil {
		return 0
	}
	return info.Size()
}

// badSince returns the digests of the lines from off on, each once, and where they end.
func (s *Store) badSince(off int64) (all []digest.Digest, end int64) {
	f, err := os.Open(s.path(badLog))
	if err != nil {
		return nil, 0
	}
	defer f.Close()
	if size, err := sizeOf(f); err != nil || off > size {
		off = 0 // it began anew
	}
	b, err := io.ReadAll(io.NewSectionReader(f, off, 2*maxBadLog))
	if err != nil {
		return nil, off
	}
	known := make(map[digest.Digest]bool)
	for line := range strings.Lines(string(b)) {
		dgst := digest.Digest(strings.TrimSuffix(line, "\n"))
		if checkDigest(dgst) == nil && !known[dgst] {
			known[dgst] = true
			all = append(all, dgst)
		}
	}
	return all, off + int64(len(b))
}
