package fetch_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"net/http"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"distfs/fetch"
	"distfs/internal/testregistry"
	"distfs/locator"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// A misbehaviour is a fault and what a reader gets while it lasts: an errno's
// name, "" if the reader notices nothing.
type misbehaviour struct {
	name  string
	fault testregistry.Fault

	whole string // befalls GETs: of a small object
	part  string // of ranges of a large one
	head  string // befalls HEADs: of an object
	tag   string // of a tag
	token string // befalls the token server
}

func same(name string, f testregistry.Fault, errno string) misbehaviour {
	return misbehaviour{name, f, errno, errno, errno, errno, errno}
}

func status(code int, whole, head, token string) misbehaviour {
	f := testregistry.Fault{Act: testregistry.Status, Code: code}
	return misbehaviour{http.StatusText(code), f, whole, whole, head, head, token}
}

// misbehaviours are every Act of the test registry and the statuses that a
// registry refuses with. dead is the address of nobody.
func misbehaviours(dead string) []misbehaviour {
	return []misbehaviour{
		status(400, "EIO", "", "EIO"), // a HEAD that is refused is followed by a GET
		status(401, "EACCES", "EACCES", "EACCES"),
		status(403, "EACCES", "", "EACCES"),
		status(404, "ENOENT", "ENOENT", "EIO"), // a token server knows of no objects
		status(416, "EIO", "", "EIO"),
		status(429, "EBUSY", "EBUSY", "EBUSY"),
		status(500, "EIO", "", "EIO"),
		status(502, "EIO", "", "EIO"),
		status(503, "EIO", "", "EIO"),
		same("other headers", testregistry.Fault{Act: testregistry.Headers, Header: http.Header{"Content-Type": {"text/html"}}}, ""),
		same("stalled head", testregistry.Fault{Act: testregistry.StallHeaders}, "ETIMEDOUT"),
		{"stalled body", testregistry.Fault{Act: testregistry.StallBody, At: 10}, "ETIMEDOUT", "ETIMEDOUT", "", "", "ETIMEDOUT"},
		{"cut early", testregistry.Fault{Act: testregistry.Cut, At: 10}, "EIO", "EIO", "", "", "EIO"},
		{"cut late", testregistry.Fault{Act: testregistry.Cut, At: 100_000}, "", "", "", "", ""}, // what came is kept
		{"short", testregistry.Fault{Act: testregistry.Short, At: 10}, "EIO", "EIO", "", "", "EIO"},
		{"ranges ignored", testregistry.Fault{Act: testregistry.IgnoreRange}, "", "", "", "", ""},
		{"no Content-Range", testregistry.Fault{Act: testregistry.NoRange}, "", "EIO", "", "", ""}, // a small object is asked for whole
		{"senseless Content-Range", testregistry.Fault{Act: testregistry.BadRange}, "", "EIO", "", "", ""},
		{"shifted range", testregistry.Fault{Act: testregistry.ShiftRange, At: 4096}, "", "EIO", "", "", ""},
		{"shorter range", testregistry.Fault{Act: testregistry.ShortRange, At: 200_000}, "", "", "", "", ""},
		{"another total", testregistry.Fault{Act: testregistry.WrongTotal, At: 1}, "", "EIO", "EIO", "", ""}, // a tag's size nobody can check
		{"flipped bit", testregistry.Fault{Act: testregistry.FlipBit, At: 33_333}, "EIO", "", "", "", ""},
		{"flipped bit further on", testregistry.Fault{Act: testregistry.FlipBit, At: 2_500_000}, "", "EIO", "", "", ""},
		same("no length", testregistry.Fault{Act: testregistry.NoLength}, ""),
		same("endless", testregistry.Fault{Act: testregistry.Endless}, ""),
		{"HTML", testregistry.Fault{Act: testregistry.HTML}, "EIO", "EIO", "EIO", "", "EIO"}, // without a tag's digest the manifest is read
		{"compressed", testregistry.Fault{Act: testregistry.Gzip}, "EIO", "EIO", "", "", "EIO"},
		same("redirect to nobody", testregistry.Fault{Act: testregistry.RedirectTo, To: dead}, "EHOSTUNREACH"),
	}
}

// A step is the part of the way to the bytes that a fault befalls.
type step struct {
	name   string
	opts   testregistry.Options
	method string
	kind   testregistry.Kind
	midway bool // it befalls readers who have begun
}

