package transfer

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"strings"
	"sync/atomic"

	"distfs/layer"
	"distfs/locator"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// dockerManifest is the file that lists the images in an archive of docker save.
const dockerManifest = "manifest.json"

// Bounds of names in an archive.
const (
	maxName  = 1024     // bytes
	maxText  = 32 << 20 // bytes of all of them, and of the targets of links
	maxLinks = 8        // that lead to one another
)

// ImportArchive reads an OCI archive or one of docker save, plain or compressed,
// in one pass: blobs go into the store as they come, and what they are is looked
// at in the end. What no image in it names is in the store then, but belongs to
// nothing. label is what errors of other imports call this one.
//
// Nothing in an archive is a path here: its names are compared with each other
// and that is all. The error is ErrNoImage if it has none.
func ImportArchive(ctx context.Context, store ArchiveStore, r io.Reader, label string) (*Import, error) {
	return newArchive(store, label, maxInflated).bring(ctx, r)
}

var errCut = errors.New("the archive is cut short")

// An archive is one on its way in.
type archive struct {
	*Import
	docs  map[string][]byte             // the documents in it that tell what it is
	files map[string]ocispec.Descriptor // other files, by name
	links map[string]string             // links, and where they lead
	text  int                           // bytes of all these names and targets
	saves *saves                        // what is known of docker's files

	unended bool // it has not the two empty blocks that a tar ends with
}

// newArchive is one whose layers inflate to so many bytes at most.
func newArchive(store ArchiveStore, label string, inflate int64) *archive {
	return &archive{
		Import: newImport(store, label), docs: make(map[string][]byte),
		files: make(map[string]ocispec.Descriptor), links: make(map[string]string), saves: newSaves(inflate),
	}
}

func (a *archive) bring(ctx context.Context, r io.Reader) (*Import, error) {
	err := a.read(ctx, r)
	cut := errors.Is(err, io.ErrUnexpectedEOF)
	if err == nil {
		err = a.settle(ctx)
		cut = a.unended && (errors.Is(err, ErrNoImage) || isMissing(err))
	}
	if cut {
		err = errCut // in which entry, and on which way to the store, is of no use
	}
	if err != nil {
		a.Release()
		return nil, err
	}
	return a.Import, nil
}

func (a *archive) read(ctx context.Context, r io.Reader) (err error) {
	in := &metered{Reader: contextReader{ctx, r}}
	plain, err := layer.Decompress(in)
	if errors.Is(err, io.ErrUnexpectedEOF) && in.read.Load() == 0 {
		return errors.New("it is empty")
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, plain.Close()) }()
	body := &ending{Reader: &inflated{Reader: plain, of: in, most: a.saves.inflate}}
	tr := tar.NewReader(body)
	for n := 0; ; n++ {
		h, err := tr.Next()
		switch {
		case errors.Is(err, io.EOF):
			a.unended = body.ended
			return drain(plain)
		case err != nil && n == 0 && ctx.Err() == nil:
			return fmt.Errorf("it is no tar: %v", err) //nolint:errorlint // a short text is no tar that was cut
		case err != nil:
			return fmt.Errorf("entry %d: %w", n+1, err)
		case n == maxEntries:
			return fmt.Errorf("more than %d entries", maxEntries)
		}
		if err := a.entry(ctx, h, tr); err != nil {
			return fmt.Errorf("%.200q: %w", h.Name, err)
		}
	}
}

// A metered reader counts what is read, ahead by others too.
type metered struct {
	io.Reader
	read atomic.Int64
}

func (m *metered) Read(p []byte) (int, error) {
	n, err := m.Reader.Read(p)
	m.read.Add(int64(n))
	return n, err
}

// An inflated reader is what an archive is when it is not compressed any more: so
// many bytes more than it had, at most. All of them take disk.
type inflated struct {
	io.Reader
	of   *metered
	most int64
	read int64
}

func (i *inflated) Read(p []byte) (int, error) {
	n, err := i.Reader.Read(p)
	if i.read += int64(n); i.read-i.of.read.Load() > i.most {
		return 0, fmt.Errorf("the archive inflates to more than %d bytes besides its own", i.most)
	}
	return n, err
}

// An ending reader knows whether its end was seen.
type ending struct {
	io.Reader
	ended bool
}

func (e *ending) Read(p []byte) (int, error) {
	n, err := e.Reader.Read(p)
	e.ended = e.ended || errors.Is(err, io.EOF)
	return n, err
}

