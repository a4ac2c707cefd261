package fetch

import (
	"context"
	"errors"
	"io"
	iofs "io/fs"
	"net/http"
	"net/url"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"distfs/content"
	"distfs/locator"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	uploadChunk = 16 << 20 // bytes of a chunk; what is no larger goes without a session's chunks
	leastChunk  = 1 << 20  // and of one for a registry, or a proxy before it, that takes no large ones
	maxSessions = 4        // upload sessions for a blob
	maxOutside  = 3        // chunks in a row that were out of place
	maxSpent    = 4        // times a blob's size that may be sent of it, and as many chunks
	settleRate  = 64 << 20 // bytes a second that a registry is given to check a blob that it has
)

// An upload brings one blob into a repository. Each step is one request; what
// the answers say is the only thing that is known of the session.
type upload struct {
	p    *Pusher
	desc ocispec.Descriptor
	src  io.ReaderAt
	told func(int64)

	from    string // a repository to mount from; "" none
	chunk   int64  // bytes of a chunk
	whole   bool   // the registry does no chunks
	begun   int    // sessions so far
	outside int    // chunks in a row that were out of place
	stingy  bool   // the last step was a chunk of which less than half was taken
	spent   int64  // bytes that were sent, in vain or not

	session *url.URL // nil where there is none
	off     int64    // bytes that it has
	unsure  bool     // of off: the registry is to be asked
	doubt   bool     // an answer to what would have ended it did not come: the blob may be there
	done    bool
	mounted bool

	note *content.UploadNote // nil where none is kept

	began time.Time
	at    atomic.Int64 // bytes that were told of last
	meter meter
}

func (u *upload) run(ctx context.Context) error {
	defer u.remember()()
	patience := newPatience(u.p.f.opts.Timeout)
	for far := int64(0); !u.done; {
		err := u.step(ctx)
		if u.off > far { // never twice for the same bytes
			little := u.off-far < progressMin && u.off < u.desc.Size
			far, u.outside = u.off, 0
			if (u.stingy || little) && err == nil {
				err = errStingy
			} else {
				patience.renew()
			}
		}
		if !u.done && u.spent > maxSpent*(u.desc.Size+uploadChunk) {
			return broken("%s: %d bytes were sent of a blob of %d, and it has %d of them", u.p.r.to.Addr, u.spent, u.desc.Size, u.off)
		}
		if _, ours := errors.AsType[*sourceError](err); ours {
			return err
		}
		if err == nil || u.mend(err) {
			continue
		}
		if d, ok := patience.pause(ctx, err); !ok || !sleep(ctx, d) {
			return err
		}
	}
	return nil
}

// errStingy is that a chunk, or an answer of how far it is, brought the upload on, but by
// so little that a registry which goes on like that could keep it busy for ever.
var errStingy = &kindError{errors.New("of what was sent the registry took less than half"), syscall.EIO}

// step does what is next.
func (u *upload) step(ctx context.Context) error {
	u.stingy = false
	switch {
	case u.doubt:
		return u.look(ctx)
	case u.session == nil:
		return u.begin(ctx)
	case u.unsure:
		return u.ask(ctx)
	case u.whole, u.off == 0 && u.desc.Size <= u.chunk:
		return u.finish(ctx, u.desc.Size)
	case u.off < u.desc.Size:
		return u.patch(ctx)
	}
	return u.finish(ctx, 0)
}

// mend says whether the next step can do something about err, which is more than
// to try the same once more.
func (u *upload) mend(err error) bool {
	status, ok := errors.AsType[*StatusError](err)
	if _, unsent := errors.AsType[*gateError](err); unsent || !ok || u.session == nil {
		return false
	}
	switch status.Code {
	case http.StatusNotFound, http.StatusGone: // the session
		return u.anew()
	case http.StatusBadRequest, http.StatusRequestedRangeNotSatisfiable:
		// It does not tell of a session, as one of which it has more than it said last.
		if status.Method == http.MethodGet {
			return u.anew()
		}
	}
	switch status.Code {
	case http.StatusRequestEntityTooLarge:
		if u.whole || u.chunk <= leastChunk {
			return false
		}
		u.chunk, u.unsure = max(u.chunk/4, leastChunk), true
		return true
	case http.StatusRequestedRangeNotSatisfiable:
		if u.outside++; u.outside < maxOutside {
			u.unsure = true
			return true
		}
	case http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusLengthRequired, http.StatusUnsupportedMediaType, http.StatusNotImplemented:
	default:
		return false
	}
	// Chunks are not for it, or something went wrong with them.
	if u.whole || status.Method == http.MethodPut && u.off == 0 {
		return false
	}
	u.whole = true
	return u.anew()
}

// anew has the next step begin another session, unless there were too many.
func (u *upload) anew() bool {
	u.session, u.unsure, u.off = nil, false, 0
	return u.begun < maxSessions
}

