package fetch_test

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"distfs/fetch"
	"distfs/locator"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestMirrorsPatience: with each of two that stall it is a quarter of the
// timeout, so that the third has time left; a good one is asked first again
// half a minute later.
func TestMirrorsPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two, upstream := &fakeRemote{stall: true}, &fakeRemote{stall: true}, &fakeRemote{}
		m := fetch.Mirrors(20*time.Second, one, two, upstream)
		ref := locator.Reference{Locator: locator.Locator{Host: "host.test", Path: "a"}, Tag: "1"}
		resolve := func() time.Duration {
			start := time.Now()
			if _, err := m.Resolve(t.Context(), ref, nil); err != nil {
				t.Fatal(err)
			}
			return time.Since(start)
		}
		if got := resolve(); got != 10*time.Second {
			t.Errorf("an answer after %v, want 10s", got)
		}
		if got := resolve(); got != 0 || one.asked+two.asked != 2 {
			t.Errorf("an answer after %v, %d and %d requests to who stalled before", got, one.asked, two.asked)
		}
		time.Sleep(31 * time.Second)
		one.stall = false
		if got := resolve(); got != 0 || one.asked != 2 || upstream.asked != 2 {
			t.Errorf("an answer after %v, %d requests to the first, %d to the last", got, one.asked, upstream.asked)
		}
	})
}

// TestMirrorsLastResort: who failed is asked last, not never.
func TestMirrorsLastResort(t *testing.T) {
	ref := locator.Reference{Locator: locator.Locator{Host: "host.test", Path: "a"}, Tag: "1"}
	one, upstream := &fakeRemote{err: syscall.ECONNRESET}, &fakeRemote{}
	m := fetch.Mirrors(time.Second, one, upstream)
	if _, err := m.Resolve(t.Context(), ref, nil); err != nil {
		t.Fatal(err)
	}
	one.err, upstream.err = nil, syscall.ECONNREFUSED
	if _, err := m.Resolve(t.Context(), ref, nil); err != nil || one.asked != 2 {
		t.Errorf("Resolve = %v after %d requests to the first", err, one.asked)
	}
}

// TestMirrorsDrip: a byte now and then is no progress where another source
// could be asked. The time that the receiver takes is not the source's.
func TestMirrorsDrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		drips, upstream := &fakeRemote{every: time.Second}, &fakeRemote{}
		m := fetch.Mirrors(30*time.Second, drips, upstream)
		loc := locator.Locator{Host: "host.test", Path: "a"}
		desc := ocispec.Descriptor{Digest: digest.FromString("a"), Size: 1 << 30}
		body, err := m.Get(t.Context(), loc, desc, 0, 1000)
		if err != nil || body.Source != "0" {
			t.Fatalf("Get = %+v, %v, want the first source's", body, err)
		}
		start := time.Now()
		p := make([]byte, 1)
		for err == nil {
			time.Sleep(time.Hour)
			_, err = body.Read(p)
		}
		body.Close()
		if took := time.Since(start) % time.Hour; !errors.Is(err, os.ErrDeadlineExceeded) || took != 11*time.Second {
			t.Errorf("a body that drips ends with %v after %v of waiting, want 11s", err, took)
		}
		if body, err = m.Get(t.Context(), loc, desc, 0, 1000); err != nil || body.Source != "1" {
			t.Fatalf("Get = %+v, %v, want the second source's", body, err)
		}
		if n, err := io.Copy(io.Discard, body); n != 1000 || err != nil {
			t.Errorf("%d bytes, %v of the second source", n, err)
		}
		body.Close()
		time.Sleep(time.Hour)
		if _, err := m.Get(t.Context(), loc, desc, 0, 1000); err != nil || drips.asked != 2 {
			t.Errorf("Get = %v after %d requests to the first source, want a second one", err, drips.asked)
		}
	})
}

// A fakeRemote answers as told, and its bodies are zeros.
type fakeRemote struct {
	fetch.Remote // answers to nothing else
	asked        int
	err          error
	stall        bool
	every        time.Duration // between two bytes
}

func (r *fakeRemote) Resolve(ctx context.Context, _ locator.Reference, _ []string) (ocispec.Descriptor, error) {
	r.asked++
	if r.stall {
		<-ctx.Done()
		return ocispec.Descriptor{}, context.Cause(ctx)
	}
	return ocispec.Descriptor{}, r.err
}

func (r *fakeRemote) Get(_ context.Context, _ locator.Locator, _ ocispec.Descriptor, off, n int64) (*fetch.Body, error) {
	r.asked++
	return &fetch.Body{ReadCloser: io.NopCloser(io.LimitReader(zeros{r.every}, n)), Offset: off, Len: n}, r.err
}

// zeros is as many of them as one likes, one at a time where that takes time.
type zeros struct{ every time.Duration }

func (z zeros) Read(p []byte) (int, error) {
	if z.every > 0 {
		time.Sleep(z.every)
		p = p[:1]
	}
	clear(p)
	return len(p), nil
}