var steps = []step{
	{"HEAD", testregistry.Options{}, http.MethodHead, "", false},
	{"GET", testregistry.Options{}, http.MethodGet, testregistry.Blob, true},
	{"CDN", testregistry.Options{Redirect: true}, http.MethodGet, testregistry.CDN, true},
	{"token", testregistry.Options{Auth: testregistry.BearerAuth}, "", testregistry.Token, true},
	{"list", testregistry.Options{}, http.MethodGet, testregistry.Tags, false},
}

// ofLists is where a list of tags fares otherwise than a small object.
var ofLists = map[string]string{
	"flipped bit": "", // it has no digest
}

func (m *misbehaviour) want(s step, r reading) string {
	switch {
	case s.name == "token":
		return m.token
	case s.name == "list":
		if errno, ok := ofLists[m.name]; ok {
			return errno
		}
	case s.name == "HEAD" && r.tag:
		return m.tag
	case s.name == "HEAD":
		return m.head
	case r.large:
		return m.part
	}
	return m.whole
}

// A reading is a way to read: a column of the table.
type reading struct {
	name  string
	large bool // a large object that is open, if the step is midway, and begun
	tag   bool // of a manifest
	read  func(c *cell, ctx context.Context) error
}

var readings = []reading{
	{"small", false, false, (*cell).readWhole},
	{"sequence", true, false, (*cell).readInSequence},
	{"random", true, false, (*cell).readAtRandom},
	{"tag", false, true, (*cell).resolve},
	{".tags", false, false, (*cell).list},
}

// lies says whether s is on the way of r.
func (r *reading) lies(s step) bool {
	switch r.name {
	case ".tags":
		return s.name == "list" || s.name == "token"
	case "tag":
		return s.name == "HEAD" || s.name == "token"
	}
	return s.name != "list"
}

// A cell is one reader's object.
type cell struct {
	reading
	b    *bench
	desc ocispec.Descriptor
	want []byte
	o    *fetch.Object // nil while it is not open
}

// open asks what the object is and opens it, anew where what was open turned
// out bad.
func (c *cell) open(ctx context.Context) error {
	if c.o != nil {
		if c.o.Bad() == nil && c.o.Size() == int64(len(c.want)) {
			return nil
		}
		c.o.Close()
		c.o = nil
	}
	desc, err := c.b.f.Stat(ctx, c.b.loc, ocispec.Descriptor{Digest: c.desc.Digest})
	if err != nil {
		return err
	}
	c.o, err = c.b.f.Open(ctx, c.b.loc, desc)
	return err
}

// chunk reads n bytes at off. That they are right is known once the digest
// matched.
func (c *cell) chunk(ctx context.Context, off, n int64) error {
	p := make([]byte, min(n, c.desc.Size-off))
	if _, err := c.o.ReadAt(ctx, p, off); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if !bytes.Equal(p, c.want[off:][:len(p)]) {
		return errWrongBytes
	}
	return nil
}

// errWrongBytes is for a reader who goes on: at the end he must not be told
// that all is well.
var errWrongBytes = errors.New("wrong bytes")

// all reads at the offsets and to the end of what is verified.
func (c *cell) all(ctx context.Context, n int64, offs ...int64) error {
	if err := c.open(ctx); err != nil {
		return err
	}
	wrong := false
	for _, off := range offs {
		err := c.chunk(ctx, off, n)
		if wrong = wrong || errors.Is(err, errWrongBytes); err != nil && !wrong {
			return err
		}
	}
	if err := c.o.Verify(ctx); err != nil {
		return err
	}
	if wrong {
		panic("wrong bytes, and the digest matched")
	}
	return c.chunk(ctx, 0, c.desc.Size)
}

func (c *cell) readWhole(ctx context.Context) error {
	return c.all(ctx, 0)
}

func (c *cell) readInSequence(ctx context.Context) error {
	var offs []int64
	for off := int64(0); off < c.desc.Size; off += mib / 2 {
		offs = append(offs, off)
	}
	return c.all(ctx, mib/2, offs...)
}

func (c *cell) readAtRandom(ctx context.Context) error {
	return c.all(ctx, 5000, 4*mib+99, mib-1000, 3*mib, c.desc.Size-10, 2*mib+5, 0)
}

func (c *cell) resolve(ctx context.Context) error {
	desc, err := c.b.f.Resolve(ctx, locator.Reference{Locator: c.b.loc, Tag: "7"})
	if err == nil && desc.Digest != digest.FromBytes(c.want) {
		panic("another digest")
	}
	return err
}

