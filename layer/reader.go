package layer

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"syscall"
)

// Options bound what a Reader reads. A nil *Options means the zero value.
type Options struct {
	MaxEntries int64 // how many entries a layer may have; 0 means 4 Mi
	MaxBytes   int64 // how long its tar may be, and all its files together, in bytes; 0 means 1 TiB

	// Tar is given all of the tar as it is read, what is skipped included. nil
	// means nobody.
	Tar io.Writer

	// TOC is the digest of the table of contents that the layer's descriptor names, if
	// that says it is an eStargz: see AnnotationTOC. Then the table and the landmarks are
	// no files of the image. "" means that it is none.
	TOC string

	// Of MakeIndex: Cache bounds the memory that decompressing takes, over all that share
	// it; nil does not. GiveUp is called, once, if others wait for that memory while r is
	// long in coming: then r's Read is to end with an error, and who has the rest of r
	// come first may begin anew. nil means never.
	Cache  *Cache
	GiveUp func()
}

const (
	defaultEntries = 4 << 20
	defaultBytes   = 1 << 40
)

func (o *Options) limits() (entries, bytes int64) {
	entries, bytes = defaultEntries, defaultBytes
	if o != nil && o.MaxEntries > 0 {
		entries = o.MaxEntries
	}
	if o != nil && o.MaxBytes > 0 {
		bytes = o.MaxBytes
	}
	return entries, bytes
}

// A Reader reads a layer's entries one after the other. It is for one goroutine.
type Reader struct {
	plain io.ReadCloser // the decompressed tar
	all   *limited      // plain, as far as it may be read
	heads *headers      // all, as it is read by tar
	tar   *tar.Reader
	begun bool   // there was an entry
	at    layout // of the last entry's content
	toc   string // see Options

	entries, files int64 // still allowed: entries, and bytes of files
}

// NewReader returns a Reader of the layer in r. Close it; r stays open.
func NewReader(r io.Reader, opts *Options) (*Reader, error) {
	plain, err := Decompress(r)
	if err != nil {
		return nil, err
	}
	return newReader(plain, opts), nil
}

// newReader returns a Reader of the tar in plain, which it closes.
func newReader(plain io.ReadCloser, opts *Options) *Reader {
	entries, bytes := opts.limits()
	all := &limited{r: plain, of: "a tar", left: bytes, most: bytes}
	if opts != nil {
		all.copy = opts.Tar
	}
	heads := &headers{r: all}
	r := &Reader{plain: plain, all: all, heads: heads, tar: tar.NewReader(heads), entries: entries, files: bytes}
	if opts != nil {
		r.toc = opts.TOC
	}
	return r
}

// Close ends what reads ahead. It waits for a Read of the layer under way.
func (r *Reader) Close() error { return r.plain.Close() }

// Next returns the next entry, and io.EOF after the last one: then the layer was
// read to its end, and its checksums are right. Other errors are final. They are
// io.ErrUnexpectedEOF where the layer is cut short, syscall.EFBIG at a limit of
// the Options, syscall.EINVAL and syscall.ENAMETOOLONG for what no layer may have.
func (r *Reader) Next() (*Entry, error) {
	for {
		hdr, err := r.header()
		if err != nil {
			return nil, err
		}
		e, err := entry(hdr)
		if err == nil {
			r.at, err = r.heads.content(hdr)
		}
		if err != nil {
			return nil, fmt.Errorf("entry %.200q: %w", hdr.Name, err)
		}
		if e == nil {
			continue
		}
		skip, err := r.skip(e)
		if err != nil {
			return nil, fmt.Errorf("entry %.200q: %w", hdr.Name, err)
		}
		if skip {
			continue
		}
		if r.files -= e.Size; r.files < 0 {
			return nil, fmt.Errorf("entry %.200q: %w", e.Name, &SizeError{"files", r.all.most})
		}
		return e, nil
	}
}

// Read reads the content of the entry that Next returned last.
func (r *Reader) Read(p []byte) (int, error) { return r.tar.Read(p) }

func (r *Reader) header() (*tar.Header, error) {
	hdr, err := r.tar.Next()
	if err == io.EOF {
		// What follows the end of the tar is read too, for the checksum's sake.
		if _, err := io.Copy(io.Discard, r.all); err != nil {
			return nil, err
		}
		return nil, io.EOF
	}
	if err != nil && !errors.Is(err, tar.ErrInsecurePath) { // of such a path we make a secure one
		if !r.begun && (errors.Is(err, tar.ErrHeader) || err == io.ErrUnexpectedEOF) { //nolint:errorlint // wrapped it is the decompressor's
			return nil, fmt.Errorf("it is no tar: %w", err)
		}
		return nil, err
	}
	r.begun = true
	if r.entries--; r.entries < 0 {
		return nil, &refusal{"too many entries", syscall.EFBIG}
	}
	return hdr, nil
}

