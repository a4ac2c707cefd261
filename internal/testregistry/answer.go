package testregistry

import (
	"cmp"
	"compress/gzip"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// An answer is a response before it is sent, so that faults can bend it.
type answer struct {
	status int
	header http.Header
	open   func(off int64) io.Reader // the object, nil where the answer has none
	size   int64                     // of the object
	first  int64                     // of the object, what the body begins with
	length int64                     // of the body

	ranged   bool // Content-Range is said
	saidSize int64
	noLength bool
	flip     int64 // offset in the object
	endless  bool
	gzip     bool
	holds    []hold
}

// A hold is an offset in the body at which something happens.
type hold struct {
	at   int64
	stop func() // blocks, or ends the answer by a panic
	end  bool   // nothing comes after it
}

func newAnswer(status int) *answer {
	return &answer{status: status, header: http.Header{}, flip: math.MinInt64}
}

// plain is an answer with a body of its own.
func plain(status int, contentType, body string) *answer {
	a := newAnswer(status)
	a.header.Set("Content-Type", contentType)
	a.setBody([]byte(body))
	return a
}

// refusal is an error as the distribution specification has it.
func refusal(status int, code string) *answer {
	return plain(status, "application/json", fmt.Sprintf(`{"errors":[{"code":%q,"message":%q}]}`, code, strings.ToLower(code)))
}

func (a *answer) setBody(b []byte) {
	a.open, a.size, a.first, a.length = from(b), int64(len(b)), 0, int64(len(b))
	a.saidSize, a.ranged = a.size, false
}

// serve sets o as the object answered, and the part of it that rng asks for.
func (a *answer) serve(o *object, rng string) {
	a.status, a.open, a.size, a.saidSize, a.first, a.length = http.StatusOK, o.open, o.size, o.size, 0, o.size
	first, length, ok := parseRange(rng, o.size)
	switch {
	case !ok:
	case length == 0:
		*a = *refusal(http.StatusRequestedRangeNotSatisfiable, "RANGE_INVALID")
		a.header.Set("Content-Range", fmt.Sprintf("bytes */%d", o.size))
	default:
		a.status, a.ranged, a.first, a.length = http.StatusPartialContent, true, first, length
	}
}

// parseRange reads one range of bytes. Anything else is not ok, and is to be ignored.
// The length is 0 if the range lies outside.
func parseRange(s string, size int64) (first, length int64, ok bool) {
	spec, ok := strings.CutPrefix(s, "bytes=")
	from, to, dash := strings.Cut(spec, "-")
	if !ok || !dash {
		return 0, 0, false
	}
	if from == "" {
		n, err := strconv.ParseInt(to, 10, 64)
		n = min(n, size)
		return size - n, n, err == nil
	}
	first, err := strconv.ParseInt(from, 10, 64)
	last := size - 1
	if err == nil && to != "" {
		last, err = strconv.ParseInt(to, 10, 64)
	}
	if err != nil || to != "" && last < first {
		return 0, 0, false
	}
	return first, max(0, min(last, size-1)-first+1), true
}

// bend changes the answer as f says. wait blocks until f is released or the client is gone.
func (a *answer) bend(req *http.Request, f *Fault, wait func()) {
	switch f.Act {
	case Status:
		*a = *plain(f.Code, "application/json", f.Body)
		a.merge(f.Header)
	case Headers:
		a.merge(f.Header)
	case StallHeaders:
		wait()
	case StallBody:
		a.holds = append(a.holds, hold{at: f.At, stop: wait})
	case Cut:
		a.holds = append(a.holds, hold{at: f.At, stop: func() { reset(req) }})
	case Short:
		a.holds = append(a.holds, hold{at: f.At, end: true})
	case IgnoreRange:
		a.status, a.ranged, a.first, a.length = http.StatusOK, false, 0, a.size
	case NoRange:
		a.ranged = false
	case BadRange:
		a.ranged = false
		a.header.Set("Content-Range", "bytes 7-3/*")
	case ShiftRange:
		if a.ranged {
			a.first = max(0, min(a.first+f.At, a.size-1))
			a.length = min(a.length, a.size-a.first)
		}
	case ShortRange:
		if a.ranged {
			a.length = min(a.length, f.At)
		}
	case WrongTotal:
		a.saidSize += f.At
	case FlipBit:
		a.flip = f.At
	case NoLength:
		a.noLength = true
	case Endless:
		a.endless, a.noLength = true, true
	case HTML:
		*a = *plain(http.StatusOK, "text/html; charset=utf-8", "<!DOCTYPE html><title>Welcome</title><p>Please sign in to use this network.\n")
	case Gzip:
		a.gzip, a.noLength = true, true
		a.header.Set("Content-Encoding", "gzip")
	case RedirectTo:
		*a = *plain(http.StatusTemporaryRedirect, "text/plain", "")
		a.header.Set("Location", f.To+req.URL.RequestURI())
	}
}

// merge sets the headers of h; an empty value removes.
func (a *answer) merge(h http.Header) {
	for k, v := range h {
		if len(v) == 0 || v[0] == "" {
			a.header.Del(k)
		} else {
			a.header[http.CanonicalHeaderKey(k)] = v
		}
	}
}

// write sends the answer. count is told of every piece of the body that was written.
func (a *answer) write(w http.ResponseWriter, head bool, count func(n int)) {
	maps.Copy(w.Header(), a.header)
	if a.ranged {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", a.first, a.first+a.length-1, a.saidSize))
	}
	if !a.noLength {
		n := a.length
		if head {
			n += a.saidSize - a.size
		}
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	}
	w.WriteHeader(a.status)
	if head || a.open == nil {
		return
	}
	if a.noLength {
		_ = http.NewResponseController(w).Flush() // else net/http finds the length of a short one
	}
	if !a.gzip {
		a.send(w, w, count)
		return
	}
	z := gzip.NewWriter(w)
	a.send(w, z, count)
	z.Close()
}

// send writes the body to out, which leads to w, and obeys the holds on the way.
func (a *answer) send(w http.ResponseWriter, out io.Writer, count func(n int)) {
	src := io.LimitReader(a.open(a.first), a.length)
	if a.endless {
		src = io.MultiReader(src, letters{})
	}
	slices.SortStableFunc(a.holds, func(a, b hold) int { return cmp.Compare(a.at, b.at) })
	var sent int64
	send := func(n int64) bool {
		m, err := io.Copy(out, io.LimitReader(&body{src, a.flip - a.first, sent, count}, n))
		sent += m
		return m == n && err == nil
	}
	for _, h := range a.holds {
		if !send(h.at - sent) {
			return
		}
		_ = http.NewResponseController(w).Flush()
		if h.end {
			return
		}
		h.stop()
	}
	send(math.MaxInt64 - sent)
}

// A body reads an answer's bytes with their fault and counts them.
type body struct {
	src   io.Reader
	flip  int64 // offset in the body
	at    int64
	count func(n int)
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.src.Read(p)
	if at := b.flip - b.at; at >= 0 && at < int64(n) {
		p[at] ^= 0x10
	}
	b.at += int64(n)
	b.count(n)
	return n, err
}

// letters reads as the letter x for ever.
type letters struct{}

func (letters) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}