func (c *cell) list(ctx context.Context) error {
	n := 0
	for tag, err := range c.b.f.ListTags(ctx, c.b.loc) {
		if err != nil {
			return err
		}
		if n++; tag != "7" {
			panic("tag " + tag)
		}
	}
	if n != 1 {
		panic("not the one tag")
	}
	return nil
}

// errnoOf is the number that a program sees, as fs/errno.go has it.
func errnoOf(err error) string {
	for _, e := range []struct {
		is   error
		name string
	}{
		{nil, ""},
		{iofs.ErrNotExist, "ENOENT"},
		{iofs.ErrPermission, "EACCES"},
		{syscall.ENETUNREACH, "ENETUNREACH"},
		{syscall.EHOSTUNREACH, "EHOSTUNREACH"},
		{syscall.EBUSY, "EBUSY"},
		{syscall.EIO, "EIO"},
		{os.ErrDeadlineExceeded, "ETIMEDOUT"},
		{context.DeadlineExceeded, "ETIMEDOUT"},
		{context.Canceled, "canceled"},
	} {
		if errors.Is(err, e.is) {
			return e.name
		}
	}
	return "EIO"
}

// nobody returns the address of a port that is taken, and where nobody listens.
func nobody(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	addr, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", addr.(*unix.SockaddrInet4).Port)
}

// TestMisbehaviours holds every misbehaviour in every step against every way to
// read: right bytes or the errno of the table, and once the fault has ended the
// same read succeeds, on the same Fetcher.
func TestMisbehaviours(t *testing.T) {
	for _, m := range misbehaviours("http://" + nobody(t)) {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			var wg sync.WaitGroup
			for _, s := range steps {
				b := setup(t, &s.opts, ended(m.fault, 5*time.Second, fetch.Options{FillBelow: mib}))
				cells := b.cells(s)
				wg.Go(func() { b.misbehave(&m, s, cells) })
			}
			wg.Wait()
		})
	}
}

// cells has an object for each way to read that the step lies on. Those that
// the fault befalls midway are open, and their beginning is here.
func (b *bench) cells(s step) []*cell {
	b.t.Helper()
	m := []byte(`{"schemaVersion":2}`)
	b.reg.AddManifest(b.loc.Path, "7", ocispec.MediaTypeImageManifest, m)
	var cells []*cell
	for i, r := range readings {
		c := &cell{reading: r, b: b}
		switch {
		case !r.lies(s):
			continue
		case r.tag || r.name == ".tags":
			c.want = m
		case r.large:
			c.desc, c.want = b.blob(6*mib + i)
		default:
			c.desc, c.want = b.blob(300_000 + i)
		}
		if r.large && s.midway {
			c.o = b.object(c.desc)
			check(b.t, c.o, c.want, 0, 10)
		}
		cells = append(cells, c)
	}
	return cells
}

// misbehave has the fault befall all cells, and ends it.
func (b *bench) misbehave(m *misbehaviour, s step, cells []*cell) {
	fault := m.fault
	fault.Method, fault.Kind = s.method, s.kind
	a := b.reg.SetFault(fault)
	b.reg.ExpireTokens()
	ctx, cancel := context.WithTimeout(b.t.Context(), 3*time.Minute)
	defer cancel()
	each(cells, func(c *cell) {
		err := c.read(c, ctx)
		if got, want := errnoOf(err), m.want(s, c.reading); got != want {
			b.t.Errorf("%s of %s, %s: %q (%v), want %q", m.name, s.name, c.name, got, err, want)
		}
	})
	if a.Hits() == 0 {
		b.t.Errorf("%s of %s befell nothing", m.name, s.name)
	}
	a.Release()
	each(cells, func(c *cell) {
		if err := c.healed(ctx); err != nil {
			b.t.Errorf("%s of %s, %s: it has ended, and still %v", m.name, s.name, c.name, err)
		}
		if c.o != nil {
			c.o.Close()
		}
	})
}

// healed reads once more, as soon as the engine tries again: a failure is
// remembered for a second.
func (c *cell) healed(ctx context.Context) error {
	for start := time.Now(); ; {
		err := c.read(c, ctx)
		if err == nil || time.Since(start) > time.Minute {
			return err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%w, and then: %w", err, ctx.Err())
		}
	}
}

func each(cells []*cell, do func(*cell)) {
	var wg sync.WaitGroup
	for _, c := range cells {
		wg.Go(func() { do(c) })
	}
	wg.Wait()
}