var kinds = map[byte]Kind{
	tar.TypeReg: File, tar.TypeGNUSparse: File, tar.TypeCont: File,
	tar.TypeDir: Dir, tar.TypeSymlink: Symlink, tar.TypeLink: Hardlink,
	tar.TypeChar: CharDevice, tar.TypeBlock: BlockDevice, tar.TypeFifo: Fifo,
}

// entry returns what hdr says, nil if it is none of the image's.
func entry(hdr *tar.Header) (*Entry, error) {
	if hdr.Typeflag == tar.TypeXGlobalHeader {
		return nil, nil
	}
	name, err := cleanName(hdr.Name)
	if err != nil || isMeta(name) {
		return nil, err
	}
	kind, name, err := whiteout(name)
	if err != nil || kind != 0 {
		return &Entry{Kind: kind, Name: name}, err
	}
	kind, known := kinds[hdr.Typeflag]
	if !known {
		return nil, &refusal{fmt.Sprintf("type %q is none that a layer has", hdr.Typeflag), syscall.EINVAL}
	}
	if name == "." && kind != Dir {
		return nil, &refusal{"the root is no directory", syscall.EINVAL}
	}
	e := &Entry{Kind: kind, Name: name, Mode: uint32(hdr.Mode) & 0o7777, ModTime: hdr.ModTime, AccessTime: hdr.AccessTime}
	if kind == File {
		e.Size = hdr.Size
	}
	return e, errors.Join(e.owner(hdr), e.link(hdr), e.device(hdr), e.xattrs(hdr))
}

// owner refuses numbers that no user has. The last one stands for nobody's in
// chown(2).
func (e *Entry) owner(hdr *tar.Header) error {
	for _, id := range []int{hdr.Uid, hdr.Gid} {
		if id < 0 || int64(id) >= math.MaxUint32 {
			return fmt.Errorf("owner %d: %w", id, syscall.EINVAL)
		}
	}
	e.UID, e.GID = uint32(hdr.Uid), uint32(hdr.Gid)
	return nil
}

func (e *Entry) link(hdr *tar.Header) (err error) {
	switch {
	case e.Kind == Hardlink:
		if e.Link, err = cleanName(hdr.Linkname); err != nil {
			return fmt.Errorf("link: %w", err)
		}
		if e.Link == "." || strings.HasPrefix(e.Link, e.Name+"/") { // which would go before it is linked to
			return &refusal{fmt.Sprintf("a hard link to %.200q, the root or below the link itself", e.Link), syscall.EINVAL}
		}
	case e.Kind == Symlink && (hdr.Linkname == "" || strings.ContainsRune(hdr.Linkname, 0)):
		return fmt.Errorf("link to %.200q: %w", hdr.Linkname, syscall.EINVAL)
	case e.Kind == Symlink && len(hdr.Linkname) > maxPath:
		return fmt.Errorf("link of %d bytes: %w", len(hdr.Linkname), syscall.ENAMETOOLONG)
	case e.Kind == Symlink:
		e.Link = hdr.Linkname
	}
	return nil
}

func (e *Entry) device(hdr *tar.Header) error {
	if e.Kind != CharDevice && e.Kind != BlockDevice {
		return nil
	}
	// Linux has 12 bits of major and 20 of minor numbers.
	if hdr.Devmajor < 0 || hdr.Devmajor >= 1<<12 || hdr.Devminor < 0 || hdr.Devminor >= 1<<20 {
		return fmt.Errorf("device %d:%d: %w", hdr.Devmajor, hdr.Devminor, syscall.EINVAL)
	}
	e.Major, e.Minor = uint32(hdr.Devmajor), uint32(hdr.Devminor)
	return nil
}

// xattrRecord begins the key of an extended attribute among PAX records.
const xattrRecord = "SCHILY.xattr."

// xattrs takes the extended attributes among PAX records. libarchive writes
// records of its own beside these, which runtimes do not read.
func (e *Entry) xattrs(hdr *tar.Header) error {
	for key, value := range hdr.PAXRecords {
		name, is := strings.CutPrefix(key, xattrRecord)
		switch {
		case !is:
			continue
		case name == "" || len(name) > maxName:
			return fmt.Errorf("extended attribute %.200q: %w", name, syscall.EINVAL)
		case e.Xattrs == nil:
			e.Xattrs = make(map[string]string)
		}
		e.Xattrs[name] = value
	}
	return nil
}