// drain reads what follows an archive's end, so that who writes it is not cut
// off, and a checksum is looked at.
func drain(r io.Reader) error {
	const most = 1 << 20
	if _, err := io.Copy(io.Discard, io.LimitReader(r, most)); err != nil {
		return fmt.Errorf("behind its end: %w", err)
	}
	return nil
}

// errSparse is a file whose holes could be of any size, and would take as much
// disk.
var errSparse = errors.New("a sparse file")

func (a *archive) entry(ctx context.Context, h *tar.Header, r io.Reader) error {
	name := path.Clean(h.Name)
	if !filepath.IsLocal(name) || len(name) > maxName {
		return errors.New("a name that leads out of the archive, or is too long")
	}
	if len(h.Linkname) > maxName {
		return errors.New("a link whose target is too long")
	}
	if a.text += len(name) + len(h.Linkname); a.text > maxText {
		return fmt.Errorf("names of more than %d bytes in all", maxText)
	}
	switch h.Typeflag {
	case tar.TypeGNUSparse:
		return errSparse
	case tar.TypeReg:
		for key := range h.PAXRecords {
			if strings.HasPrefix(key, "GNU.sparse.") {
				return errSparse
			}
		}
		return a.file(ctx, name, h.Size, r)
	case tar.TypeSymlink:
		a.links[name] = path.Join(path.Dir(name), h.Linkname)
	case tar.TypeLink:
		a.links[name] = path.Clean(h.Linkname)
	}
	return nil
}

// file takes a regular file by its name.
func (a *archive) file(ctx context.Context, name string, size int64, r io.Reader) error {
	var dgst digest.Digest
	switch base := path.Base(name); {
	case name == ocispec.ImageLayoutFile, name == ocispec.ImageIndexFile, name == dockerManifest:
		if _, twice := a.docs[name]; twice {
			return errors.New("it is there twice")
		}
		b, err := readBounded(r, "it")
		a.docs[name] = b
		return err
	case strings.HasPrefix(name, ocispec.ImageBlobsDir+"/"):
		var err error
		if dgst, err = blobDigest(name); err != nil {
			return err
		}
	case name == "repositories", base == "VERSION", base == "json": // docker's, of times gone by
		return nil
	}
	desc, err := a.write(ctx, name, r, size, dgst)
	if err == nil {
		a.files[name] = desc
		delete(a.links, name)
	}
	return err
}

// blobDigest reads blobs/ALGORITHM/HEX.
func blobDigest(name string) (digest.Digest, error) {
	rest := strings.TrimPrefix(name, ocispec.ImageBlobsDir+"/")
	return locator.ParseDigest(strings.Replace(rest, "/", ":", 1))
}

// settle finds the images in what came.
func (a *archive) settle(ctx context.Context) error {
	index, isOCI := a.docs[ocispec.ImageIndexFile]
	if layout, ok := a.docs[ocispec.ImageLayoutFile]; !ok || !isOCI {
		isOCI = false
	} else if err := checkLayout(layout); err != nil {
		return err
	}
	_, isDocker := a.docs[dockerManifest]
	switch {
	case isOCI:
		list, err := offers(index)
		if err != nil {
			return err
		}
		if isDocker {
			a.nameByDocker(list)
		}
		return a.take(ctx, list, "", a.brought)
	case isDocker:
		return a.settleDocker(ctx)
	}
	return fmt.Errorf("%w: neither %s and %s nor %s is in it", ErrNoImage, ocispec.ImageLayoutFile, ocispec.ImageIndexFile, dockerManifest)
}

// checkLayout reads the file oci-layout.
func checkLayout(b []byte) error {
	var l ocispec.ImageLayout
	if err := json.Unmarshal(b, &l); err != nil {
		return fmt.Errorf("%s: %w", ocispec.ImageLayoutFile, err)
	}
	if !strings.HasPrefix(l.Version, "1.") {
		return fmt.Errorf("%s: version %.20q, and not 1", ocispec.ImageLayoutFile, l.Version)
	}
	return nil
}

// find returns the file of that name, along links.
func (a *archive) find(name string) (ocispec.Descriptor, bool) {
	name = path.Clean(name)
	for range maxLinks {
		if desc, ok := a.files[name]; ok {
			return desc, true
		}
		to, ok := a.links[name]
		if !ok {
			break
		}
		name = to
	}
	return ocispec.Descriptor{}, false
}
