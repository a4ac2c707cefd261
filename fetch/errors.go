package fetch

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"oras.land/oras-go/v2/registry/remote/errcode"
)

// A StatusError is an answer of a registry, or of a server that it redirected
// to, that is no success.
type StatusError struct {
	Method, URL string // the URL without its query, which may be signed
	Code        int
	RetryAfter  time.Duration // as asked for by the server; 0 where it did not
	Hint        string        // the registry's code for it, whose credentials it was refused with; "" where neither is known
}

func (e *StatusError) Error() string {
	s := e.answer()
	if e.RetryAfter > 0 {
		s += ", to be asked again in " + e.RetryAfter.Round(time.Second).String()
	}
	return s
}

func (e *StatusError) answer() string {
	s := fmt.Sprintf("%s %s: %d %s", e.Method, e.URL, e.Code, http.StatusText(e.Code))
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

// Is makes a 404 or 410 iofs.ErrNotExist, a 401 or 403 iofs.ErrPermission, a
// 429 syscall.EBUSY, and all others syscall.EIO.
func (e *StatusError) Is(target error) bool {
	switch e.Code {
	case http.StatusNotFound, http.StatusGone:
		return target == iofs.ErrNotExist
	case http.StatusUnauthorized, http.StatusForbidden:
		return target == iofs.ErrPermission
	case http.StatusTooManyRequests:
		return target == syscall.EBUSY
	}
	return target == syscall.EIO
}

// Temporary says whether the same request may succeed a little later.
func (e *StatusError) Temporary() bool {
	return e.Code == http.StatusTooManyRequests || e.Code == http.StatusRequestTimeout || e.Code >= 500 && e.Code != http.StatusNotImplemented
}

// statusError is resp as an error. The body is left alone: it is the
// registry's own words.
func statusError(resp *http.Response) error {
	return &StatusError{Method: resp.Request.Method, URL: bareURL(resp.Request.URL), Code: resp.StatusCode, RetryAfter: retryAfter(resp.Header.Get("Retry-After"), time.Now())}
}

// bareURL is u without its query, which may be signed.
func bareURL(u *url.URL) string {
	bare := *u
	bare.RawQuery, bare.User = "", nil
	return bare.String()
}

// A brokenError is an answer that contradicts the protocol or itself.
type brokenError struct{ what string }

func broken(format string, args ...any) error { return &brokenError{fmt.Sprintf(format, args...)} }

func (e *brokenError) Error() string { return e.what }

// Is makes it syscall.EIO.
func (e *brokenError) Is(target error) bool { return target == syscall.EIO }

// A kindError gives err a kind that its own chain does not bear.
type kindError struct {
	err  error
	kind error
}

func (e *kindError) Error() string        { return e.err.Error() }
func (e *kindError) Unwrap() error        { return e.err }
func (e *kindError) Is(target error) bool { return target == e.kind }

// errNoProgress ends what went without progress for too long.
var errNoProgress = &kindError{errors.New("no progress"), os.ErrDeadlineExceeded}

func errStalled(after time.Duration) error {
	return fmt.Errorf("%w for %v", errNoProgress, after)
}

// kind gives a transport's error the kind that readers see.
func kind(ctx context.Context, err error) error {
	var status *StatusError
	var gate *gateError
	var token *errcode.ErrorResponse
	var dns *net.DNSError
	var timeout net.Error
	var layer *layerError
	switch {
	case errors.As(err, &gate):
		return gate
	case err == nil || errors.As(err, &status):
		return err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &layer):
		return err
	case errors.As(err, &token):
		return tokenError(token)
	case errors.As(err, &dns), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENETUNREACH),
		errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETDOWN), errors.Is(err, errRefusedAddr):
		return &kindError{err, syscall.EHOSTUNREACH}
	case errors.As(err, &timeout) && timeout.Timeout():
		return &kindError{err, os.ErrDeadlineExceeded}
	}
	return err
}

// tokenError gives a token server's answer the kind of the same answer from
// the registry; it knows of no object that could be absent. Its own words are
// left out: they may be those that it was sent.
func tokenError(e *errcode.ErrorResponse) error {
	s := &StatusError{Method: e.Method, URL: "token server", Code: e.StatusCode}
	if e.URL != nil {
		s.URL += " " + e.URL.Scheme + "://" + e.URL.Host
	}
	if s.Is(iofs.ErrNotExist) {
		return broken("%v", s)
	}
	return s
}

// temporary says whether to try again: connections that fail or are cut, and
// the statuses that say so themselves.
func temporary(err error) bool {
	if status, ok := errors.AsType[*StatusError](err); ok {
		return status.Temporary()
	}
	if _, ok := errors.AsType[*slowError](err); ok {
		return true
	}
	_, isBroken := errors.AsType[*brokenError](err)
	_, isSize := errors.AsType[*sizeError](err)
	_, isLayer := errors.AsType[*layerError](err) // which was tried again already
	return !isBroken && !isSize && !isLayer && !errors.Is(err, iofs.ErrPermission) && !errors.Is(err, iofs.ErrNotExist) &&
		!errors.Is(err, context.Canceled) && !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, errRefusedAddr)
}

// oneLine keeps a message from elsewhere on one line and within bounds.
func oneLine(s string) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }), " ")
	if len(s) > 300 {
		s = s[:300] + "…"
	}
	return s
}