// begin asks for a session, or for the blob to be mounted, once.
func (u *upload) begin(ctx context.Context) error {
	from := u.from
	req, err := u.p.r.request(writing(ctx, from), http.MethodPost, locator.Reference{Locator: u.p.ref.Locator}, "blobs/uploads", nil)
	if err != nil {
		return err
	}
	if from != "" {
		query := req.URL.Query()
		query.Set("mount", u.desc.Digest.String())
		query.Set("from", from)
		req.URL.RawQuery = query.Encode()
	}
	a, err := u.exchange(ctx, req, nil)
	switch {
	case from != "" && errors.Is(err, iofs.ErrPermission): // no token for both: the next step asks for one
		u.from = ""
		return nil
	case err != nil:
		return err
	case a.code == http.StatusCreated && from != "":
		err := a.created(u.desc.Digest)
		u.mounted, u.done = err == nil, err == nil
		return err
	case a.ok() && a.code != http.StatusAccepted:
		return broken("%s: %d where an upload session was asked for", a.at.Host, a.code)
	case a.code != http.StatusAccepted:
		if err = a.err(); from != "" && !temporary(err) {
			u.from = "" // it may not be for mounts alone: the next step asks for a session
			return nil
		}
		return err
	}
	u.from = ""
	u.begun++
	if least, err := parseOffset(a.header.Get("OCI-Chunk-Min-Length")); err == nil {
		u.chunk = max(u.chunk, least)
	}
	u.told(0)
	return u.goOn(a)
}

// goOn takes from an answer where the session goes on.
func (u *upload) goOn(a *reply) error {
	to, err := a.place()
	if err != nil {
		return err
	}
	if to == nil && u.session == nil {
		return broken("%s: an upload session without a Location", a.at.Host)
	}
	if to != nil {
		u.session = to
		u.keep(to.String())
	}
	return nil
}

// ask asks how far the session is.
func (u *upload) ask(ctx context.Context) error {
	a, err := u.send(ctx, http.MethodGet, u.session, 0, 0)
	if err != nil {
		return err
	}
	if !a.ok() {
		return a.err()
	}
	has, ok := a.sessionRange()
	if !ok || has <= 1 || has > u.desc.Size { // "0-0" is said of one byte, and of none
		if !u.anew() {
			return broken("%s: none of %d upload sessions tells how far it is", a.at.Host, u.begun)
		}
		return nil
	}
	u.off, u.unsure = has, false
	u.told(u.off)
	return u.goOn(a)
}

// patch sends the next chunk.
func (u *upload) patch(ctx context.Context) error {
	n := min(u.chunk, u.desc.Size-u.off)
	a, err := u.send(ctx, http.MethodPatch, u.session, u.off, n)
	u.unsure = true // until the answer says how far it is
	if err != nil {
		return err
	}
	if !a.ok() {
		return a.err()
	}
	has, said := a.sessionRange()
	switch {
	case !said:
		has = u.off + n
	case has <= u.off || has > u.off+n:
		if u.outside++; u.outside < maxOutside {
			return nil // asked, it may know better
		}
		return broken("%s: an upload session of %d bytes where %d were sent behind %d", a.at.Host, has, n, u.off)
	}
	u.stingy = has-u.off < n/2
	u.off, u.unsure = has, false
	return u.goOn(a)
}

// finish says that the session has all, or sends all of its n bytes at once.
func (u *upload) finish(ctx context.Context, n int64) error {
	to := *u.session
	if to.RawQuery != "" { // as it is: it may be signed
		to.RawQuery += "&"
	}
	to.RawQuery += "digest=" + url.QueryEscape(u.desc.Digest.String())
	a, err := u.send(ctx, http.MethodPut, &to, 0, n)
	if err == nil && a.ok() {
		if err = a.created(u.desc.Digest); err == nil {
			u.told(u.desc.Size)
			u.done = true
		}
		return err
	}
	if err == nil {
		if err = a.err(); !temporary(err) {
			return err
		}
	} else if _, unsent := errors.AsType[*gateError](err); unsent {
		return err
	}
	u.doubt, u.unsure = true, true
	if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil {
		return u.settle(ctx, err)
	}
	return err
}

// settle waits for a blob that the registry has all bytes of, and has not
// answered for in the time that answers have: it may have to read all of it.
func (u *upload) settle(ctx context.Context, late error) error {
	until := time.Now().Add(time.Duration(u.desc.Size/settleRate) * time.Second)
	for {
		there, err := u.p.has(ctx, u.desc)
		switch {
		case there:
			u.done = true
			return nil
		case err != nil:
			return err
		case time.Now().After(until):
			return late
		case !sleep(ctx, jitter(time.Second)):
			return context.Cause(ctx)
		}
	}
}

// look asks whether the blob is there.
func (u *upload) look(ctx context.Context) error {
	there, err := u.p.has(ctx, u.desc)
	if err != nil {
		return err
	}
	u.doubt, u.done = false, there
	if u.whole && !there && !u.anew() { // what the session has can't be gone on from
		return broken("%s: %d upload sessions broke off", u.p.r.to.Addr, u.begun)
	}
	return nil
}
