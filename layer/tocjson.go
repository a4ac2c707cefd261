package layer

import (
	"archive/tar"
	"encoding/base64"
	"fmt"
	"io"
	"strings"
	"syscall"
	"unicode/utf8"
)

// A tocEntry is an entry as both kinds of tables of contents have it: of a tar,
// or a further chunk of the file before it. Of a file it is the first chunk too.
type tocEntry struct {
	tar.Header      // of a further chunk it says nothing
	chunk      bool // it is a further one
	digest     sum  // of the file; zero is not known

	offset      int64 // in the blob, of the chunk's member or frame
	innerOffset int64 // of the chunk in what that decodes to
	endOffset   int64 // in the blob, of the file's last chunk; 0 is not known
	chunkOffset int64 // in the file
	chunkSize   int64 // 0 is all that the file still has
	chunkDigest sum
	zeros       bool // the chunk is zeros, wherever it lies
}

// decodeTOC hands out the entries of a table of contents, of which it holds one.
// add may keep nothing of it but strings.
func decodeTOC(r io.Reader, add func(*tocEntry) error) error {
	j := newJSONReader(r)
	version, entries := int64(0), 0
	for key := range j.object() {
		switch string(key) {
		case "version":
			version = j.int()
		case "entries":
			if entries++; entries > 1 {
				j.failf("entries twice")
			}
			j.entries(add)
		default: // a digest of the description of the tar
			j.skip()
		}
	}
	if err := j.end(); err != nil {
		return err
	}
	if version != 1 || entries == 0 {
		return fmt.Errorf("version %d, which is not known, or no entries", version)
	}
	return nil
}

func (j *jsonReader) entries(add func(*tocEntry) error) {
	e := new(tocEntry)
	for range j.array() {
		*e = tocEntry{}
		for key := range j.object() {
			j.field(e, key)
		}
		err := e.check()
		if j.err == nil && err == nil {
			err = add(e)
		}
		if err != nil {
			j.fail(fmt.Errorf("entry %.200q: %w", e.Name, err))
		}
	}
}

// field takes the value of a key of an entry.
func (j *jsonReader) field(e *tocEntry, key []byte) {
	if n := e.number(key); n != nil {
		*n = j.int()
		return
	}
	switch string(key) {
	case "type":
		j.entryType(e)
	case "name":
		e.Name = string(j.string())
	case "linkName":
		e.Linkname = string(j.string())
	case "uid":
		e.Uid = int(j.int())
	case "gid":
		e.Gid = int(j.int())
	case "modtime":
		j.time(e)
	case "xattrs":
		j.xattrs(e)
	case "digest":
		e.digest, _ = parseSHA256(j.string())
	case "chunkDigest":
		e.chunkDigest, _ = parseSHA256(j.string())
	case "chunkType":
		j.chunkType(e)
	default:
		j.skip()
	}
}

// number returns where the value of a key goes that is a whole number, nil for any
// other key.
func (e *tocEntry) number(key []byte) *int64 {
	switch string(key) {
	case "size":
		return &e.Size
	case "mode":
		return &e.Mode
	case "devMajor":
		return &e.Devmajor
	case "devMinor":
		return &e.Devminor
	case "offset":
		return &e.offset
	case "innerOffset":
		return &e.innerOffset
	case "endOffset":
		return &e.endOffset
	case "chunkOffset":
		return &e.chunkOffset
	case "chunkSize":
		return &e.chunkSize
	}
	return nil
}

func (j *jsonReader) entryType(e *tocEntry) {
	e.chunk = false
	switch t := j.string(); string(t) {
	case "reg":
		e.Typeflag = tar.TypeReg
	case "dir":
		e.Typeflag = tar.TypeDir
	case "symlink":
		e.Typeflag = tar.TypeSymlink
	case "hardlink":
		e.Typeflag = tar.TypeLink
	case "char":
		e.Typeflag = tar.TypeChar
	case "block":
		e.Typeflag = tar.TypeBlock
	case "fifo":
		e.Typeflag = tar.TypeFifo
	case "chunk":
		e.chunk = true
	default:
		j.failf("type %.100q", t)
	}
}

func (j *jsonReader) chunkType(e *tocEntry) {
	t := j.string()
	if e.zeros = string(t) == "zeros"; !e.zeros && len(t) > 0 {
		j.failf("a chunk of type %.100q", t)
	}
}

func (j *jsonReader) time(e *tocEntry) {
	t := j.string()
	if len(t) == 0 {
		return
	}
	if err := e.ModTime.UnmarshalText(t); err != nil {
		j.failf("time %.100q", t)
	}
}

func (j *jsonReader) xattrs(e *tocEntry) {
	if j.peek() == 'n' {
		j.literal("null")
		return
	}
	var size int
	for key := range j.object() {
		name := xattrRecord + string(key)
		value, err := base64.StdEncoding.AppendDecode(nil, j.string())
		if size += len(name) + len(value); err != nil || size > maxJSONString {
			j.failf("extended attribute %.200q, not in base64 or too large", name)
		}
		if e.PAXRecords == nil {
			e.PAXRecords = make(map[string]string)
		}
		e.PAXRecords[name] = string(value)
	}
}

// check refuses what is no entry, and a name with the replacement character:
// JSON has only UTF-8, and who wrote that had another name.
func (e *tocEntry) check() error {
	switch {
	case e.Typeflag == 0 && !e.chunk:
		return &refusal{"no type", syscall.EINVAL}
	case strings.ContainsRune(e.Name, utf8.RuneError), strings.ContainsRune(e.Linkname, utf8.RuneError):
		return &refusal{"a name that JSON cannot tell", syscall.EINVAL}
	}
	return nil
}
